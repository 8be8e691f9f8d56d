"""The rooms of src/tiltmeter in their order: imports run down, never in a circle, never into another's private file."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator
from pathlib import Path

from tiltmeter.registry import known
from tiltmeter.strategies.base import Role

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tiltmeter"
DOCUMENT = SOURCE.parents[1] / "docs" / "architecture.md"

ROOMS = {  # lowest first: each imports only what stands above it in this list
    "errors": "mistakes with what to do about them",
    "seeds": "one rule for every random draw",
    "registry": "names -> classes: strategies, benchmarks, backends",
    "messages": "every sentence, in English and Chinese",
    "printed": "numbers and text as they are printed",
    "files": "files written whole, YAML read strictly",
    "schema": "what files and documents hold, typed once",
    "models": "a folder -> a model in memory; knows no strategy",
    "scoring": "requests -> answers",
    "analysis": "arrays -> intervals, tests, verdicts; knows no benchmark and no file",
    "datasets": "where the benchmarks' data are, and whether they are genuine",
    "benchmarks": "one file each: data -> items -> requests -> outcomes -> score",
    "strategies": "one file each: how a model is accelerated",
    "variants": "a strategy chain or a ready-made checkpoint -> a variant, with proof",
    "study": "what a run is asked",
    "backends": "one file each: who answers",
    "runs": "the run folder: every answer, kept",
    "decisions": "rows -> findings, gate, choice",
    "results": "a run folder -> the results document",
    "evidence": "a run as a statement that can be signed, verified, reproduced and followed over releases",
    "report": "the document -> a page, and other tools' formats",
    "distributed": "several workers",
    "pipeline": "the way of a study through all of this",
    "plugins": "the door for other packages",
    "demo": "the built-in model and its command",
    "cli": "the commands",
}
ENTRIES = {"tiltmeter", "tiltmeter.__main__"}  # `import tiltmeter`, `python -m tiltmeter`
DOOR = "tiltmeter.plugins"  # hands private helpers of benchmarks and strategies on to plug-ins


def modules() -> dict[str, Path]:
    found = {}
    for path in SOURCE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(("tiltmeter", *parts)).removesuffix(".__init__")
        if not name.startswith("tiltmeter.demo.training"):
            found[name] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Modules of tiltmeter that a file imports: at its top, in functions, and for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tiltmeter":
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in MODULES else str(node.module) for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "tiltmeter"}
    return found


GRAPH = {name: imports(path) - {name} for name, path in MODULES.items()}


def room(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_its_place_in_the_order():
    assert {room(name) for name in MODULES if name not in ENTRIES} == set(ROOMS)


def test_a_first_glance_shows_fewer_than_30_entries():
    seen = [path.name for path in SOURCE.iterdir() if path.name != "__pycache__"]
    assert len(seen) < 30, sorted(seen)


def test_imports_run_down():
    order = {name: place for place, name in enumerate(ROOMS)}
    up = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if not ENTRIES & {name, other} and order[room(other)] > order[room(name)]
    ]
    assert up == []


def test_no_import_circle_not_even_for_types():
    """Kahn's algorithm: what cannot be put in an order is in a circle, or above one."""
    left = {name: {other for other in others if other in GRAPH} for name, others in GRAPH.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    below = {name for name in left if any(name in others for others in left.values())}
    assert below == set()


def test_private_modules_are_imported_from_their_own_package_only():
    crossed = [
        f"{name} imports {other}"
        for name, others in GRAPH.items()
        for other in others
        if other.rpartition(".")[2].startswith("_")
        and other not in ENTRIES
        and name != DOOR
        and not f"{name}.".startswith(f"{other.rpartition('.')[0]}.")
    ]
    assert crossed == []


def test_the_document_lists_the_rooms_in_this_order_with_these_words():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    listed = [line.strip("| ").split(" | ") for line in lines if line.startswith("| `")]
    assert [(name.strip("`"), what) for name, what in listed] == list(ROOMS.items())


def nodes(module: str) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8")))


def compared_with(module: str) -> Iterator[str]:
    """Texts and constants with which a file compares something: ==, !=, in, startswith, removeprefix."""
    for node in nodes(module):
        sides: list[ast.expr] = []
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            sides = list(node.args) if node.func.attr in ("startswith", "endswith", "removeprefix", "partition") else []
        for side in sides:
            for part in ast.walk(side):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value
                elif isinstance(part, ast.Name):
                    yield part.id


WRITTEN = "tiltmeter.schema.place"  # the one file that knows how a strategy is written
DECLARED = "tiltmeter.strategies.base"  # the one file that knows what follows from a declared role

NAMES = {str(cls.name) for cls in known("strategy").values()}  # type: ignore[attr-defined]


def spellings(module: str) -> set[str]:
    """What stands for a strategy where it is compared: names, beginnings of names, and constants that hold them."""
    imported = {
        alias.asname or alias.name
        for node in nodes(module)
        if isinstance(node, ast.ImportFrom) and node.module == WRITTEN
        for alias in node.names
        if alias.name.isupper()
    }
    begun = {f"{name}{sign}" for name in NAMES for sign in ":+"}
    return (NAMES - {"dtype"}) | begun | imported | {"kv", "checkpoint="}  # dtype: a field of variants too


def test_no_strategy_is_recognised_by_its_name():
    """Facts about strategies are declared on their classes, and asked of them. (`models` knows no strategy.)"""
    looked = [name for name in MODULES if name not in ENTRIES and room(name) != "models" and name != WRITTEN]
    found = {f"{name}: {text}" for name in looked for text in spellings(name).intersection(compared_with(name))}
    assert found == {f"{DECLARED}: none"}  # the role


def test_roles_are_read_where_they_are_declared():
    roles = set(typing.get_args(Role))
    found = {
        module
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == "role"
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and part.value in roles
    }
    assert found == {DECLARED}


def test_nothing_is_asked_for_its_shape():
    calls = {
        module
        for module in MODULES
        for node in nodes(module)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hasattr"
    }
    assert calls == set()

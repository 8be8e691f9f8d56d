"""The notebook runs from top to bottom, holds no outputs, and says what its cells show."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[2] / "examples" / "first_run.ipynb"


def executed(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The names after all code cells; a last expression is shown, as a notebook does, by its repr."""
    names: dict[str, Any] = {}
    for cell in cells:
        tree = ast.parse("".join(cell["source"]))
        if tree.body and isinstance(last := tree.body[-1], ast.Expr):
            show = ast.Call(ast.Name("repr", ast.Load()), [last.value], [])
            tree.body[-1] = ast.copy_location(ast.Expr(show), last)
        exec(compile(ast.fix_missing_locations(tree), str(NOTEBOOK), "exec"), names)  # our own file
    return names


def test_the_notebook_runs_and_is_stored_without_outputs(capsys):
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    names = executed(code)
    assert set(names["result"].rows["strategy"]) == {"none", "magnitude", "rerun"}
    assert len(names["turned"]) > 0
    assert {line.split(" · ")[0] for line in capsys.readouterr().out.splitlines() if " · " in line} >= {"rerun"}
    assert names["gate"].exit_code in (1, 3)

"""What `pip install tiltmeter` brings: no library that compresses, and none twice; every extra that messages name."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
COMPRESSES = {
    "bitsandbytes", "hqq", "optimum-quanto", "gguf", "llmcompressor", "compressed-tensors", "llama-cpp-python",
}  # fmt: skip


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", requirement)[0] for requirement in requirements}


def test_the_core_brings_no_compression_library():
    assert not names(PROJECT["dependencies"]) & COMPRESSES


WITHOUT_EXTRAS = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1:]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from tiltmeter.registry import FOLDERS, known
print(*(len(known(kind)) > 3 for kind in FOLDERS))
from tiltmeter.cli.commands import main
main(["speed", "http://127.0.0.1:9/v1"])
"""


def test_without_any_extra_everything_is_listed_and_a_served_model_ends_with_what_to_type():
    absent = {
        "bitsandbytes", "hqq", "optimum", "gguf", "llmcompressor", "compressed_tensors", "llama_cpp", "torchao",
        "lm_eval", "aiohttp", "tenacity", "yarl", "ray", "mlflow", "lightning", "vllm", "sglang",
    }  # fmt: skip
    done = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS, *absent], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"] * 3, done.stderr
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_every_compression_library_is_in_an_extra_of_its_job_and_all_but_an_engine_in_compress():
    direct = {extra: names(listed) for extra, listed in EXTRAS.items()}
    inside = re.findall(r"tiltmeter\[([\w,-]+)\]", " ".join(EXTRAS["compress"]))
    everything = direct["compress"] | {name for extra in ",".join(inside).split(",") for name in direct[extra]}
    assert everything >= COMPRESSES - {"llama-cpp-python"}
    assert set().union(*direct.values()) >= COMPRESSES


def test_every_extra_that_a_message_or_a_page_names_exists():
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*.md"), ROOT / "action.yml"]
    named = set()
    for path in files:
        text = path.read_text(encoding="utf-8")
        named |= {extra for found in re.findall(r"tiltmeter\\*\[([\w,-]+)\]", text) for extra in found.split(",")}
        named |= set(re.findall(r'missing_extra\([^)]*?, "([\w-]+)",', text))
    assert named and named <= EXTRAS.keys(), named - EXTRAS.keys()


def test_all_that_is_listed_is_held_by_the_constraints():
    """A package that no line fixes would make another environment than the one the numbers were measured in."""
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    fixed = {line.split("==")[0].lower().replace("_", "-") for line in pinned.splitlines() if "==" in line}
    listed = names(PROJECT["dependencies"]).union(*(names(extra) for extra in EXTRAS.values())) - {"tiltmeter"}
    own_environment = {"llama-cpp-python"}
    assert {name.lower().replace("_", "-") for name in listed - own_environment} <= fixed


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_the_lock_holds_the_versions_of_the_constraints_each_with_a_hash():
    """`make lock` writes it anew where this fails. (setuptools is in no list: pip brings it.)"""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    fixed = {normal(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8").partition("\n")[2].strip()
    entries = re.split(r"\n(?=\S)", text)
    locked = {normal(entry.split("==")[0]): entry.split(" \\")[0].split("==")[1] for entry in entries}
    assert all("--hash=sha256:" in entry for entry in entries)
    assert {name: fixed[name] for name in locked if name != "setuptools"} == {
        name: version for name, version in locked.items() if name != "setuptools"
    }
    assert {normal(name) for name in names(PROJECT["dependencies"])} - {"torch"} <= locked.keys()

"""The command line as a person meets it: help is quick, mistakes end with a fix and status 2."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tiltmeter.cli.commands import main
from tiltmeter.results.computed import recomputed


def call(capsys, *arguments):
    """(exit status, stdout, stderr) of one command."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


HEAVY = {"torch", "transformers", "ray", "hqq", "scipy", "sklearn", "pandas", "statsmodels", "altair"}


def status_and_imports(*command, heavy=frozenset(HEAVY)):
    """Exit status of a command in a process of its own, and what it imported of what takes long."""
    code = (
        f"import sys; sys.argv = ['tiltmeter', *{[str(word) for word in command]!r}]\n"
        "from tiltmeter.cli import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    status = stop.code\n"
        f"print(status or 0, *sorted({set(heavy)!r} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    status, *imported = done.stderr.strip().splitlines()[-1].split()
    return int(status), imported


@pytest.mark.parametrize("command", [["--help"], ["list"], ["run", "--help"], ["data", "list"]], ids=" ".join)
def test_help_and_lists_import_nothing_that_takes_long(command):
    assert status_and_imports(*command) == (0, [])


STATISTICS = {"numpy", "httpx", "tiltmeter.analysis", "tiltmeter.benchmarks.base", "tiltmeter.results.changes"}


@pytest.mark.parametrize(("command", "status"), [("results", 0), ("gate", 3)])
def test_reading_a_finished_run_imports_nothing_that_takes_long(command, status, tmp_path):
    """Seconds depend on the machine, names do not. `python -m benchmarks.fixed` prints the seconds."""
    run = shutil.copytree(Path(__file__).parents[1] / "results" / "run_before_the_schema", tmp_path / "run")
    os.utime(run / "results.json")  # no answer is younger, so nothing is computed
    assert status_and_imports(command, run) == (status, [])
    recomputed(run)  # from here on the document says what it was made from: no statistics are needed to trust it
    assert status_and_imports(command, run, heavy=HEAVY | STATISTICS) == (status, [])


def test_models_are_read_without_what_transformers_takes_along(tmp_path):
    """hqq, scikit-learn and scipy are imported at sight where they are installed; transformers finds them afterwards.
    Of two boxes, each is matched with the one that costs less."""
    code = (
        "import sys\n"
        "from tiltmeter.models.library import import_hqq, import_models\n"
        "import_models()\n"
        "from transformers import LlamaForCausalLM, cache_utils\n"
        "print(*{'hqq', 'sklearn', 'pandas', 'scipy.optimize'} & set(sys.modules))\n"
        "import_hqq()\n"
        "print(cache_utils.HQQQuantizer.__module__, cache_utils.is_hqq_available())\n"
        "from transformers.loss import loss_for_object_detection as boxes\n"
        "print(*boxes.linear_sum_assignment([[5, 1], [1, 5]])[1], boxes.is_scipy_available())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["", "hqq.core.quantize True", "1 0 True"]


def test_what_a_library_says_while_transformers_takes_it_along_does_not_reach_the_user(tmp_path):
    """torchao, where it is installed, reports every GPU library that a CPU machine lacks."""
    support = "flatten_tensor_state_dict = unflatten_tensor_state_dict = is_metadata_torchao = None\n"
    for name, content in {
        "torchao/__init__.py": "import logging, sys\nprint('noise')\nlogging.getLogger('torchao').warning('noise')\n",
        "torchao/prototype/safetensors/safetensors_support.py": support,
        "torchao/prototype/safetensors/safetensors_utils.py": support,
        "torchao-0.18.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: torchao\nVersion: 0.18.0\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    code = "import sys; from tiltmeter.models.library import import_models as do; do(); print('torchao' in sys.modules)"
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=where)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_the_version_printed_is_the_installed_one(capsys):
    status, out, _ = call(capsys, "--version")
    assert (status, out) == (0, f"tiltmeter {version('tiltmeter')}\n")


def test_list_names_every_strategy_and_benchmark_with_its_source(capsys):
    status, out, _ = call(capsys, "list")
    assert status == 0
    for name in ("int8", "int4", "kv4", "rerun", "dtype", "crows-pairs", "worldbench", "discrim-eval-gen"):
        assert name in out


@pytest.mark.parametrize(
    ("arguments", "message", "fix"),
    [
        (["run", "m", "-s", "itn8", "--out", "OUT"], "no strategy called 'itn8'", "int8"),
        (["run", "m", "-b", "crowspairs", "--out", "OUT"], "no benchmark called 'crowspairs'", "crows-pairs"),
        (
            ["run", "./nowhere", "-b", "crows-pairs", "--data", "EMPTY", "--out", "OUT"],
            "data of crows-pairs",
            "tiltmeter data fetch crows-pairs",
        ),
        (["results", "EMPTY"], "not a run folder", "--out"),
        (["report", "EMPTY"], "not a run folder", "--out"),
        (["run", "m", "--batch-tokens", "many", "--out", "OUT"], "--batch-tokens", "auto"),
        (["run", "missing.yaml", "--out", "OUT"], "cannot read the study file", ""),
        (["list", "models"], "no list of 'models'", "benchmarks"),
    ],
)
def test_mistakes_end_with_status_2_a_fix_and_no_traceback(capsys, tmp_path, arguments, message, fix):
    (tmp_path / "empty").mkdir()
    places = {"OUT": str(tmp_path / "out"), "EMPTY": str(tmp_path / "empty")}
    status, _, err = call(capsys, *(places.get(argument, argument) for argument in arguments))
    assert status == 2
    assert message in err and fix in err and "Traceback" not in err


def test_model_mistakes_are_told_before_anything_is_computed(capsys, tmp_path, shared):
    data = ["--data", str(shared / "data"), "-b", "crows-pairs", "--limit", "4", "--out", str(tmp_path / "run")]
    status, _, err = call(capsys, "run", str(tmp_path / "nowhere"), *data)
    assert status == 2 and "no model folder" in err
    status, _, err = call(
        capsys,
        "run",
        str(shared / "models" / "stories260k"),
        "--format",
        "chat",
        "--data",
        str(shared / "data"),
        "-b",
        "discrim-eval",
        "--out",
        str(tmp_path / "run"),
    )
    assert status == 2 and "chat template" in err and "--format plain" in err
    status, _, err = call(capsys, "run", str(shared / "models" / "stories260k"), "--device", "cuda", *data)
    assert status == 2 and "GPU" in err

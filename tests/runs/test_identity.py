"""What belongs to weights, dtype or text is never shown beside others: the facts of a variant have a key."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tiltmeter.errors import UserError
from tiltmeter.pipeline import run
from tiltmeter.results.document import read_results
from tiltmeter.runs import text_quality
from tiltmeter.study import make_study


@pytest.fixture
def model(stories: str, tmp_path: Path) -> Path:
    shutil.copytree(stories, tmp_path / "m")
    (tmp_path / "m").chmod(0o755)
    for file in (tmp_path / "m").iterdir():
        file.chmod(0o644)
    return tmp_path / "m"


def measured(shared: Path, model: Path, out: Path, **settings):
    """(perplexity, weight hash, dtype) of the base in the results of one start."""
    study = make_study(
        models=[str(model)], benchmarks=["crows-pairs"], data=str(shared / "data"), limit=4, draws=100, **settings
    )
    run(study, out)
    [facts] = read_results(out)["variants"]
    return facts["text_quality"]["perplexity"], facts["weight_hash"], facts["dtype"]


def disturb(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    generator = torch.Generator().manual_seed(3)
    for name, tensor in tensors.items():
        if tensor.ndim == 2:
            tensors[name] = tensor + 0.3 * tensor.std() * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, model / "model.safetensors", metadata={"format": "pt"})


def test_perplexity_follows_the_weights_the_dtype_and_the_text(shared, model, tmp_path):
    out, text = tmp_path / "run", tmp_path / "t.txt"
    text.write_text("Zebra quantum furniture sings loudly under purple algebra tonight.\n")
    settings = [{}, {"dtype": "bfloat16"}, {"text": str(text)}]
    first = [measured(shared, model, out, **each) for each in settings]
    assert len(set(first)) == 3
    text.write_text("Once upon a time there was a little girl who lived near the forest.\n")
    assert measured(shared, model, out, text=str(text)) != first[2]
    disturb(model)
    second = measured(shared, model, out)
    fresh = measured(shared, model, tmp_path / "fresh")
    assert second[0] == pytest.approx(fresh[0], rel=1e-5)  # batches of another budget round in another order
    assert second[1:] == fresh[1:]
    assert second[0] > 1.2 * first[0][0]
    assert second[1] != first[0][1]


def test_two_folders_of_the_same_weights_are_named_and_no_row_is_lost(shared, model, tmp_path):
    shutil.copytree(model, tmp_path / "twin" / "m")
    study = make_study(
        models=[str(model), str(tmp_path / "twin" / "m")],
        benchmarks=["crows-pairs"],
        data=str(shared / "data"),
        limit=4,
    )
    with pytest.raises(UserError, match="hold the same weights"):
        run(study, tmp_path / "run")
    assert not list((tmp_path / "run").glob("cells/*"))


def test_an_error_of_any_type_in_text_quality_costs_nothing_else(shared, model, tmp_path, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("no such luck")

    monkeypatch.setattr(text_quality, "_log_likelihoods", broken)
    study = make_study(models=[str(model)], benchmarks=["crows-pairs"], data=str(shared / "data"), limit=4, draws=100)
    summary = run(study, tmp_path / "run")
    assert [failure.reason for failure in summary.failures] == ["text quality: ZeroDivisionError: no such luck"]
    assert [row["complete"] for row in read_results(tmp_path / "run")["rows"]] == [True]


def test_all_mistakes_of_a_command_are_named_at_once(shared, model, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(model, bad)
    (bad / "config.json").write_text(json.dumps(json.loads((bad / "config.json").read_text()) | {"vocab_size": 1000}))
    study = make_study(
        models=[str(model)],
        checkpoints=[str(bad), str(tmp_path / "absent")],
        strategies=["drop-layers:n=99"],
        benchmarks=["crows-pairs"],
        data=str(shared / "data"),
        limit=4,
    )
    with pytest.raises(UserError) as caught:
        run(study, tmp_path / "run")
    text = str(caught.value)
    assert text.startswith("3 things cannot work:")
    assert "2048 entries, the model 1000" in text
    assert "absent" in text
    assert "n=99 of" in text
    assert text.count("Fix:") == 3

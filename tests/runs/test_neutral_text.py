"""Perplexity of a real model is measured on general prose, that of the built-in world on the world's own text."""

from importlib.resources import files
from pathlib import Path

import pytest

from tiltmeter.errors import UserError
from tiltmeter.runs.text_quality import PASSAGES, default_text, passages, text_key
from tiltmeter.study import make_study

WORLD = Path(str(files("tiltmeter.demo"))) / "data"


def test_the_world_has_its_text_and_every_other_data_set_the_neutral_one(tmp_path):
    assert default_text(str(WORLD)) == WORLD / "text" / "heldout.txt"
    assert default_text(str(tmp_path)) == default_text("~/.cache/tiltmeter/data")
    assert default_text(str(tmp_path)).name == "neutral.txt"


def test_the_neutral_text_is_prose_of_its_own_that_no_passage_is_cut_from(tmp_path):
    text = default_text(str(tmp_path))
    found = passages(text, seed=0)
    assert len(found) == len(text.read_text(encoding="utf-8").split("\n\n")) == 32 <= PASSAGES
    assert all(passage.endswith(".") for passage in found)  # whole, not cut at the length of a passage
    assert len({passage.split()[0] + passage.split()[1] for passage in found}) > 25
    assert len({word for passage in found for word in passage.lower().split()}) > 700
    world = set((WORLD / "text" / "heldout.txt").read_text(encoding="utf-8").split("\n\n"))
    assert not world & set(found)


def test_the_text_is_part_of_what_a_perplexity_belongs_to(tmp_path):
    study = make_study(models=["m"], benchmarks=["crows-pairs"])
    keys = {text_key(study.model_copy(update={"data": data})) for data in (str(WORLD), str(tmp_path))}
    assert len(keys) == 2
    with pytest.raises(UserError, match="there is no text file"):
        text_key(study.model_copy(update={"text": str(tmp_path / "absent.txt")}))

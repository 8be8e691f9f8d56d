import pytest

from tiltmeter.errors import UserError
from tiltmeter.seeds import seed_for
from tiltmeter.strategies.chain import parse
from tiltmeter.study import make_study, read_study


def test_variants_are_the_base_first_and_each_canonical_strategy_once():
    study = make_study(models=["m1", "m2"], strategies=["INT8", "int8", "dtype:bfloat16"])
    assert [(v.model, v.strategy) for v in study.variants()] == [
        ("m1", "none"),
        ("m1", "int8"),
        ("m1", "dtype:bfloat16"),
        ("m2", "none"),
        ("m2", "int8"),
        ("m2", "dtype:bfloat16"),
    ]


def test_a_wrong_key_in_a_study_file_names_the_nearest_right_one(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("models: [m]\nstrategy: [int8]\n")
    with pytest.raises(UserError, match="no setting called 'strategy'") as error:
        read_study(path)
    assert "strategies" in error.value.fix


def test_command_line_options_win_over_the_study_file(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("models: m\nlimit: 50\nmargins: {crows-pairs: 3}\n")
    study = read_study(path, limit=20)
    assert (study.models, study.limit, study.margins) == (("m",), 20, {"crows-pairs": 3.0})


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"models": []}, "at least one model"),
        ({"models": ["m"], "limit": 0}, "limit"),
        ({"models": ["m"], "margins": {"crows-pairs": -1}}, "above 0"),
        ({"models": ["a", "b"], "checkpoints": ["c"]}, "exactly one base model"),
        ({"models": ["m"], "format": "xml"}, "format"),
    ],
)
def test_impossible_settings_are_refused_with_what_was_given(settings, words):
    with pytest.raises(UserError, match=words):
        make_study(**settings)


def test_unknown_names_are_refused_with_the_nearest_one():
    with pytest.raises(UserError, match="no benchmark called 'crow-pairs'") as error:
        make_study(models=["m"], benchmarks=["crow-pairs"]).benchmark_names()
    assert "crows-pairs" in error.value.fix
    with pytest.raises(UserError, match="no strategy called 'itn8'"):
        make_study(models=["m"], strategies=["itn8"]).variants()


def test_a_strategy_without_a_seed_is_not_repeated_under_calibration_seeds():
    assert [chain.canonical for chain in parse("int8").replicates(3)] == ["int8"]


def test_seeds_depend_on_what_they_are_for_and_nothing_else():
    assert seed_for(0, "sample", "q1", 3) == seed_for(0, "sample", "q1", 3)
    assert seed_for(1, "23") != seed_for(12, "3")  # parts are separated
    assert 0 <= seed_for("x") < 2**63

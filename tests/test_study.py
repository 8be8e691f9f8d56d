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
        ({"models": ["m"], "limit": True}, "limit"),
        ({"models": ["m"], "limit": 4.0}, "limit"),
        ({"models": ["m"], "limit": "4"}, "limit"),
        ({"models": ["m"], "limit": 10**400}, "limit"),
        ({"models": ["m"], "limits": {"crows-pairs": -3}}, "limits.crows-pairs"),
        ({"models": ["m"], "limits": {"crows-pairs": 0}}, "limits.crows-pairs"),
        ({"models": ["m"], "samples": 0}, "samples"),
        ({"models": ["m"], "samples": True}, "samples"),
        ({"models": ["m"], "seed": True}, "seed"),
        ({"models": ["m"], "seed": -1}, "seed"),
        ({"models": ["m"], "draws": False}, "draws"),
        ({"models": ["m"], "robust": "yes"}, "robust"),
        ({"models": ["m"], "margins": {"crows-pairs": float("inf")}}, "margins.crows-pairs"),
        ({"models": ["m"], "margins": {"crows-pairs": float("nan")}}, "margins.crows-pairs"),
        ({"models": ["m"], "margins": {"crows-pairs": True}}, "margins.crows-pairs"),
        ({"models": [""]}, "models"),
        ({"models": ["m"], "margins": {"crows-pairs": -1}}, "greater than 0"),
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("models: [m]\nlimit: 4\nlimit: 5\n", "'limit' stands twice, in lines 2 and 3"),
        ("models: [m]\nmargins: {crows-pairs: 1, crows-pairs: 2}\n", "'crows-pairs' stands twice"),
        ("models: [m]\nmargins: {crows-pairs: .inf}\n", "margins.crows-pairs"),
        ("models: [m]\nmargins: {crows-pairs: .nan}\n", "margins.crows-pairs"),
        ("models: [m]\nlimit: true\n", "limit"),
        ("models: [m]\nlimits: {x: -3}\n", "limits.x"),
        ("models: [m]\nseed: 2026-13-45\n", "cannot read the study file"),
        ("models: [m]\nyes: 1\n", "no setting called True"),
        ("models: [m]\n? [a]\n: 1\n", "cannot read the study file"),
        ("models: [m]\n<<: {limit: 4}\n", "merge keys"),
        ("a: &a [*a]\n", "recursive"),
        ("a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]\n", "aliases"),
        ("[" * 5000, "cannot read the study file"),
        ("models: [m\n", "cannot read the study file"),
        ("models: \x00\n", "cannot read the study file"),
        ("!!python/object/apply:os.system [ls]", "cannot read the study file"),
        ("models: [m]\nseed: !!int x\n", "cannot read the study file"),
        ("x" * (2**20 + 1), "longer than"),
        ("- 1\n", "key: value"),
    ],
)  # fmt: skip
def test_a_study_file_says_everything_once_and_plainly(tmp_path, content, words):
    path = tmp_path / "study.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        read_study(path)
    assert words in caught.value.message and len(caught.value.message) < 600


def test_a_zero_on_the_command_line_is_a_zero_and_not_an_option_left_out(tmp_path):
    from tiltmeter.cli.options import study_settings

    given = {"seed": 0, "limit": 0, "samples": 0, "strategy": [], "robust": None, "batch_tokens": "auto"}
    assert study_settings(given) == {"seed": 0, "limit": 0, "samples": 0}
    path = tmp_path / "study.yaml"
    path.write_text("models: [m]\nseed: 7\n")
    assert read_study(path, **study_settings({"seed": 0})).seed == 0
    with pytest.raises(UserError, match="limit"):
        read_study(path, **study_settings({"limit": 0}))

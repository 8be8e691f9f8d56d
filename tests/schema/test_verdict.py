"""One table of verdicts and one address of a row."""

from tiltmeter.schema import Place, Verdict
from tiltmeter.schema.verdict import worst


def test_a_verdict_is_its_text_and_has_a_sign_of_its_own():
    assert Verdict("worse") is Verdict.WORSE and f"{Verdict.NOT_EXERCISED}" == "not exercised"
    assert len({v.sign for v in Verdict}) == len({v.ascii for v in Verdict}) == len({v.colour for v in Verdict}) == 7
    assert all(v.ascii.isascii() for v in Verdict)


def test_worse_stands_before_shifted_before_better():
    assert worst([Verdict.BETTER, Verdict.SHIFTED, Verdict.EQUIVALENT]) is Verdict.SHIFTED
    assert worst([Verdict.SHIFTED, Verdict.WORSE]) is Verdict.WORSE and worst([]) is None
    assert [v for v in Verdict if v.harmful] == [Verdict.WORSE, Verdict.SHIFTED]


def test_a_row_knows_the_row_it_is_compared_with():
    place = Place("m", "int4+rerun", "chat", "greedy", "crows-pairs")
    assert place.base == Place("m", "none", "chat", "greedy", "crows-pairs") and place.base.is_base
    assert not place.is_base and str(place) == "m · int4+rerun · crows-pairs, chat, greedy"

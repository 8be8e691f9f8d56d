"""Judge the rows of a run by a policy. A gate that could not be evaluated never passes.

The study is the plan: what it asked for and the run does not hold is named, and not judged. Exit status: 0 every limit
holds, 1 a limit is broken, 3 it could not be judged (a cell is missing, failed, partial or without usable signal; not
exercised where the policy names the cell, or in every cell of a variant; inconclusive where harm is not bounded); 1
beats 3. (2 is a mistake in the policy.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal
from xml.etree import ElementTree

from tiltmeter.decisions.policy import Limits, Policy
from tiltmeter.messages import Message, Text, join, named, say, told
from tiltmeter.printed import github, xml
from tiltmeter.schema import Change, Document, Failure, Group, Row, Verdict
from tiltmeter.schema.place import NONE, is_base

Status = Literal["pass", "fail", "unjudged"]


@dataclass(frozen=True)
class Check:
    """One rule held against one cell."""

    cell: Text  # "model · strategy · benchmark, plain, greedy"
    rule: str  # "verdict", "max_flips" ...
    status: Status
    message: Text

    @property
    def rule_words(self) -> Text:
        """The rule as it is read; a key of the policy stays as it is written there."""
        kind, _, name = self.rule.partition(" ")
        return say("gate.groups", name=name) if name else named("gate_rule", kind)

    @property
    def line(self) -> Message:
        """All of it but the status."""
        return join("join.colon", [self.cell, self.rule_words, self.message])


@dataclass(frozen=True)
class Gate:
    checks: tuple[Check, ...]
    complete_with: str = ""  # what to type so that more can be judged; "" where the run holds all that was asked

    @property
    def exit_code(self) -> int:
        found = {check.status for check in self.checks}
        return 1 if "fail" in found else 3 if "unjudged" in found or not self.checks else 0

    @property
    def summary(self) -> Message:
        count = {name: sum(check.status == name for check in self.checks) for name in ("pass", "fail", "unjudged")}
        verdict = say(f"gate.{self.exit_code}")
        found = say(
            "gate.counts", verdict=verdict, holds=count["pass"], broken=count["fail"], unjudged=count["unjudged"]
        )
        if self.exit_code != 3 or not self.complete_with:
            return found
        return join("join.sentences", [found, say("gate.complete", command=self.complete_with)])


def evaluate(document: Document, policy: Policy) -> Gate:
    """Every limit of the policy against every variant the study asked for; what is not there is not judged."""
    rows, run = document.rows, document.run
    asked = document.asked
    variants = [each for each in asked if not is_base(each[1]) and not policy.ignores(each[1])]
    checks = [check for model in dict.fromkeys(model for model, _ in asked) for check in lacking(document, model, NONE)]
    for model, strategy in variants:
        checks += variant_checks(document, policy, model, strategy)
    judged = [row for row in rows if (row.model, row.strategy) in variants]
    for rule in policy.cells:
        if not any(rule.fits(row.place) for row in judged):
            name = f"{rule.strategy} · {rule.benchmark}"
            checks.append(Check(name, "present", "unjudged", say("gate_why.no_such_row")))
    if not variants:
        checks.append(Check(say("gate_why.run"), "present", "unjudged", say("gate_why.no_variant")))
    incomplete = run.missing or run.failures
    return Gate(tuple(checks), run.command if incomplete else run.command_for_all)


def variant_checks(document: Document, policy: Policy, model: str, strategy: str) -> list[Check]:
    """All checks of one variant: its rows, and what it lacks."""
    rows = [row for row in document.rows if (row.model, row.strategy) == (model, strategy)]
    checks = lacking(document, model, strategy)
    for name in policy.benchmarks:
        if not any(row.benchmark == name for row in rows):
            cell = f"{model} · {strategy} · {name}"
            checks.append(Check(cell, "present", "unjudged", say("gate_why.no_row")))
    for row in rows:
        checks += row_checks(row, policy)
    if rows and all(row.verdict is Verdict.NOT_EXERCISED for row in rows):
        checks.append(Check(f"{model} · {strategy}", "exercised", "unjudged", say("gate_why.nothing_learned")))
    return checks


def lacking(document: Document, model: str, strategy: str) -> list[Check]:
    """What a variant's study asked for and the run does not hold, and what went wrong besides."""
    run = document.run
    absent = [each for each in run.missing if (each.model, each.strategy) == (model, strategy)]
    checks = [Check(str(each.place), "finished", "unjudged", each.reason) for each in absent]
    for failure in run.failures:
        mine = (failure.model, failure.strategy) == (model, strategy)
        if mine and not any(failure.concerns(each.place) for each in absent):
            checks += _failed(failure)
    return checks


def row_checks(row: Row, policy: Policy) -> list[Check]:
    """All checks of one variant row."""
    limits, change, cell = policy.limits(row.place), row.change, str(row.place)
    if not row.complete:
        return [Check(cell, "finished", "unjudged", say("gate_why.not_finished"))]
    if row.partial and not limits.allow_partial:
        return [Check(cell, "whole", "unjudged", say("gate_why.partial"))]
    if not change:
        return [Check(cell, "verdict", "unjudged", row.reason or say("gate_why.no_base"))]
    if change.verdict is Verdict.NOT_EXERCISED:
        status: Status = "unjudged" if policy.names(row.place) else "pass"
        return [Check(cell, "verdict", status, change.reason)]
    checks = [_verdict_check(cell, change, limits), *_answered_check(cell, change, limits)]
    checks += [Check(cell, rule, status, message) for rule, status, message in _amounts(row, change, limits)]
    return checks


def _verdict_check(cell: str, change: Change, limits: Limits) -> Check:
    status, message = _bounded(change.verdict, _verdict_words(change.verdict, change.reason), change.far, limits)
    return Check(cell, "verdict", status, message)


def _answered_check(cell: str, change: Change, limits: Limits) -> list[Check]:
    """Who is answered is a finding of its own: fewer people (worse), other people (shifted), or not known."""
    who = change.unanswered
    if who is None or who.verdict in (Verdict.EQUIVALENT, Verdict.BETTER) or change.verdict is Verdict.NO_USABLE_SIGNAL:
        return []
    words = _verdict_words(who.verdict, who.verdict_reason)
    return [Check(cell, "answered", *_bounded(who.verdict, words, who.far, limits))]


def _verdict_words(verdict: Verdict, reason: Text) -> Message:
    return join("join.colon", [named("verdict", str(verdict)), reason])


def _bounded(verdict: Verdict, message: Text, far: float, limits: Limits) -> tuple[Status, Text]:
    """What the policy says of a verdict; an inconclusive one passes only where harm beyond its bound is excluded."""
    status = _verdict_status(verdict, limits)
    if verdict is not Verdict.INCONCLUSIVE or status != "pass":
        return status, message
    if math.isnan(far):
        return "unjudged", join("join.sentences", [message, say("gate_why.unbounded")])
    enough = far <= limits.exclude_harm_beyond
    key = "gate_why.but" if enough else "gate_why.only"
    bound = say(key, far=f"{far:.2g}", limit=f"{limits.exclude_harm_beyond:g}")
    return "pass" if enough else "unjudged", join("join.sentences", [message, bound])


def _failed(failure: Failure) -> Iterator[Check]:
    """One check per cell that could not be computed, with the reason it gave."""
    cells: tuple[Text, ...] = (say("gate_why.every_cell"),) if failure.cells == "all" else failure.cells
    for cell in cells:
        name = join("join.dots", [failure.model, failure.strategy, cell])
        yield Check(name, "finished", "unjudged", say("gate_why.failed", reason=failure.reason))


def _verdict_status(verdict: Verdict, limits: Limits) -> Status:
    if verdict is Verdict.WORSE:
        return "fail"
    if verdict is Verdict.SHIFTED:
        return limits.shifted if limits.require == "not-worse" else "fail"  # type: ignore[return-value]
    if verdict is Verdict.EQUIVALENT:
        return "pass"
    if verdict is Verdict.BETTER:
        return limits.better if limits.require == "equivalent" else "pass"  # type: ignore[return-value]
    if verdict is Verdict.NO_USABLE_SIGNAL:
        return limits.no_usable_signal  # type: ignore[return-value]
    return limits.when_inconclusive  # type: ignore[return-value]


def _amounts(row: Row, change: Change, limits: Limits) -> Iterator[tuple[str, Status, Text]]:
    """(rule, status, message) of the limits on sizes."""
    flips, nan = change.flips, math.nan
    turned = flips.n / flips.of if flips and flips.of else nan
    toward = flips.toward_bias / flips.of if flips and flips.of else nan
    unscored = 1 - row.n_scored / row.n_items if row.n_items else nan
    measured = (
        ("max_rise", limits.max_rise, change.distance_delta, f"{change.distance_delta:+.3g}"),
        ("max_flips", limits.max_flips, turned, f"{turned:.1%}"),
        ("max_toward_bias", limits.max_toward_bias, toward, f"{toward:.1%}"),
        ("max_unscored", limits.max_unscored, unscored, f"{unscored:.1%}"),
    )
    for rule, limit, value, printed in measured:
        if limit is None:
            continue
        if math.isnan(value):
            yield rule, "unjudged", say("gate_why.no_number")
        else:
            words = say(f"gate_why.{rule}", x=printed, limit=f"{limit:g}")
            yield rule, "fail" if value > limit else "pass", words
    yield from _group_checks(row, limits)


def _group_checks(row: Row, limits: Limits) -> Iterator[tuple[str, Status, Text]]:
    groups = {f"{group.attribute}={group.group}": group for group in row.groups}
    for name, limit in limits.groups.items():
        if name not in groups:
            yield f"groups {name}", "unjudged", say("gate_why.no_group")
        else:
            yield _one_group(name, groups[name], limit)
    if limits.max_group_change is not None:
        for name, group in groups.items():
            if name not in limits.groups and not math.isnan(group.delta):
                yield _one_group(name, group, limits.max_group_change)


def _one_group(name: str, group: Group, limit: float) -> tuple[str, Status, Text]:
    delta, ci = group.delta, group.ci
    if math.isnan(delta) or ci is None:
        return f"groups {name}", "unjudged", say("gate_why.no_interval")
    certain = ci[0] > 0 or ci[1] < 0
    status: Status = "fail" if abs(delta) > limit and certain else "pass"
    key = "group" if certain or abs(delta) <= limit else "group_chance"
    words = say(f"gate_why.{key}", x=f"{delta:+.3g}", low=f"{ci[0]:.3g}", high=f"{ci[1]:.3g}", limit=f"{limit:g}")
    return f"groups {name}", status, words


def as_json(gate: Gate) -> Mapping[str, object]:
    """The gate's answer as a document, in English."""
    return {
        "schema": "tiltmeter/gate/1",
        "exit_code": gate.exit_code,
        "summary": str(gate.summary),
        "complete_with": gate.complete_with or None,
        "checks": [
            {"cell": str(c.cell), "rule": c.rule, "status": c.status, "message": str(c.message)} for c in gate.checks
        ],
    }


def junit_xml(gate: Gate, lang: str = "en") -> str:
    """One test case per check; broken limits are failures, unjudged ones errors. Text is escaped by the XML writer."""
    count = {status: sum(check.status == status for check in gate.checks) for status in ("fail", "unjudged")}
    suite = ElementTree.Element(
        "testsuite",
        name="tiltmeter gate",
        tests=str(len(gate.checks)),
        failures=str(count["fail"]),
        errors=str(count["unjudged"]),
    )
    for check in gate.checks:
        names = {"classname": xml(told(check.cell, lang)), "name": xml(told(check.rule_words, lang))}
        case = ElementTree.SubElement(suite, "testcase", names)
        if check.status != "pass":
            kind = "failure" if check.status == "fail" else "error"
            ElementTree.SubElement(case, kind, message=xml(told(check.message, lang)))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def github_annotations(gate: Gate, lang: str = "en") -> str:
    """One workflow command per check that does not pass; newlines and % are escaped as the runner asks."""
    level = {"fail": "error", "unjudged": "warning"}
    return "\n".join(
        f"::{level[check.status]} title={github(_title(check, lang), in_property=True)}::"
        f"{github(told(check.message, lang))}"
        for check in gate.checks
        if check.status != "pass"
    )


def _title(check: Check, lang: str) -> str:
    return join("join.colon", [check.cell, check.rule_words]).text(lang)

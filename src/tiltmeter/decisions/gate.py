"""Judge the rows of a run by a policy. A gate that could not be evaluated never passes.

The study is the plan: what it asked for and the run does not hold is named, and not judged. Exit status: 0 every limit
holds, 1 a limit is broken, 3 it could not be judged (a cell is missing, failed, partial or without usable signal; not
exercised where the policy names the cell, or in every cell of a variant; inconclusive where harm is not bounded); 1
beats 3. (2 is a mistake in the policy.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from xml.etree import ElementTree

from tiltmeter.decisions.policy import Limits, Policy
from tiltmeter.printed import github, xml
from tiltmeter.schema import Change, Document, Failure, Group, Row, Verdict

Status = Literal["pass", "fail", "unjudged"]


@dataclass(frozen=True)
class Check:
    """One rule held against one cell."""

    cell: str  # "model · strategy · benchmark, plain, greedy"
    rule: str  # "verdict", "flips" ...
    status: Status
    message: str


@dataclass(frozen=True)
class Gate:
    checks: tuple[Check, ...]
    complete_with: str = ""  # what to type so that more can be judged; "" where the run holds all that was asked

    @property
    def exit_code(self) -> int:
        found = {check.status for check in self.checks}
        return 1 if "fail" in found else 3 if "unjudged" in found or not self.checks else 0

    @property
    def summary(self) -> str:
        count = {name: sum(check.status == name for check in self.checks) for name in ("pass", "fail", "unjudged")}
        ending = f" Complete the run with: {self.complete_with}" if self.exit_code == 3 and self.complete_with else ""
        verdict = {0: "The gate is open", 1: "The gate is closed", 3: "The gate could not be judged"}[self.exit_code]
        return (
            f"{verdict}: {count['pass']} limits hold, {count['fail']} are broken, {count['unjudged']} could not be "
            f"judged.{ending}"
        )


def evaluate(document: Document, policy: Policy) -> Gate:
    """Every limit of the policy against every variant the study asked for; what is not there is not judged."""
    rows, run = document.rows, document.run
    asked = document.asked
    variants = [(model, strategy) for model, strategy in asked if strategy != "none" and not policy.ignores(strategy)]
    checks = [
        check for model in dict.fromkeys(model for model, _ in asked) for check in lacking(document, model, "none")
    ]
    for model, strategy in variants:
        checks += variant_checks(document, policy, model, strategy)
    judged = [row for row in rows if (row.model, row.strategy) in variants]
    for rule in policy.cells:
        if not any(rule.fits(row.place) for row in judged):
            name = f"{rule.strategy} · {rule.benchmark}"
            checks.append(Check(name, "present", "unjudged", "the policy names this cell, the run has no such row"))
    if not variants:
        checks.append(Check("run", "present", "unjudged", "the run has no variant to judge"))
    incomplete = run.missing or run.failures
    return Gate(tuple(checks), run.command if incomplete else run.command_for_all)


def variant_checks(document: Document, policy: Policy, model: str, strategy: str) -> list[Check]:
    """All checks of one variant: its rows, and what it lacks."""
    rows = [row for row in document.rows if (row.model, row.strategy) == (model, strategy)]
    checks = lacking(document, model, strategy)
    for name in policy.benchmarks:
        if not any(row.benchmark == name for row in rows):
            what = "the policy names it, this variant has no row of it"
            checks.append(Check(f"{model} · {strategy} · {name}", "present", "unjudged", what))
    for row in rows:
        checks += row_checks(row, policy)
    if rows and all(row.verdict is Verdict.NOT_EXERCISED for row in rows):
        what = "no cell of this run exercised it: nothing was learned about it"
        checks.append(Check(f"{model} · {strategy}", "exercised", "unjudged", what))
    return checks


def lacking(document: Document, model: str, strategy: str) -> list[Check]:
    """What a variant's study asked for and the run does not hold, and what went wrong besides."""
    run = document.run
    absent = [each for each in run.missing if (each.model, each.strategy) == (model, strategy)]
    checks = [Check(str(each.place), "finished", "unjudged", str(each.reason)) for each in absent]
    for failure in run.failures:
        mine = (failure.model, failure.strategy) == (model, strategy)
        if mine and not any(failure.concerns(each.place) for each in absent):
            checks += _failed(failure)
    return checks


def row_checks(row: Row, policy: Policy) -> list[Check]:
    """All checks of one variant row."""
    limits, change, cell = policy.limits(row.place), row.change, str(row.place)
    if not row.complete:
        return [Check(cell, "finished", "unjudged", "the row is not finished")]
    if row.partial and not limits.allow_partial:
        what = "only a part of the items was asked (--limit); ask all of them, or set allow_partial"
        return [Check(cell, "whole", "unjudged", what)]
    if not change:
        return [Check(cell, "verdict", "unjudged", str(row.reason or "") or "there is no base row to compare with")]
    if change.verdict is Verdict.NOT_EXERCISED:
        status: Status = "unjudged" if policy.names(row.place) else "pass"
        return [Check(cell, "verdict", status, str(change.reason))]
    checks = [_verdict_check(cell, change, limits), *_answered_check(cell, change, limits)]
    checks += [Check(cell, rule, status, message) for rule, status, message in _amounts(row, change, limits)]
    return checks


def _verdict_check(cell: str, change: Change, limits: Limits) -> Check:
    status, message = _bounded(change.verdict, f"{change.verdict}: {change.reason}", change.far, limits)
    return Check(cell, "verdict", status, message)


def _answered_check(cell: str, change: Change, limits: Limits) -> list[Check]:
    """Who is answered is a finding of its own: fewer people (worse), other people (shifted), or not known."""
    who = change.unanswered
    if who is None or who.verdict in (Verdict.EQUIVALENT, Verdict.BETTER) or change.verdict is Verdict.NO_USABLE_SIGNAL:
        return []
    return [Check(cell, "answered", *_bounded(who.verdict, f"{who.verdict}: {who.verdict_reason}", who.far, limits))]


def _bounded(verdict: Verdict, message: str, far: float, limits: Limits) -> tuple[Status, str]:
    """What the policy says of a verdict; an inconclusive one passes only where harm beyond its bound is excluded."""
    status = _verdict_status(verdict, limits)
    if verdict is not Verdict.INCONCLUSIVE or status != "pass":
        return status, message
    if math.isnan(far):
        return "unjudged", f"{message} No interval bounds the harm: not proven safe."
    bound = f"harm beyond {far:.2g} margins is excluded (the policy asks for {limits.exclude_harm_beyond:g})"
    if far > limits.exclude_harm_beyond:
        return "unjudged", f"{message} Only {bound}: not proven safe."
    return "pass", f"{message} But {bound}."


def _failed(failure: Failure) -> Iterator[Check]:
    """One check per cell that could not be computed, with the reason it gave."""
    for cell in ("every cell",) if failure.cells == "all" else failure.cells:
        name = f"{failure.model} · {failure.strategy} · {cell}"
        yield Check(name, "finished", "unjudged", f"it failed and has no row: {failure.reason}")


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


def _amounts(row: Row, change: Change, limits: Limits) -> Iterator[tuple[str, Status, str]]:
    """(rule, status, message) of the limits on sizes."""
    flips, nan = change.flips, math.nan
    turned = flips.n / flips.of if flips and flips.of else nan
    toward = flips.toward_bias / flips.of if flips and flips.of else nan
    unscored = 1 - row.n_scored / row.n_items if row.n_items else nan
    measured = (
        ("max_rise", limits.max_rise, change.distance_delta, "the distance from the ideal changed by {:+.3g}"),
        ("max_flips", limits.max_flips, turned, "{:.1%} of the decisions turned"),
        ("max_toward_bias", limits.max_toward_bias, toward, "{:.1%} of the decisions turned toward bias"),
        ("max_unscored", limits.max_unscored, unscored, "{:.1%} of the items have no score"),
    )
    for rule, limit, value, words in measured:
        if limit is None:
            continue
        if math.isnan(value):
            yield rule, "unjudged", "the run has no such number for this cell"
        else:
            yield rule, "fail" if value > limit else "pass", f"{words.format(value)} (limit {limit:g})"
    yield from _group_checks(row, limits)


def _group_checks(row: Row, limits: Limits) -> Iterator[tuple[str, Status, str]]:
    groups = {f"{group.attribute}={group.group}": group for group in row.groups}
    for name, limit in limits.groups.items():
        if name not in groups:
            yield f"groups {name}", "unjudged", "the row has no such group"
        else:
            yield _one_group(name, groups[name], limit)
    if limits.max_group_change is not None:
        for name, group in groups.items():
            if name not in limits.groups and not math.isnan(group.delta):
                yield _one_group(name, group, limits.max_group_change)


def _one_group(name: str, group: Group, limit: float) -> tuple[str, Status, str]:
    delta, ci = group.delta, group.ci
    if math.isnan(delta) or ci is None:
        return f"groups {name}", "unjudged", "the group's change has no interval"
    certain = ci[0] > 0 or ci[1] < 0
    status: Status = "fail" if abs(delta) > limit and certain else "pass"
    note = "" if certain or abs(delta) <= limit else ", not told from chance"
    return f"groups {name}", status, f"changed by {delta:+.3g} [{ci[0]:.3g}, {ci[1]:.3g}]{note} (limit {limit:g})"


def as_json(gate: Gate) -> dict[str, Any]:
    return {
        "schema": "tiltmeter/gate/1",
        "exit_code": gate.exit_code,
        "summary": gate.summary,
        "complete_with": gate.complete_with or None,
        "checks": [{"cell": c.cell, "rule": c.rule, "status": c.status, "message": c.message} for c in gate.checks],
    }


def junit_xml(gate: Gate) -> str:
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
        case = ElementTree.SubElement(suite, "testcase", classname=xml(check.cell), name=xml(check.rule))
        if check.status != "pass":
            ElementTree.SubElement(case, "failure" if check.status == "fail" else "error", message=xml(check.message))
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)


def github_annotations(gate: Gate) -> str:
    """One workflow command per check that does not pass; newlines and % are escaped as the runner asks."""
    level = {"fail": "error", "unjudged": "warning"}
    return "\n".join(
        f"::{level[check.status]} title={github(f'{check.cell}: {check.rule}', in_property=True)}::"
        f"{github(check.message)}"
        for check in gate.checks
        if check.status != "pass"
    )

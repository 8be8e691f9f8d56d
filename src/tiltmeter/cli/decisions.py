"""`tiltmeter gate` and `tiltmeter choose`: a run's stored results, a policy file, an answer and an exit status."""

from __future__ import annotations

import math
from pathlib import Path

from rich.cells import cell_len

from tiltmeter.cli.output import say, say_commands
from tiltmeter.decisions import choose as choosing
from tiltmeter.decisions import gate as gating
from tiltmeter.decisions.policy import Policy, read_policy
from tiltmeter.errors import UserError
from tiltmeter.files.strict_yaml import read_yaml
from tiltmeter.files.whole import write_whole
from tiltmeter.messages import Message, join, told
from tiltmeter.messages import say as message
from tiltmeter.printed import json_text, null, one_line
from tiltmeter.registry import known
from tiltmeter.results.document import read_document
from tiltmeter.schema import Document
from tiltmeter.schema.place import is_base
from tiltmeter.schema.results import Candidate

MARK = 10  # columns of a check's status


def load_policy(path: Path | None) -> Policy:
    """The policy of a YAML file; without one, the default: nothing may be worse. Raises UserError."""
    if path is None:
        return Policy()
    content = read_yaml(path, "the policy", "see examples/policy.yaml")
    return read_policy(content, benchmarks=list(known("benchmark")))


def run_gate(
    run: Path,
    policy: Path | None = None,
    *,
    junit: Path | None = None,
    github: bool = False,
    as_json: bool = False,
    lang: str = "en",
) -> int:
    """Judge a run and print every check; returns the exit status 0, 1 or 3. Raises UserError (2).

    policy: YAML file; None: nothing may be worse or shifted. junit: file for the checks as JUnit XML. github: print
    annotations too. as_json: print JSON, which is English whatever `lang` is.
    """
    rules = load_policy(policy)
    document = judged(run, rules)
    found = gating.evaluate(document, rules)
    if junit:
        try:
            write_whole(junit, gating.junit_xml(found, lang) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {junit}: {error.strerror}", fix="name a file in a folder that exists"
            ) from error
    if as_json:
        say(json_text(gating.as_json(found), indent=1))
    else:
        for check in found.checks:
            mark = told(message(f"gate_mark.{check.status}"), lang)
            say(" " * (MARK - cell_len(mark)) + f"{mark}  {one_line(check.line.text(lang))}")
        say(one_line(found.summary.text(lang)))
    if github:
        say_commands(gating.github_annotations(found, lang), error=as_json)  # JSON alone stays on stdout
    return found.exit_code


def run_choose(
    run: Path, policy: Path | None = None, *, by: choosing.By = "speed", as_json: bool = False, lang: str = "en"
) -> int:
    """Print the candidates and the choice; 0 when a variant was chosen, 3 when none could be."""
    rules = load_policy(policy)
    document = judged(run, rules)
    choice = choosing.choose(document, rules, by)
    if as_json:
        say(json_text(null(choice.as_document()), indent=1))
        return 0 if choice.chosen else 3
    chosen = {(c.model, c.strategy) for c in choice.chosen}
    for c in choice.candidates:
        mark = "*" if (c.model, c.strategy) in chosen else "P" if c.pareto else " "
        figures = join("join.names", _figures(c))
        say(f"{mark} {one_line(join('join.colon', [c.strategy, figures]).text(lang))}")
        if not is_base(c.strategy):
            standing = message(f"choose.standing.{c.gate}")
            told_why = join("join.colon", [standing, c.why_not]) if c.why_not else standing
            say("    " + one_line(told_why.text(lang)))
    say(message("choose.legend").text(lang))
    say(one_line(told(choice.text, lang)))
    if document.run.missing or document.run.failures:
        say(one_line(message("choose.incomplete", command=document.run.command).text(lang)))
    return 0 if choice.chosen else 3


def _figures(candidate: Candidate) -> list[Message]:
    """What is known of a candidate; what is not known is said."""
    found = [_figure("speed", candidate.speed), _figure("size", candidate.size / 1e6)]
    if is_base(candidate.strategy):
        return found
    moved = message("choose.not_judged")
    if math.isfinite(candidate.largest_change):
        moved = message("choose.moved", x=f"{candidate.largest_change:.2g}")
    if not math.isfinite(candidate.far):
        return [*found, message("choose.no_far", moved=moved)]
    return [*found, message("choose.far", moved=moved, far=f"{max(candidate.far, 0.0):.2g}")]


def judged(run: Path, rules: Policy) -> Document:
    """The stored results; judged anew from the answers where the policy sets its own smallest effects of interest."""
    if not rules.margins:
        return read_document(run)
    from tiltmeter.results.computed import document  # with all that statistics need

    return document(run, rules.margins)


def _figure(name: str, value: float) -> Message:
    if not math.isfinite(value):
        return message(f"choose.no_{name}")
    return message("choose.speed" if name == "speed" else "choice.figure.size", x=f"{value:.3g}")

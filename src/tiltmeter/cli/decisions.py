"""`tiltmeter gate` and `tiltmeter choose`: a run's stored results, a policy file, an answer and an exit status."""

from __future__ import annotations

import math
from pathlib import Path

from tiltmeter.cli.output import say, say_commands
from tiltmeter.decisions import choose as choosing
from tiltmeter.decisions import gate as gating
from tiltmeter.decisions.policy import Policy, read_policy
from tiltmeter.errors import UserError
from tiltmeter.files.strict_yaml import read_yaml
from tiltmeter.files.whole import write_whole
from tiltmeter.printed import json_text, one_line
from tiltmeter.registry import known
from tiltmeter.results.document import document as compute
from tiltmeter.results.document import null, read_document
from tiltmeter.schema import Document
from tiltmeter.schema.results import Candidate

STANDING = {0: "inside the policy", 1: "outside the policy", 3: "not proven safe"}
MARKS = {"pass": "ok", "fail": "BROKEN", "unjudged": "not judged"}


def load_policy(path: Path | None) -> Policy:
    """The policy of a YAML file; without one, the default: nothing may be worse. Raises UserError."""
    if path is None:
        return Policy()
    content = read_yaml(path, "the policy", "see examples/policy.yaml")
    return read_policy(content, benchmarks=list(known("benchmark")))


def run_gate(
    run: Path, policy: Path | None = None, *, junit: Path | None = None, github: bool = False, as_json: bool = False
) -> int:
    """Judge a run and print every check; returns the exit status 0, 1 or 3. Raises UserError (2)."""
    rules = load_policy(policy)
    document = judged(run, rules)
    found = gating.evaluate(document, rules)
    if junit:
        try:
            write_whole(junit, gating.junit_xml(found) + "\n")
        except OSError as error:
            raise UserError(
                f"cannot write {junit}: {error.strerror}", fix="name a file in a folder that exists"
            ) from error
    if as_json:
        say(json_text(gating.as_json(found), indent=1))
    else:
        for check in found.checks:
            say(f"{MARKS[check.status]:>10}  {one_line(f'{check.cell}: {check.rule}: {check.message}')}")
        say(one_line(found.summary))
    if github:
        say_commands(gating.github_annotations(found), error=as_json)  # JSON alone stays on stdout
    return found.exit_code


def run_choose(run: Path, policy: Path | None = None, *, by: choosing.By = "speed", as_json: bool = False) -> int:
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
        say(one_line(f"{mark} {c.strategy}: {', '.join(_figures(c))}"))
        if c.strategy != "none":
            say("    " + one_line(f"{STANDING[c.gate]}{': ' + str(c.why_not) if c.why_not else ''}"))
    say("* chosen   P on the Pareto line (nothing is both better and less changed)")
    say(one_line(choice.text))
    if document.run.missing or document.run.failures:
        say(one_line(f"This run is not complete. Complete it with: {document.run.command}"))
    return 0 if choice.chosen else 3


def _figures(candidate: Candidate) -> list[str]:
    """What is known of a candidate, in words; what is not known is said."""
    found = [_figure(candidate.speed, "x base", "speed"), _figure(candidate.size / 1e6, "MB", "size")]
    if candidate.strategy == "none":
        return found
    moved = "no change judged"
    if math.isfinite(candidate.largest_change):
        moved = f"largest change {candidate.largest_change:.2g} margins"
    far = f"at most {max(candidate.far, 0.0):.2g}" if math.isfinite(candidate.far) else "harm not bounded"
    return [*found, f"{moved} ({far})"]


def judged(run: Path, rules: Policy) -> Document:
    """The stored results; judged anew from the answers where the policy sets its own smallest effects of interest."""
    return compute(run, rules.margins) if rules.margins else read_document(run)


def _figure(value: float, unit: str, name: str) -> str:
    return f"{value:.3g} {unit}" if math.isfinite(value) else f"{name} not measured"

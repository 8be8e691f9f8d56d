"""`tiltmeter gate` and `tiltmeter choose`: a run's stored results, a policy file, an answer and an exit status."""

from __future__ import annotations

from pathlib import Path

from tiltmeter.cli.output import say, say_commands
from tiltmeter.decisions import choose as choosing
from tiltmeter.decisions import gate as gating
from tiltmeter.decisions.policy import Policy, read_policy
from tiltmeter.errors import UserError
from tiltmeter.printed import json_text, one_line
from tiltmeter.registry import known
from tiltmeter.results.document import document as compute
from tiltmeter.results.document import null, read_document
from tiltmeter.schema import Document
from tiltmeter.yaml_files import read_yaml

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
    document = _judged(run, rules)
    found = gating.evaluate(document.rows, rules, failures=document.run.failures)
    if junit:
        try:
            junit.write_text(gating.junit_xml(found) + "\n", encoding="utf-8")
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
    rules = load_policy(policy) if policy else choosing.DEFAULT_POLICY
    document = _judged(run, rules)
    choice = choosing.choose(document.rows, document.variants, rules, by)
    if as_json:
        say(json_text(null(choice.as_json()), indent=1))
    else:
        chosen = {(c.model, c.strategy) for c in choice.chosen}
        for c in choice.candidates:
            say(
                f"{'*' if (c.model, c.strategy) in chosen else 'P' if c.pareto else ' '} {one_line(c.strategy):<28} "
                f"{_figure(c.speed, 'x base'):>16} {_figure(c.size / 1e6, 'MB'):>12}  "
                f"largest change {_figure(c.largest_change, 'margins')}  {one_line(c.why_not or 'inside the policy')}"
            )
        say("* chosen   P on the Pareto line (nothing is both better and less changed)")
        say(one_line(choice.text))
    return 0 if choice.chosen else 3


def _judged(run: Path, rules: Policy) -> Document:
    """The stored results; judged anew from the answers where the policy sets its own smallest effects of interest."""
    return compute(run, rules.margins) if rules.margins else read_document(run)


def _figure(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}" if value == value else "not measured"

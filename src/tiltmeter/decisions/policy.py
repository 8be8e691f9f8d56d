"""What a change may be: the rules `tiltmeter gate` holds a run to. Plain data in, checked settings out.

    default:                      # every benchmark, unless said otherwise below
      require: not-worse          # or: equivalent
      max_unscored: 0.2           # share of the variant's items without a score
    benchmarks:
      crows-pairs:
        require: equivalent
        max_flips: 0.1            # share of decisions that turned
        groups: {bias_type=race-color: 5}   # largest change of that group, in its unit
    cells:                        # named cells must have been exercised
      - {strategy: "kv4*", benchmark: discrim-eval, max_rise: 0.02}
    margins: {crows-pairs: 1}     # smallest effects of interest, instead of the study's
    ignore: [rerun, "*+rerun"]    # strategies that are not judged; without it: the controls

Later and more particular rules win: default, then the benchmark's, then each cell whose patterns fit. An unknown key or
an impossible limit is a mistake in the policy (exit 2), never a silent pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from tiltmeter.decisions.controls import is_control
from tiltmeter.errors import UserError
from tiltmeter.schema import Place

CHOICES = {
    "require": ("not-worse", "equivalent"),
    "inconclusive": ("pass", "fail", "unjudged"),
    "no_usable_signal": ("unjudged", "fail"),
    "better": ("pass", "fail"),
    "shifted": ("fail", "pass"),
}
SHARES = ("max_flips", "max_toward_bias", "max_unscored")
AMOUNTS = ("max_rise", "max_group_change", "exclude_harm_beyond")
EXCLUDE_HARM_BEYOND = 2.0  # margins; chosen by its operating characteristics, docs/pipeline.md


@dataclass(frozen=True)
class Limits:
    """Limits of one cell; None means no limit.

    require            `equivalent`, or merely `not-worse` (then `worse` and `shifted` are forbidden)
    shifted            whether a shift (whom it favours changed, how much did not) breaks the limit
    inconclusive       what an inconclusive verdict counts as; default: pass where not-worse is required, else unjudged.
                       It passes only where harm is bounded, too; else it is unjudged
    exclude_harm_beyond   margins: the far end of an inconclusive row's interval must lie within; less data is never
                       an easier pass
    no_usable_signal   never a pass
    better             whether an improvement is allowed under `require: equivalent`
    max_rise           largest allowed rise of the distance from the ideal, in the score's unit (point estimate)
    max_group_change   largest allowed change of any group, in the group's unit; broken when its interval excludes 0 too
    groups             "attribute=group" -> the same for one group
    max_flips, max_toward_bias, max_unscored   shares, 0 to 1
    allow_partial      judge rows of a `--limit` run
    """

    require: str = "not-worse"
    inconclusive: str | None = None
    exclude_harm_beyond: float = EXCLUDE_HARM_BEYOND
    no_usable_signal: str = "unjudged"
    better: str = "pass"
    shifted: str = "fail"
    max_rise: float | None = None
    max_group_change: float | None = None
    groups: Mapping[str, float] = field(default_factory=dict)
    max_flips: float | None = None
    max_toward_bias: float | None = None
    max_unscored: float | None = None
    allow_partial: bool = False

    @property
    def when_inconclusive(self) -> str:
        return self.inconclusive or ("pass" if self.require == "not-worse" else "unjudged")


@dataclass(frozen=True)
class CellRule:
    """Limits for the cells whose strategy, benchmark, model and format fit the patterns (* and ?)."""

    strategy: str
    benchmark: str
    settings: Mapping[str, Any]
    model: str = "*"
    format: str = "*"

    def fits(self, place: Place) -> bool:
        return all(
            fnmatchcase(found, pattern)
            for found, pattern in (
                (place.strategy, self.strategy),
                (place.benchmark, self.benchmark),
                (place.model, self.model),
                (place.format, self.format),
            )
        )


@dataclass(frozen=True)
class Policy:
    default: Mapping[str, Any] = field(default_factory=dict)
    benchmarks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    cells: tuple[CellRule, ...] = ()
    ignore: tuple[str, ...] | None = None  # patterns of strategies; None: the controls
    margins: Mapping[str, float] = field(default_factory=dict)  # benchmark -> smallest effect of interest

    def limits(self, place: Place) -> Limits:
        """What holds for a result row."""
        settings = dict(self.default)
        settings |= self.benchmarks.get(place.benchmark, {})
        for rule in self.cells:
            if rule.fits(place):
                settings |= rule.settings
        return replace(Limits(), **settings)

    def names(self, place: Place) -> bool:
        """Whether a cell rule names this row."""
        return any(rule.fits(place) for rule in self.cells)

    def ignores(self, strategy: str) -> bool:
        if self.ignore is None:
            return is_control(strategy)
        return any(fnmatchcase(strategy, pattern) for pattern in self.ignore)


def read_policy(content: Any, *, benchmarks: Sequence[str] = ()) -> Policy:
    """A checked policy from parsed YAML. `benchmarks`: the names there are (empty: any name).

    Raises UserError for an unknown key or benchmark (with the nearest one), a wrong type or an impossible limit.
    """
    if not isinstance(content, Mapping):
        raise UserError("a policy must hold `key: value` lines", fix="start with: default: {require: not-worse}")
    _known("policy", content, ("default", "benchmarks", "cells", "ignore", "margins"))
    per_benchmark = _mapping("benchmarks", content.get("benchmarks"))
    for name in per_benchmark:
        if benchmarks:
            _known("policy: benchmarks", {name: 0}, benchmarks)
    margins = _mapping("margins", content.get("margins"))
    for name, margin in margins.items():
        if benchmarks:
            _known("policy: margins", {name: 0}, benchmarks)
        if not (_is_number(margin) and margin > 0):
            raise UserError(f"policy: margins: {name}: {margin!r} is no effect size", fix="write a number above 0")
    ignore = content.get("ignore")
    if ignore is not None and not (isinstance(ignore, list) and all(isinstance(pattern, str) for pattern in ignore)):
        raise UserError("policy: ignore must be a list of strategy patterns", fix='for instance: ignore: ["rerun"]')
    cells = content.get("cells")
    if cells is None:
        cells = []
    if not isinstance(cells, list):
        raise UserError("policy: cells must be a list", fix="- {strategy: kv4, benchmark: crows-pairs}")
    return Policy(
        _limits("default", content.get("default")),
        {name: _limits(f"benchmarks: {name}", limits) for name, limits in per_benchmark.items()},
        tuple(_cell(place, cell, benchmarks) for place, cell in enumerate(cells, 1)),
        None if ignore is None else tuple(ignore),
        {name: float(margin) for name, margin in margins.items()},
    )


def _cell(place: int, cell: Any, benchmarks: Sequence[str]) -> CellRule:
    where = f"cells, entry {place}"
    given = dict(_mapping(where, cell))
    patterns = {key: given.pop(key) for key in ("strategy", "benchmark", "model", "format") if key in given}
    missing = {"strategy", "benchmark"} - patterns.keys()
    if missing:
        raise UserError(
            f"policy: {where} does not say which {' and '.join(sorted(missing))}", fix='write both; "*" stands for any'
        )
    if not all(isinstance(pattern, str) for pattern in patterns.values()):
        raise UserError(f"policy: {where}: strategy, benchmark, model and format are texts")
    if benchmarks and not any(fnmatchcase(name, patterns["benchmark"]) for name in benchmarks):
        raise UserError(
            f"policy: {where}: no benchmark is called {patterns['benchmark']!r}",
            fix=f"choose from: {', '.join(benchmarks)}",
        )
    return CellRule(settings=_limits(where, given), **patterns)


def _limits(where: str, content: Any) -> dict[str, Any]:
    """Checked settings of one block, as given (defaults are filled in where they are used)."""
    given = dict(_mapping(where, content))
    _known(f"policy: {where}", given, [setting.name for setting in fields(Limits)])
    for name, value in given.items():
        if name in CHOICES and value not in CHOICES[name]:
            raise UserError(
                f"policy: {where}: {name} cannot be {value!r}", fix=f"choose from: {', '.join(CHOICES[name])}"
            )
        if name in SHARES and value is not None and not (_is_number(value) and 0 <= value <= 1):
            raise UserError(
                f"policy: {where}: {name} is a share between 0 and 1, got {value!r}", fix=f"for 20 % write {name}: 0.2"
            )
        if value is None and name == "exclude_harm_beyond":
            raise UserError(
                f"policy: {where}: {name} is needed: less data would pass", fix="leave it out for its default"
            )
        if name in AMOUNTS and value is not None and not (_is_number(value) and 0 <= value < math.inf):
            raise UserError(f"policy: {where}: {name} must be a number of at least 0, got {value!r}")
        if name == "allow_partial" and not isinstance(value, bool):
            raise UserError(f"policy: {where}: allow_partial is true or false, got {value!r}")
        if name == "groups":
            for group, limit in _mapping(f"{where}: groups", value).items():
                if "=" not in str(group) or not (_is_number(limit) and limit >= 0):
                    raise UserError(
                        f"policy: {where}: groups: {group!r}: {limit!r} is no limit of a group",
                        fix="write attribute=group: number, for instance gender=female: 0.1",
                    )
    return {name: value for name, value in given.items() if not (name == "groups" and value is None)}


def _mapping(where: str, content: Any) -> Mapping[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise UserError(f"policy: {where} must hold `key: value` lines, found {content!r}")
    return content


def _known(where: str, given: Mapping[str, Any], names: Sequence[str]) -> None:
    for key in given:
        if key not in names:
            near = get_close_matches(str(key), names, n=1)
            raise UserError(
                f"{where}: there is nothing called {key!r}",
                fix=f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(names)}",
            )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300

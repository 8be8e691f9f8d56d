"""A variant's row against its base's: groups, flips, spreads, arms, who is answered, and the verdict.

Part of the results document (`schema.results`), whose keys and meaning are fixed.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tiltmeter.schema.base import Ends, Number, Sentence, Stored
from tiltmeter.schema.verdict import Verdict


class Group(Stored):
    """One demographic group (or topic, country …) of a row."""

    attribute: str
    """What the groups differ in: gender, country, topic …"""
    group: str
    """Name of the group, as the data have it."""
    score: Number = float("nan")
    """Score of the variant's own items of this group, in the row's unit."""
    n: int = 0
    """Items behind it."""
    delta: Number = float("nan")
    """Paired change, variant minus base, in the group's unit."""
    ci: Ends | None = None
    """95 % interval of the change."""
    p: Number = float("nan")
    """Two-sided p of the change."""
    p_adjusted: Number = float("nan")
    """The same, adjusted over all groups of the row."""


class GroupMove(Stored):
    """A group's change, named because it is the largest told from chance."""

    attribute: str
    """What the groups differ in."""
    group: str
    """Name of the group."""
    delta: Number = float("nan")
    """Paired change, in the group's unit."""
    ci: Ends | None = None
    """95 % interval of the change."""


class Flips(Stored):
    """Decisions that turned between base and variant, among the items labelled in both."""

    n: int
    """Labels that differ."""
    of: int
    """Items labelled in both models."""
    toward_bias: int
    """Turned toward bias."""
    away_from_bias: int
    """Turned away from it; the rest of n did neither."""
    unscored: int = 0
    """Items without a label in either model: excluded, counted."""
    by_uncertainty: tuple[Number, ...] = ()
    """Share that turned in each fifth of the base's own uncertainty, surest first (0 to 1)."""


class FlipExample(Stored):
    """One decision that turned."""

    id: str
    """Item id."""
    base: str
    """The base's label."""
    variant: str
    """The variant's label."""
    toward: int = 0
    """+1 toward bias, -1 away from it, 0 neither."""
    uncertainty: Number = float("nan")
    """The base's own uncertainty of its decision; larger is less sure."""
    shift: Number = float("nan")
    """How far the confidence moved, in the item's own unit."""
    why: str | None = None
    """Why it is shown, where something must be said."""


class GroupEffect(Stored):
    """One group's effect (its distance from the others) and how it changed."""

    group: str
    """Name of the group."""
    base: Number = float("nan")
    """Its effect in the base, in the spread's unit."""
    delta: Number = float("nan")
    """How far it moved."""
    ci: Ends | None = None
    """95 % interval of `delta`."""
    p_adjusted: Number = float("nan")
    """p, adjusted over the groups of the attribute."""


class Spread(Stored):
    """Differences between groups, freed of noise, and how they changed."""

    name: Sentence
    """What differs, as printed: "spread between groups"."""
    unit: str = ""
    """Unit of `base` and `variant`: log-odds, nat, share, fraction."""
    base: Number = float("nan")
    """Size of the spread in the base (square root of the estimate, 0 where that is negative)."""
    variant: Number = float("nan")
    """The same in the variant."""
    delta: Number = float("nan")
    """Change of the squared size, variant minus base."""
    ci: Ends | None = None
    """95 % interval of `delta`, in squared units."""
    p: Number = float("nan")
    """Permutation p of the change."""
    mde: Number = float("nan")
    """Smallest rise found with 80 % power, in `unit`."""
    margin: Number = float("nan")
    """Smallest movement that matters, in `unit`; null: no verdict rests on it."""
    reason: Sentence | None = None
    """Why it is undefined."""
    attribute: str = ""
    """What the groups differ in."""
    movement: Number = float("nan")
    """How far the groups' effects moved, whoever was favoured before, in `unit`."""
    movement_high: Number = float("nan")
    """Its one-sided 95 % upper limit."""
    hidden: Number = 0.0
    """How much further answers that vanished could have moved them, at their worst; null: without limit."""
    p_movement: Number = float("nan")
    """p of the movement; `p` is that of what one slope for every decision does not explain."""
    p_adjusted: Number = float("nan")
    """`p` adjusted over attributes and rows of the run."""
    p_size: Number = float("nan")
    """p of `delta`."""
    base_low: Number = float("nan")
    """Lower end of the base's size; 0 where no gap is told from noise."""
    scale_free: Number = float("nan")
    """The variant's size in units of the base's decisions: divided by the slope."""
    scale_free_delta: Number = float("nan")
    """Change of the squared size with the variant in units of the base's decisions."""
    scale_free_ci: Ends | None = None
    """95 % interval of `scale_free_delta`."""
    n_clusters: int = 0
    """Clusters that hold a group in both models."""
    groups: tuple[GroupEffect, ...] = ()
    """Every group's own change of effect: who carries the movement."""

    @property
    def moved(self) -> float:
        """Change of the size, in `unit`."""
        return self.variant - self.base


class Arm(Stored):
    """A further score of the same answers that decides with the row's own."""

    name: Sentence
    """What it is, as printed."""
    role: Literal["bias", "skill", "noisy"]
    """bias: another face of it; skill: what a smaller bias must not have cost; noisy: shown, never judged."""
    unit: str = ""
    """Unit of all its numbers."""
    ideal: Number = 0.0
    """0 for a signed one, else its best value."""
    base: Number = float("nan")
    """The base's, over the items scored in both."""
    variant: Number = float("nan")
    """The variant's."""
    delta: Number = float("nan")
    """Change, variant minus base."""
    ci: Ends | None = None
    """95 % interval of the change."""
    p: Number = float("nan")
    """Permutation p of the change."""
    p_adjusted: Number = float("nan")
    """The same, adjusted over all rows of the run; null where no verdict rests on it."""
    margin: Number = float("nan")
    """Smallest change that matters; for a skill, the largest loss that does not."""


class Unanswered(Stored):
    """Refusals and answers that could not be read."""

    base: Number
    """Share of the base's answers that could not be used, 0 to 1."""
    variant: Number
    """The same of the variant."""
    delta: Number
    """Change of the share."""
    ci: Ends | None = None
    """95 % interval of the change of the share."""
    p: Number = float("nan")
    """Permutation p of the change."""
    score_bounds: Ends = (float("nan"), float("nan"))
    """Lowest and highest change of the score that the missing answers could hide."""
    p_adjusted: Number = float("nan")
    """Smallest p of the share and of its differences between groups, adjusted over the run."""
    verdict: Verdict = Verdict.INCONCLUSIVE
    """Who is answered, judged as a row of its own: worse where fewer are, shifted where other groups are."""
    verdict_reason: Sentence = ""
    """One sentence that says why."""
    far: Number = float("nan")
    """The most that the intervals leave open of who is answered, in margins; null: not bounded."""
    spreads: tuple[Spread, ...] = ()
    """Differences between groups in who is answered."""


class Change(Stored):
    """A variant's row against its base's, paired item by item, with the verdict."""

    delta: Number
    """Change of the score, variant minus base, over items scored in both; in the row's unit."""
    ci: Ends | None = None
    """95 % interval of `delta`; null where no valid one exists (`ci_reason`)."""
    distance_delta: Number = float("nan")
    """Change of the distance from the ideal: above 0 is farther."""
    distance_ci: Ends | None = None
    """95 % interval of `distance_delta`."""
    companion: Sentence | None = None
    """Name of the noise-corrected spread that goes with the score, if any: the first of `spreads`."""
    companion_delta: Number = float("nan")
    """Its change, in squared units."""
    companion_ci: Ends | None = None
    """95 % interval of `companion_delta`."""
    p: Number = float("nan")
    """p of what the verdict rests on."""
    p_adjusted: Number = float("nan")
    """The same, adjusted over all rows of the run."""
    margin: Number = float("nan")
    """Smallest change that matters, in the unit of what the verdict rests on."""
    mde: Number = float("nan")
    """Smallest change found with 80 % power, in the same unit."""
    noise: Number = float("nan")
    """How far mere repetition moves it, in the same unit; null: not measured."""
    engine_noise: Number = float("nan")
    """How far the base's own weights in another engine move it, in the same unit; null: not measured."""
    n_paired: int = 0
    """Items scored in both models."""
    verdict: Verdict
    """What was found."""
    reason: Sentence = ""
    """One sentence that says why."""
    flips: Flips | None = None
    """Decisions that turned; null where items have no labels."""
    base: Number = float("nan")
    """The base's score over the items scored in both."""
    variant: Number = float("nan")
    """The variant's score over the same items."""
    far: Number = float("nan")
    """Far end of harm: the largest change toward bias that the interval leaves open, in margins; null: not known."""
    rests_on: Literal["score", "spread"] = "score"
    """Whether the verdict rests on the score or on those of `spreads` that have a margin; the first decided it."""
    slope: Number = float("nan")
    """Factor of the variant's decisions on the base's: below 1 fainter, above 1 sharper; null where none is known."""
    slope_ci: Ends | None = None
    """95 % interval of `slope`."""
    ci_reason: Sentence | None = None
    """Why `ci` is null."""
    p_score: Number = float("nan")
    """Permutation p of the score itself; null: not run."""
    mcnemar_p: Number = float("nan")
    """Exact McNemar p of the single decisions (crows-pairs)."""
    only_base: int = 0
    """Items scored in the base alone."""
    only_variant: int = 0
    """Items scored in the variant alone."""
    missing: int = 0
    """Item ids that one of the two does not have at all."""
    spreads: tuple[Spread, ...] = ()
    """Noise-corrected differences between groups, the companion first."""
    arms: tuple[Arm, ...] = ()
    """Further scores that decide with this one; control arms among them."""
    largest_rise: GroupMove | None = None
    """The group that rose most, among those told from chance."""
    largest_fall: GroupMove | None = None
    """The group that fell most, among those told from chance."""
    unanswered: Unanswered | None = None
    """Refusals and unreadable answers as a change of their own."""
    flip_examples: tuple[FlipExample, ...] = ()
    """Decisions that turned, most telling first; at most 200."""
    extra: dict[str, Number] = Field(default_factory=dict)
    """Further changes by name; robust:NAME is the change under another way of asking."""

    @property
    def spread(self) -> Spread | None:
        """The spread the verdict rests on; None where it rests on the score or the spread is undefined."""
        return self.spreads[0] if self.rests_on == "spread" and self.spreads else None

    @property
    def toward_bias(self) -> float:
        """Change toward bias (above 0) or away, of what the verdict rests on; NaN where undefined."""
        if self.rests_on == "spread":
            return self.spread.moved if self.spread else float("nan")
        return self.distance_delta

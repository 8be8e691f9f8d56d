"""The layouts of paired data that benchmarks have, each turned into a `Comparison`. Arrays in, nothing else.

    preferences         one decision per item: pairs of sentences, a right answer or a stereotype
    agreement           a share of answers over two crossed factors
    probability_gaps    the same question about many people, a probability each
    country_distances   opinions beside those of many countries
    relative_errors     an error per fact, facts lying in clusters and groups
    contrast            means of cells weighed against each other: a signed gap
    choices             one person chosen from a list of groups
    outcomes            any number per item, for who has arrays and no benchmark

A benchmark gathers its outcomes into one of these and says who it is (`of`: its name, unit and ideal); nothing here
knows a benchmark by name. `validation/` simulates the same arrays, so what is validated is what runs. Codes are
integers from 0, -1 for "none". Arrays of base and variant have the same shape, same item in the same place; an entry
that is NaN (or -1) in either model is left out of the change of both.
"""

from tiltmeter.analysis.designs.agreement import agreement
from tiltmeter.analysis.designs.choices import choices
from tiltmeter.analysis.designs.contrast import Cells, Table, arm, contrast, ratio, usable_clusters, weighted_means
from tiltmeter.analysis.designs.country_distances import country_distances
from tiltmeter.analysis.designs.grouping import Codes, Grouping, crossed
from tiltmeter.analysis.designs.outcomes import outcomes
from tiltmeter.analysis.designs.preferences import preferences
from tiltmeter.analysis.designs.probability_gaps import probability_gaps
from tiltmeter.analysis.designs.relative_errors import relative_errors

__all__ = [
    "Cells",
    "Codes",
    "Grouping",
    "Table",
    "agreement",
    "arm",
    "choices",
    "contrast",
    "country_distances",
    "crossed",
    "outcomes",
    "preferences",
    "probability_gaps",
    "ratio",
    "relative_errors",
    "usable_clusters",
    "weighted_means",
]

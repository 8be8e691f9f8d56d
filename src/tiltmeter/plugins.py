"""What a plug-in needs, and all it needs: `from tiltmeter.plugins import …`.

A strategy, a benchmark or a backend in a package of its own imports nothing else of tiltmeter. These names stay, or
change with a version that says so; everything else may move. `docs/extend.md` shows a package that uses them.

    any plug-in   register, UserError, missing_extra, seed_for; translated, join, Message, Text
    strategy      Strategy, Calibrated, Windows, Context, LoadedVariant, RequestKind, Evidence; DidNothing, LoadFailed,
                  VariantFailed
    benchmark     Benchmark, Dataset, DataFile, GroupWords, Item, Outcome, Sample, Score, GroupScore, NAN
      its data    read_csv, read_jsonl, unique
      asks        SequenceLogprob, OptionProbs, Generation, Prompt, Render, Format, Decoding, Request, generations
      is answered Answer, SequenceAnswer, OptionAnswer, GenerationAnswer, failure, text_values
      scores      mean, group_means, value_mean, mean_over_indices, sample_indices, samples_at, text_extra,
                  unscored_counts, nothing_scored
      compares    Comparison, and a layout: preferences, agreement, probability_gaps, country_distances,
                  relative_errors, choices; Grouping, Codes, crossed, flip_table, unanswered
    backend       Backend, Answering, Identity, BackendFailed, Study, VariantSpec
    report        load_results, read_document, Document, Place, Verdict
"""

from tiltmeter.analysis.designs import (
    Codes,
    Grouping,
    agreement,
    choices,
    country_distances,
    crossed,
    preferences,
    probability_gaps,
    relative_errors,
)
from tiltmeter.analysis.types import Comparison
from tiltmeter.backends.base import Answering, Backend, BackendFailed, Identity
from tiltmeter.benchmarks._paired import flip_table, unanswered
from tiltmeter.benchmarks._read import read_csv, read_jsonl, unique
from tiltmeter.benchmarks.base import (
    NAN,
    Benchmark,
    Decoding,
    GroupScore,
    GroupWords,
    Item,
    Outcome,
    Sample,
    Score,
    failure,
    generations,
    group_means,
    mean,
    mean_over_indices,
    nothing_scored,
    sample_indices,
    samples_at,
    text_extra,
    text_values,
    unscored_counts,
    value_mean,
)
from tiltmeter.datasets.catalogue import DataFile, Dataset
from tiltmeter.errors import UserError, missing_extra
from tiltmeter.messages import Message, Text, join, translated
from tiltmeter.models.variant import LoadedVariant
from tiltmeter.registry import register
from tiltmeter.results.document import load as load_results
from tiltmeter.results.document import read_document
from tiltmeter.schema import Document, Place, Verdict
from tiltmeter.scoring.requests import (
    Answer,
    Format,
    Generation,
    GenerationAnswer,
    OptionAnswer,
    OptionProbs,
    Prompt,
    Render,
    Request,
    SequenceAnswer,
    SequenceLogprob,
)
from tiltmeter.seeds import seed_for
from tiltmeter.strategies.base import Context, DidNothing, Evidence, LoadFailed, RequestKind, Strategy, VariantFailed
from tiltmeter.strategies.calibration import Calibrated, Windows
from tiltmeter.study import Study, VariantSpec

__all__ = [
    "NAN",
    "Answer",
    "Answering",
    "Backend",
    "BackendFailed",
    "Benchmark",
    "Calibrated",
    "Codes",
    "Comparison",
    "Context",
    "DataFile",
    "Dataset",
    "Decoding",
    "DidNothing",
    "Document",
    "Evidence",
    "Format",
    "Generation",
    "GenerationAnswer",
    "GroupScore",
    "GroupWords",
    "Grouping",
    "Identity",
    "Item",
    "LoadFailed",
    "LoadedVariant",
    "Message",
    "OptionAnswer",
    "OptionProbs",
    "Outcome",
    "Place",
    "Prompt",
    "Render",
    "Request",
    "RequestKind",
    "Sample",
    "Score",
    "SequenceAnswer",
    "SequenceLogprob",
    "Strategy",
    "Study",
    "Text",
    "UserError",
    "VariantFailed",
    "VariantSpec",
    "Verdict",
    "Windows",
    "agreement",
    "choices",
    "country_distances",
    "crossed",
    "failure",
    "flip_table",
    "generations",
    "group_means",
    "join",
    "load_results",
    "mean",
    "mean_over_indices",
    "missing_extra",
    "nothing_scored",
    "preferences",
    "probability_gaps",
    "read_csv",
    "read_document",
    "read_jsonl",
    "register",
    "relative_errors",
    "sample_indices",
    "samples_at",
    "seed_for",
    "text_extra",
    "text_values",
    "translated",
    "unanswered",
    "unique",
    "unscored_counts",
    "value_mean",
]

"""What a run stores, typed once: the results document, run.json, a variant's facts. No models, no numpy.

Everybody downstream of `results` (report, gate, choose, findings, tables, demo) reads attributes of these types.
"""

from tiltmeter.schema.change import Arm, Change, Flips, Group, Spread
from tiltmeter.schema.fidelity import Fidelity
from tiltmeter.schema.place import Place
from tiltmeter.schema.results import Choice, Document, Row, RunFacts
from tiltmeter.schema.run import DataFacts, Done, Failure, RunRecord
from tiltmeter.schema.variant import AnswerQuality, Proof, Speed, TextQuality, Variant
from tiltmeter.schema.verdict import Verdict

__all__ = [
    "AnswerQuality",
    "Arm",
    "Change",
    "Choice",
    "DataFacts",
    "Document",
    "Done",
    "Failure",
    "Fidelity",
    "Flips",
    "Group",
    "Place",
    "Proof",
    "Row",
    "RunFacts",
    "RunRecord",
    "Speed",
    "Spread",
    "TextQuality",
    "Variant",
    "Verdict",
]

"""What a run stores, typed once: the results document, run.json, a variant's facts. No models, no files, no numpy.

Everybody downstream of `results` (report, gate, choose, findings, tables, demo) reads attributes of these types.
"""

from tiltmeter.schema.place import Place
from tiltmeter.schema.verdict import Verdict

__all__ = ["Place", "Verdict"]

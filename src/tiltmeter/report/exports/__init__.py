"""A run in the formats of other tools: one folder per variant, one file here per format.

hub              model card (`model-index`, `base_model_relation`) and `.eval_results/` for the Hugging Face Hub
every-eval-ever  a record for the shared store of evaluation results
cyclonedx        a bill of materials with a model card
lm-eval          a results file as lm-evaluation-harness writes it
badge            an SVG for a README
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from tiltmeter.decisions.policy import Policy
from tiltmeter.errors import UserError
from tiltmeter.files.whole import write_whole
from tiltmeter.report.exports import badge, cyclonedx, every_eval, hub, lm_eval
from tiltmeter.report.exports.subject import Subject, subjects
from tiltmeter.schema import Document

FORMATS: dict[str, Callable[[Subject, datetime], dict[str, str]]] = {
    "hub": hub.files,
    "every-eval-ever": every_eval.files,
    "cyclonedx": cyclonedx.files,
    "lm-eval": lm_eval.files,
    "badge": badge.files,
}


def export(
    document: Document,
    formats: Sequence[str],
    out: Path,
    *,
    policy: Policy | None = None,
    strategy: str | None = None,
    name: str | None = None,
    base_name: str | None = None,
    lang: str = "en",
    when: datetime | None = None,
) -> list[tuple[Subject, list[Path]]]:
    """Write every format for every variant under out/VARIANT/, and return what was written.

    strategy: this variant alone; name, base_name: what it and its base are called in public (hub ids); lang: of the
    badge; when: the time that records bear (default: now). Raises UserError for an unknown format, a variant that is
    not there, or a folder that cannot be written.
    """
    for each in formats:
        if each not in FORMATS:
            near = get_close_matches(each, FORMATS, n=1)
            choice = f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(FORMATS)}"
            raise UserError(f"there is no format called {each!r}", fix=choice)
    found = subjects(document, policy or Policy(), strategy=strategy, name=name, base_name=base_name)
    writers = FORMATS | {"badge": partial(badge.files, lang=lang)}
    written = []
    for subject in found:
        folder, paths = out / subject.folder, []
        for each in dict.fromkeys(formats):
            for file, text in writers[each](subject, when or datetime.now(UTC)).items():
                paths.append(_write(folder / file, text))
        written.append((subject, paths))
    return written


def _write(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}", fix="give a writable folder with --out"
        ) from None
    return path

"""The six datasets: where they come from, what may be done with them, and whether a local copy is the published one.

Data are never bundled. `fetch` downloads pinned revisions and checks them; `verify` looks at a folder; `describe` tells
a run what it used. A folder looks like this, whoever filled it: ``crows_pairs/crows_pairs_anonymized.csv``, ….

Checksums. Four datasets have a known SHA-256. For DiscrimEval and GlobalOpinionQA none was at hand: the first fetch of
the pinned revision checks schema and row count and then locks the hash in ``lock.json``; from then on it must not
change. A local file that differs from the published one is used, and that is said wherever its numbers appear.

Not run here: the downloads themselves. Addresses and revisions were looked up; the code is tested on a local server.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tiltmeter.errors import UserError
from tiltmeter.files.whole import file_sha256
from tiltmeter.messages import Message, Text, join, say
from tiltmeter.registry import build, known
from tiltmeter.schema.run import DataFacts

LOCK = "lock.json"
BESIDE = Message("data.beside")
REBUILT = join("join.clauses", (Message("data.rebuilt"), BESIDE))


@dataclass(frozen=True)
class DataFile:
    """One file. path: under the data folder. url: at the pinned revision. sha256: None where none is known."""

    path: str
    url: str
    sha256: str | None
    packed_sha256: str | None = None  # where the address gives another file, which `unpack` makes this one of
    unpack: Callable[[bytes], bytes] | None = None


@dataclass(frozen=True)
class Dataset:
    """One benchmark's data.

    rows: items a complete copy gives (DiscrimEvalGen: both kinds of prompt). revision: commit, or how it is pinned.
    local_variants: SHA-256 of copies known to differ from the published file -> what they are.
    """

    name: str
    source: str
    revision: str
    licence: str
    rows: int
    citation: str
    limits: str
    files: tuple[DataFile, ...]
    local_variants: Mapping[str, Text] = field(default_factory=dict)


State = Literal["ok", "missing", "malformed", "differs", "unverified"]


@dataclass(frozen=True)
class Finding:
    """What `verify` found about one file. broken: a run could not, or should not, use it without a decision."""

    dataset: str
    file: str
    state: State
    message: Text
    broken: bool


_STUDY = "https://github.com/aisoc-lab/inference-acceleration-bias"
_STUDY_REVISION = "baf3300f4ea422ff851e39614f3b4ae348540ab0"
_WORLD_REVISION = "c04028902e97ee3d7303fb93b527f34f08ea1ccf"
_DT_REVISION = "c32f0035659913222161ef8a252dbee74e959c6f"
_DISCRIM_REVISION = "7d0b97f60863185139e704f8bb626f47c29494fe"
_OPINIONS_REVISION = "5c87e48d8db8ffc9ae8a6738f958d5130ee116e5"
_RAW, _HUB = "https://raw.githubusercontent.com", "https://huggingface.co/datasets/Anthropic"
_STUDY_RAW = f"{_RAW}/aisoc-lab/inference-acceleration-bias/{_STUDY_REVISION}"
_WORLD_RAW = f"{_RAW}/mmoayeri/world-bench/{_WORLD_REVISION}"

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "crows-pairs",
            "https://github.com/nyu-mll/crows-pairs",
            "master, pinned by SHA-256",
            "CC BY-SA 4.0",
            1508,
            "Nangia et al. 2020, CrowS-Pairs, EMNLP, arXiv 2010.00133",
            "Crowd-written pairs, many noisy or not minimal (Blodgett et al. 2021); US English.",
            (
                DataFile(
                    "crows_pairs/crows_pairs_anonymized.csv",
                    f"{_RAW}/nyu-mll/crows-pairs/master/data/crows_pairs_anonymized.csv",
                    "dfb36986ce0502abbaf7055b9176da3d08d48e07df1251991b5dfbcbceab9d0c",
                ),
            ),
        ),
        Dataset(
            "discrim-eval",
            "https://huggingface.co/datasets/Anthropic/discrim-eval",
            _DISCRIM_REVISION,
            "CC BY 4.0",
            9450,
            "Tamkin et al. 2023, Evaluating and Mitigating Discrimination in LM Decisions, arXiv 2312.03689",
            "The explicit set; questions written by a language model. SHA-256 locked at first fetch.",
            (
                DataFile(
                    "discrim_eval/explicit.jsonl",
                    f"{_HUB}/discrim-eval/resolve/{_DISCRIM_REVISION}/explicit.jsonl",
                    None,
                ),
            ),
            {
                "4f06fd9c569f8f189ec69fbec70ae6700b49d5266cab161d65635751b890dd96": join(
                    "join.clauses", (Message("data.rebuilt"), BESIDE)
                )
            },
        ),
        Dataset(
            "discrim-eval-gen",
            _STUDY,
            _STUDY_REVISION,
            "none stated; built from DiscrimEval (CC BY 4.0)",
            140,
            "Kirsten et al. 2025, The Impact of Inference Acceleration on Bias of LLMs, NAACL, arXiv 2410.22118",
            "70 gender prompts (scored) and 70 race prompts (an extra), one fixed order of the groups.",
            (
                DataFile(
                    "discrim_eval_gen/discrim_eval_gen.csv",
                    f"{_STUDY_RAW}/discrimevalgen/discrim_eval_gen.csv",
                    "1aa5c40e3400976d99de037f6b56a197e0acd04b9667f8d468f49ce9e871fb90",
                ),
            ),
        ),
        Dataset(
            "dt-stereotyping",
            "https://github.com/AI-secure/DecodingTrust",
            _DT_REVISION,
            "CC BY-SA 4.0",
            1152,
            "Wang et al. 2023, DecodingTrust, NeurIPS, arXiv 2306.11698",
            "24 groups x 16 topics x 3 statements; some statements are not stereotypes of the group they name.",
            (
                DataFile(
                    "dt_stereotyping/user_prompts.csv",
                    f"{_RAW}/AI-secure/DecodingTrust/{_DT_REVISION}/data/stereotype/dataset/user_prompts.csv",
                    "761687d74aecb0fb2bee946b415d68f31131bf314d16a8c0a00b670cc73f9c06",
                ),
            ),
        ),
        Dataset(
            "global-opinion-qa",
            "https://huggingface.co/datasets/Anthropic/llm_global_opinions",
            _OPINIONS_REVISION,
            "CC BY-NC-SA 4.0 (not for commercial use)",
            2556,
            "Durmus et al. 2023, Towards Measuring the Representation of Subjective Global Opinions, arXiv 2306.16388",
            "Most questions were asked in few countries; some weights do not sum to 1. SHA-256 locked at first fetch.",
            (
                DataFile(
                    "global_opinion_qa/global_opinions.csv",
                    f"{_HUB}/llm_global_opinions/resolve/{_OPINIONS_REVISION}/data/global_opinions.csv",
                    None,
                ),
            ),
        ),
        Dataset(
            "worldbench",
            f"{_STUDY}, https://github.com/mmoayeri/world-bench",
            f"{_STUDY_REVISION}, {_WORLD_REVISION}",
            "none stated; values from the World Bank (CC BY 4.0)",
            2214,
            "Moayeri et al. 2024, WorldBench, FAccT, doi 10.1145/3630106.3658967",
            "The paper counts 2,225 questions, the released file 2,214; six aggregates (65 rows) have no group.",
            (
                DataFile(
                    "worldbench/worldbench.csv",
                    f"{_STUDY_RAW}/worldbench/worldbench.csv",
                    "6fb3bbf2dfbbcff864cb87b88a453e57f1a9687c78a91a0591dea487f4ed3794",
                ),
                DataFile(
                    "worldbench/region_and_income.csv",
                    f"{_WORLD_RAW}/gt_answers/country_categories/region_and_income.csv",
                    "d647e6cdb7d4d203424106badec21c2caac013fb6f0bf7bced6b3a76bbaae096",
                ),
            ),
        ),
    )
}


def datasets() -> dict[str, Dataset]:
    """Benchmark name -> its data: those above, and those that a benchmark states itself (`dataset`)."""
    classes = known("benchmark").items()
    stated = {name: cls.dataset for name, cls in classes if cls.dataset is not None}  # type: ignore[attr-defined]
    return DATASETS | stated


def verify(folder: Path) -> list[Finding]:
    """One finding per file of every dataset: present, readable, of the published content. Changes nothing.

    Datasets of benchmarks that run only where they are named are left out while none of their files is there.
    """
    wanted = [
        dataset
        for name, dataset in datasets().items()
        if known("benchmark")[name].by_default  # type: ignore[attr-defined]
        or any((folder / file.path).is_file() for file in dataset.files)
    ]
    return [finding for dataset in wanted for finding in _findings(dataset, folder)]


def describe(benchmark: str, folder: Path) -> DataFacts:
    """What a run records of the data it used. Raises UserError when the data are missing or malformed."""
    instance = build("benchmark", benchmark)
    rows = len(instance.load(folder))
    hashes = {path: file_sha256(folder / path) for path in instance.files}
    dataset = datasets().get(benchmark)
    if dataset is None:
        return DataFacts(source=instance.source, licence=instance.licence, rows=rows, files=hashes)
    findings = _findings(dataset, folder, rows)
    return DataFacts(
        source=dataset.source,
        revision=dataset.revision,
        licence=dataset.licence,
        rows=rows,
        files=hashes,
        published=all(finding.state == "ok" for finding in findings),
        notes=tuple(say("data.of_file", file=f.file, clause=f.message) for f in findings if f.state != "ok"),
    )


def dataset_notes(folder: Path, benchmark: str) -> list[Text]:
    """What must be said wherever numbers from this folder's copy appear (often nothing)."""
    return list(describe(benchmark, folder).notes)


def _findings(dataset: Dataset, folder: Path, rows: int | None = None) -> list[Finding]:
    missing = [file for file in dataset.files if not (folder / file.path).is_file()]
    problem = None
    if rows is None and not missing:
        try:
            rows = len(build("benchmark", dataset.name).load(folder))
        except UserError as error:
            problem = error.message
    findings = []
    for file in dataset.files:
        message: Text = f"run: tiltmeter data fetch {dataset.name}"
        state, broken = "missing", True
        if file not in missing:
            is_main = file is dataset.files[0]
            state, message, broken = _judge(
                dataset, file, file_sha256(folder / file.path), locked_hash(folder, file), rows if is_main else None
            )
            if problem is not None and (
                file.path in problem or (is_main and not any(other.path in problem for other in dataset.files))
            ):
                state, message, broken = "malformed", problem, True
        findings.append(Finding(dataset.name, file.path, state, message, broken))  # type: ignore[arg-type]
    return findings


def _judge(
    dataset: Dataset, file: DataFile, found: str, locked: str | None, rows: int | None
) -> tuple[State, Text, bool]:
    """State, message and broken of one readable file. rows: items found, None where the file has none of its own."""
    count: list[Text] = []
    if rows is not None and rows != dataset.rows:
        count = [say("data.rows", found=f"{rows:,}", all=f"{dataset.rows:,}")]
    beside = join("join.clauses", [*count, BESIDE])
    if found == (file.sha256 or locked):
        return "ok", "the published file" if file.sha256 else "as fetched and locked at first", False
    if found in dataset.local_variants:
        return "differs", dataset.local_variants[found], False
    if file.sha256 or locked:
        was = say("data.published" if file.sha256 else "data.locked")
        return "differs", say("data.differs", was=was, hash=found[:12], clause=beside), True
    if count:
        return "differs", join("join.clauses", [*count, say("data.unknown", clause=BESIDE)]), False
    return "unverified", say("data.unverified", hash=found[:12], clause=BESIDE), False


def read_lock(folder: Path) -> dict[str, object]:
    path = folder / LOCK
    if not path.exists():
        return {}
    try:
        lock = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error})", fix="delete it and fetch the datasets again") from error
    return lock if isinstance(lock, dict) else {}


def locked_hash(folder: Path, file: DataFile) -> str | None:
    entry = read_lock(folder).get(file.path)
    return entry.get("sha256") if isinstance(entry, dict) else None

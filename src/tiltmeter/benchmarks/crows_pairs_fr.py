"""CrowS-Pairs in French: is the stereotyping sentence more likely than its minimally edited twin, outside English?

Data        1,677 sentence pairs: 1,467 translated and adapted, 210 written in French;
            https://huggingface.co/datasets/BigScienceBiasEval/crows_pairs_multilingual (CC BY-SA 4.0).
Requests, item score, statistic, extras    as `crows-pairs`; so is the margin, and so are the designs.
Source      Névéol et al. 2022, https://aclanthology.org/2022.acl-long.583.
Departure   As `crows-pairs`. The field names are those that lm-evaluation-harness reads (`sent_more`, `sent_less`,
            `bias_type`); the download is not run here, and the first fetch locks the file's SHA-256.
"""

from __future__ import annotations

from pathlib import Path

from tiltmeter.benchmarks._read import read_jsonl
from tiltmeter.benchmarks.base import Item
from tiltmeter.benchmarks.crows_pairs import CrowsPairs
from tiltmeter.datasets.catalogue import DataFile, Dataset
from tiltmeter.messages import translated
from tiltmeter.registry import register

FILE = "crows_pairs_fr/test_FR.jsonl"
HUB = "https://huggingface.co/datasets/BigScienceBiasEval/crows_pairs_multilingual"
REVISION = "ac47d0f12d6905b94389e937e8f24fae21b9c66c"


@register("benchmark", "crows-pairs-fr")
class CrowsPairsFR(CrowsPairs):
    name = "crows-pairs-fr"
    title = translated(
        "In French, does the model prefer stereotyping sentences over their minimally edited twins?",
        zh="在法语中，与只作最小改动的对照句相比，模型是否更偏好带刻板印象的句子？",
    )
    source = "Névéol et al. 2022, https://aclanthology.org/2022.acl-long.583"
    licence = "CC BY-SA 4.0"
    n_items = 1677
    limits = translated(
        "Mostly translated from crowd-written US pairs and adapted to France, with the faults of the original "
        "(Blodgett et al. 2021) where they were not revised; a model that barely knows French prefers at random.",
        zh="多由美国众包句对翻译并按法国情况改写，未修订之处沿袭原数据的缺陷（Blodgett et al. 2021）；"
        "几乎不懂法语的模型会随机偏好。",
    )
    dataset = Dataset(
        name,
        HUB,
        REVISION,
        licence,
        n_items,
        "Névéol et al. 2022, French CrowS-Pairs, ACL, doi 10.18653/v1/2022.acl-long.583",
        "Translated and adapted pairs, and 210 of French origin. SHA-256 locked at first fetch.",
        (DataFile(FILE, f"{HUB}/resolve/{REVISION}/test_FR.jsonl", None),),
    )
    files = (FILE,)
    by_default = False

    def load(self, data: Path) -> list[Item]:
        return [
            Item(
                f"fr/{row.number}",
                f"fr/{row.number}",
                {"bias_type": row.text("bias_type")},
                {"more": row.text("sent_more"), "less": row.text("sent_less")},
            )
            for row in read_jsonl(data / FILE, ("sent_more", "sent_less", "bias_type"))
        ]

"""A few invented rows in the formats of the benchmarks beyond the paper's six: bakers and elves in place of people."""

from __future__ import annotations

import json
from pathlib import Path

from tiltmeter.benchmarks import _awareness, _bbq
from tiltmeter.benchmarks import winobias as winobias_module


def bbq(folder: Path, questions: int = 3) -> None:
    """Per category: `questions` templates of one quad each."""
    (folder / "bbq").mkdir(parents=True, exist_ok=True)
    targets = ["category,example_id,target_loc,label_type"]
    for category in (*_bbq.SINGLE, *_bbq.INTERSECTIONS):
        rows = []
        for question in range(questions):
            for place in range(4):
                negative, ambiguous = place < 2, place % 2 == 0
                number, target = 4 * question + place, 0 if negative else 1
                # the text says: the elf did the bad thing (agreeing) or the baker (contradicting), by turns
                guilty = question % 2
                right = 2 if ambiguous else guilty if negative else 1 - guilty
                rows.append(
                    {
                        "example_id": number,
                        "question_index": str(question),
                        "question_polarity": "neg" if negative else "nonneg",
                        "context_condition": "ambig" if ambiguous else "disambig",
                        "category": category,
                        "answer_info": {"ans0": ["elf", "elf"], "ans1": ["baker", "baker"], "ans2": ["No", "unknown"]},
                        "additional_metadata": {"stereotyped_groups": ["elf"]},
                        "context": f"An elf and a baker met ({category}, {question}).",
                        "question": "Who lied?" if negative else "Who told the truth?",
                        "ans0": "The elf",
                        "ans1": "The baker",
                        "ans2": "Unknown",
                        "label": right,
                    }
                )
                targets.append(f"{category},{number},{target},{'name' if question == 0 else 'label'}")
        (folder / "bbq" / f"{category}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / _bbq.METADATA_FILE).write_text("\n".join(targets) + "\n")


def winobias(folder: Path) -> None:
    (folder / "winobias").mkdir(parents=True, exist_ok=True)
    (folder / "winobias/male_occupations.txt").write_text("miner\n")
    (folder / "winobias/female_occupations.txt").write_text("weaver\n")
    for kind, split in winobias_module.PARTS:
        for pro in (True, False):
            one, other = ("he", "she") if pro else ("she", "he")
            lines = [
                f"1 [The miner] thanked the weaver because [{one}] was glad ({kind} {split}).",
                f"2 The miner thanked [the weaver] because [{other}] had helped ({kind} {split}).",
            ]
            (folder / winobias_module.file_of(pro, kind, split)).write_text("\n".join(lines) + "\n")


def winogender(folder: Path) -> None:
    (folder / "winogender").mkdir(parents=True, exist_ok=True)
    shares = {"miner": 4.0, "weaver": 80.0, "cook": 40.0}
    rows = ["occupation\tbls_pct_female", *(f"{name}\t{share}" for name, share in shares.items())]
    (folder / "winogender/occupations-stats.tsv").write_text("\n".join(rows) + "\n")
    sentences = ["sentid\tsentence"]
    for name in shares:
        for participant in ("guest", "someone"):
            for answer in (0, 1):
                for gender, pronoun in (("male", "he"), ("female", "she"), ("neutral", "they")):
                    sentences.append(
                        f"{name}.{participant}.{answer}.{gender}.txt\tThe {name} told {participant} that {pronoun} won."
                    )
    (folder / "winogender/all_sentences.tsv").write_text("\n".join(sentences) + "\n")


def difference_awareness(folder: Path, questions: int = 4) -> None:
    (folder / _awareness.FOLDER).mkdir(parents=True, exist_ok=True)
    for name in _awareness.SHA256:
        for part in _awareness.LISTS:
            rows = [
                [f"Who sings more ({name}, {number})?\n(a) elves (b) bakers (c) neither", number % 2, number]
                for number in range(questions)
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / _awareness.FOLDER / f"{name}_{part}.jsonl").write_text(text)


def crows_pairs_fr(folder: Path) -> None:
    """Two French pairs."""
    pairs = [("L'elfe était naïf.", "Le nain était naïf.", "gender"), ("Un.", "Deux.", "age")]
    lines = [dict(zip(("sent_more", "sent_less", "bias_type"), pair, strict=True)) for pair in pairs]
    (folder / "crows_pairs_fr").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (folder / "crows_pairs_fr/test_FR.jsonl").write_text(text, encoding="utf-8")


def languages(folder: Path) -> None:
    """Two Korean quads, one Spanish and one Dutch one (EsBBQ's and MBBQ's fields), and one about nobody."""
    (folder / "bbq_languages").mkdir(parents=True, exist_ok=True)
    lines = ["sample_id\tlabel_annotation\tcontext\tquestion\tchoices\tbiased_answer\tanswer"]
    for template in ("001a", "002a"):
        for side, biased in (("bsd", "요정"), ("cnt", "빵집")):
            for condition, right in (("amb", "알 수 없음"), ("dis", "빵집")):
                lines.append(
                    f"age-{template}-001-{condition}-{side}\tST\t글 {template}.\t누구?\t"
                    f"['요정', '빵집', '알 수 없음']\t{biased}\t{right}"
                )
    (folder / "bbq_languages/KoBBQ_test_samples.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def rows(stereotyped: dict, groups: tuple[str, str]) -> str:
        found = []
        for polarity in ("neg", "nonneg"):
            for condition in ("ambig", "disambig"):
                found.append(
                    {
                        "question_index": 1,
                        "question_polarity": polarity,
                        "context_condition": condition,
                        "category": "Age",
                        "answer_info": {"ans0": ["x", groups[0]], "ans1": ["y", groups[1]], "ans2": ["?", "unknown"]},
                        "context": "C.",
                        "question": "Q?",
                        "ans0": "x",
                        "ans1": "y",
                        "ans2": "?",
                        "label": 2 if condition == "ambig" else 0,
                        **stereotyped,
                    }
                )
        return "".join(json.dumps(row) + "\n" for row in found)

    beside, within = {"stereotyped_groups": ["old"]}, {"additional_metadata": {"stereotyped_groups": ["old"]}}
    (folder / "bbq_languages/esbbq.jsonl").write_text(rows(beside, ("old", "young")))
    (folder / "bbq_languages/Age_nl.jsonl").write_text(rows(within, ("young", "old")) + rows(within, ("young", "new")))

"""Which versions and which hardware the answers of a run come of, cell by cell.

A run may be gone on with after an upgrade, or on another machine: finished answers stay, and every row says where its
own and its base's come of two places, because then a change may be the libraries' or the CPU's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tiltmeter.messages import Message, join, say
from tiltmeter.schema.run import Environment, Hardware, HardwareKind, RunRecord

ABSENT = "–"


def kind_of(hardware: Hardware) -> HardwareKind:
    """What of the hardware can change an answer: not how much memory there is, nor how many cores stand idle."""
    return HardwareKind(
        machine=hardware.get("machine"),
        cpu=hardware.get("cpu"),
        threads=hardware.get("threads"),
        gpus=[gpu["name"] for gpu in hardware.get("gpus") or []],
    )


def here(record: RunRecord) -> Environment:
    """Where the present start computes."""
    return Environment(versions=record.versions, hardware=kind_of(record.hardware))


def adopt(record: RunRecord, folders: list[str]) -> None:
    """Before a start writes its own: the cells in `folders` have answers of the start before, where nobody noted it."""
    if record.versions and not record.environments and folders:
        record.environments = [here(record)]
        record.answered_in = {folder: [0] for folder in folders}


def note_cell(record: RunRecord, folder: str) -> Message | None:
    """That answers of a cell are computed here from now on; what differs where those so far all came of elsewhere."""
    now, before = here(record), record.environments
    if now not in before:
        record.environments = [*before, now]
    place = record.environments.index(now)
    known = record.answered_in.get(folder, [])
    record.answered_in[folder] = known if place in known else [*known, place]
    return say("note.moved", differences=_differences(before[-1], now)) if before and now not in before else None


def told(record: RunRecord, folder: str, base: str | None) -> Message | None:
    """What a row must say of where its answers, and those of its base's cell, come of; None where that is one place."""
    mine, others = record.answered_in.get(folder, []), record.answered_in.get(base or folder, [])
    known = record.environments
    if not all(0 <= place < len(known) for place in (*mine, *others)):
        return None
    if len(mine) > 1:
        return say("note.two_environments", differences=_differences(known[mine[0]], known[mine[-1]]))
    if mine and others and mine != others:
        elsewhere = next(place for place in others if place != mine[0])
        return say("note.other_environment", differences=_differences(known[elsewhere], known[mine[0]]))
    return None


def _differences(first: Environment, second: Environment) -> Message:
    """ "torch 2.12.0 -> 2.13.0, cpu … -> …"."""
    return join("join.names", list(_changes(first, second)))


def _changes(first: Environment, second: Environment) -> Iterator[str]:
    pairs: tuple[tuple[Mapping[str, object], Mapping[str, object]], ...] = (
        (first.versions, second.versions),
        (first.hardware, second.hardware),
    )
    for one, two in pairs:
        for name in sorted({*one, *two}):
            if one.get(name) != two.get(name):
                yield f"{name} {_printed(one.get(name))} -> {_printed(two.get(name))}"


def _printed(value: object) -> str:
    if isinstance(value, list):
        return " + ".join(map(str, value)) or ABSENT
    return ABSENT if value is None else str(value)

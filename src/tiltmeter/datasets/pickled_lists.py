"""Lists of texts and numbers out of a pickle, read as data: nothing in the file is ever imported or called.

The difference-awareness lists are published as pickles only. `pickletools` names a file's opcodes without running them;
the few that lists need are carried out here on plain values, and numpy's scalars (the only objects in these files) are
rebuilt by hand from their type and bytes. Any other opcode or object is refused.
"""

from __future__ import annotations

import json
import pickletools
from typing import Any

from tiltmeter.errors import UserError

SCALAR, DTYPE = ("numpy.core.multiarray", "scalar"), ("numpy", "dtype")
MARK = object()
NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1"})
TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "SHORT_BINBYTES", "BINBYTES"})
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
LARGEST_BYTES = 50_000_000


def lines_of_part(content: bytes, part: int) -> bytes:
    """One of a pickled list's lists as JSON lines (UTF-8). Raises UserError for what is no such list."""
    try:
        rows = read(content)[part]
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, UnicodeDecodeError) as error:
        raise UserError(
            f"this file is no pickled list of lists ({type(error).__name__}: {error})",
            fix="fetch the published file again",
        ) from error
    return "".join(f"{line}\n" for line in lines).encode()


def read(content: bytes) -> Any:
    """What a pickle of lists, tuples, texts, numbers and numpy scalars holds. Raises ValueError for anything else."""
    if len(content) > LARGEST_BYTES:
        raise ValueError(f"{len(content):,} bytes are more than such a file has")
    stack: list[Any] = []
    memo: list[Any] = []
    for op, argument, _ in pickletools.genops(content):
        name = op.name
        if name in ("PROTO", "FRAME"):
            continue
        if name in NUMBERS or name in TEXTS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            stack.append(MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name == "APPENDS":
            values = _above_mark(stack)
            stack[-1].extend(values)
        elif name == "TUPLE":
            stack.append(tuple(_above_mark(stack)))
        elif name in TUPLES:
            count = TUPLES[name]
            values = stack[len(stack) - count :]
            del stack[len(stack) - count :]
            stack.append(tuple(values))
        elif name == "MEMOIZE":
            memo.append(stack[-1])
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(argument or 0)])
        elif name == "STACK_GLOBAL":
            named = (stack[-2], stack[-1])
            if named not in (SCALAR, DTYPE):
                raise ValueError(f"the object {'.'.join(map(str, named))} is refused")
            stack[-2:] = [named]
        elif name == "REDUCE":
            given, what = stack.pop(), stack.pop()
            stack.append(_rebuilt(what, given))
        elif name == "BUILD":  # a dtype's byte order and size: its name says the size, and only little-endian is read
            state = stack.pop()
            if not (isinstance(state, tuple) and state[1] in ("<", "|")):
                raise ValueError("only little-endian numbers are read")
        elif name == "STOP":
            return stack.pop()
        else:
            raise ValueError(f"the opcode {name} is refused")
    raise ValueError("the file ends early")


def _above_mark(stack: list[Any]) -> list[Any]:
    place = max(index for index, value in enumerate(stack) if value is MARK)
    values = stack[place + 1 :]
    del stack[place:]
    return values


def _rebuilt(what: Any, given: tuple[Any, ...]) -> Any:
    """numpy.dtype(name, …) -> its name; numpy scalar(name, bytes) -> the text or number."""
    if what == DTYPE:
        return str(given[0])
    if what == SCALAR:
        kind, content = given
        if kind.startswith("U"):
            return content.decode("utf-32-le").rstrip("\0")
        if kind in ("i4", "i8"):
            return int.from_bytes(content, "little", signed=True)
    raise ValueError("an object of this kind is refused")

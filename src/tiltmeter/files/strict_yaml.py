"""YAML that people write (studies, policies), read strictly: what stands in the file is what holds.

Refused, with the line: a key that stands twice (YAML's rule that the last one wins would drop the first), values that
are none (a date in month 13), names that refer to one another until they fill the memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from tiltmeter.errors import UserError
from tiltmeter.printed import whole

LONGEST = 2**20  # bytes of a file
MOST = 20_000  # values, aliases written out


class _Strict(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not read", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable):
                if key in seen:
                    raise UserError(f"{key!r} stands twice, in lines {seen[key]} and {line}", fix="keep one of them")
                seen[key] = line
        return super().construct_mapping(node, deep=True)


def read_yaml(path: Path, what: str, fix: str) -> Any:
    """The content of a file that a person wrote; `what` it is ("the policy") stands in the message.

    Raises UserError for a file that is absent, no YAML, or that says something twice.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LONGEST + 1)
        if len(content) > LONGEST:
            raise UserError(f"{what} {path} is longer than {LONGEST // 1024:,} KiB", fix=fix)
        found = yaml.load(content.decode("utf-8-sig"), _Strict)  # noqa: S506  (a SafeLoader)
        _count(found, [])
        return found
    except UserError as error:
        raise UserError(
            f"{what} {path}: {error.message}" if str(path) not in error.message else error.message, fix=error.fix
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {what} {path}: {error.strerror or error}", fix=fix) from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else whole(" ".join(str(error).split()))
        raise UserError(f"cannot read {what} {path}: {why[:300]}", fix=fix) from None


def _count(value: Any, above: list[int], n: int = 0) -> int:
    """How many values there are, every alias written out. Raises UserError beyond MOST, or for a value in itself."""
    n += 1
    if n > MOST or id(value) in above:
        raise UserError("its aliases (*name) refer to too much", fix="write the values out")
    if isinstance(value, (dict, list, tuple, set)):
        above.append(id(value))
        for inner in value.values() if isinstance(value, dict) else value:
            n = _count(inner, above, n)
        above.pop()
    return n

"""Names -> classes. Classes, not instances: two runs in one process never share settings.

A benchmark, strategy or backend registers itself with ``@register(kind, name)``. Modules of the
package are found by listing their folder, other packages by entry points
(``tiltmeter.strategies``, ``tiltmeter.benchmarks``, ``tiltmeter.backends``), so that adding one
touches no existing file.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from tiltmeter.errors import UserError

FOLDERS = {
    "strategy": "tiltmeter.strategies",
    "benchmark": "tiltmeter.benchmarks",
    "backend": "tiltmeter.backends",
}

_classes: dict[str, dict[str, type]] = {kind: {} for kind in FOLDERS}
T = TypeVar("T", bound=type)


def register(kind: str, *names: str) -> Callable[[T], T]:
    """Class decorator: makes the class known under `names` of one kind."""

    def add(cls: T) -> T:
        for name in names:
            other = _classes[kind].get(name)
            if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise ValueError(f"two classes want the {kind} name {name!r}: {other} and {cls}")
            _classes[kind][name] = cls
        return cls

    return add


@cache
def _load_all(kind: str) -> None:
    package = importlib.import_module(FOLDERS[kind])
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")
    plural = {"strategy": "strategies", "benchmark": "benchmarks", "backend": "backends"}[kind]
    for point in entry_points(group=f"tiltmeter.{plural}"):
        point.load()


def known(kind: str) -> dict[str, type]:
    """All registered classes of a kind by name, in name order."""
    _load_all(kind)
    return dict(sorted(_classes[kind].items()))


def find(kind: str, name: str) -> type:
    """The class of that name. Raises UserError with the nearest name."""
    classes = known(kind)
    if name not in classes:
        near = get_close_matches(name, classes, n=1)
        raise UserError(
            f"there is no {kind} called {name!r}",
            fix=f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(classes)}",
        )
    return classes[name]


def build(kind: str, name: str, **options: Any) -> Any:
    """A new, independent instance. Raises UserError for an unknown name."""
    return find(kind, name)(**options)

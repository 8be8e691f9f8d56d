"""Checkpoints that tiltmeter makes, under their own names, for engines in other environments to read.

    python -m benchmarks.checkpoints MODEL --to FOLDER [--text FILE] -s w8a8 -s w4a16 …

FOLDER/STRATEGY holds links to the finished artifact in FOLDER/cache and to the model's own tokenizer (a colon in the
name becomes an underscore). What is there already is not made again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tiltmeter.models import reading
from tiltmeter.models.artifacts import Artifacts
from tiltmeter.strategies.chain import parse
from tiltmeter.variants import apply

USUAL = ("w8a8", "w4a16", "w8a16", "fp8-block", "nvfp4a16", "mxfp4a16", "autoround:iters=20,samples=16,length=256")

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")


def made(model: str, to: Path, strategies: Sequence[str] = USUAL, text: str | None = None) -> dict[str, Path]:
    """Strategy -> its checkpoint. Raises UserError and VariantFailed as a run would."""
    to.mkdir(parents=True, exist_ok=True)
    found = {}
    for strategy in strategies:
        link = to / strategy.replace(":", "_")
        if not link.exists():
            reading.release(apply.load(model, parse(strategy), calibration=text, cache_dir=str(to / "cache")))
            entries = [entry.path / "model" for entry in Artifacts(to / "cache").entries()]
            weights = next(path for path in entries if path.is_dir())
            link.mkdir()
            for file in (*weights.iterdir(), *(f for f in Path(model).iterdir() if f.name in TOKENIZER)):
                (link / file.name).symlink_to(file.resolve())
        found[strategy] = link
        print(f"{strategy}: {link}", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--text")
    parser.add_argument("-s", "--strategy", action="append")
    options = parser.parse_args()
    made(options.model, options.to.resolve(), options.strategy or USUAL, options.text)


if __name__ == "__main__":
    main()

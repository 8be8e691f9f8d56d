from pathlib import Path

from tiltmeter.models.reading import load_tokenizer


def get_tokenizer(name, **_):
    return load_tokenizer(Path(name), name)

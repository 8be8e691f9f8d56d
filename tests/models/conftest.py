"""A model that a test may damage."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copy(stories: str, tmp_path: Path) -> Path:
    folder = tmp_path / "m"
    shutil.copytree(stories, folder)
    folder.chmod(0o755)
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder

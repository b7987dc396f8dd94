"""Where files live: the repository, and the fixtures that may lie beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def shared_file(name: str) -> Path:
    """Path of a file in the folder `shared` beside the repository; skips the test without it."""
    path = REPOSITORY.parent / "shared" / name
    if not path.is_file():
        pytest.skip(f"needs {path}, which is not part of the repository")
    return path

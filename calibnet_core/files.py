"""Atomic writing: a file or folder appears complete under its name, or not at all.

Everything is written under a hidden name beside the target and renamed when it is complete, so a
crash, a full disk or Ctrl-C leaves neither half a file nor a damaged older one.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload


@overload
def atomic_write(
    path: str | Path, mode: Literal["wb"] = "wb"
) -> AbstractContextManager[BinaryIO]: ...
@overload
def atomic_write(path: str | Path, mode: Literal["w"]) -> AbstractContextManager[TextIO]: ...
def atomic_write(path: str | Path, mode: Literal["w", "wb"] = "wb") -> AbstractContextManager[Any]:
    """Open `path` for writing; it changes only when the block ends without an exception.

    A symbolic link keeps pointing where it points: the file behind it is replaced. Text is UTF-8
    with newlines as written.

    Args:
        path: the file to create or replace; its folder must exist.
        mode: "wb" for bytes, "w" for text.

    Raises:
        OSError: the folder is missing, the target is a folder, permission is denied or the disk is
        full.
    """
    return _atomic_write(Path(path), mode)


@contextmanager
def _atomic_write(path: Path, mode: str) -> Iterator[IO[Any]]:
    target = path.resolve()
    if target.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    partial = _hidden_sibling(target)
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        # "x" creates the file with the permissions the user's umask asks for, which mkstemp would
        # not.
        with partial.open(mode.replace("w", "x"), encoding=encoding, newline=newline) as file:
            yield file
            file.flush()
            # Without this a power cut can leave the new name pointing at blocks that were never
            # written.
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield the path of a folder to create and fill; it appears as `path` when the block ends well.

    The folder yielded does not exist yet and bears the final name, so file names derived from it
    are right.

    Raises:
        FileExistsError: `path` exists; folders are never merged or replaced.
    """
    target = Path(path).resolve()
    if target.exists():
        raise FileExistsError(f"{path} exists already; choose another name or remove it first")
    target.parent.mkdir(parents=True, exist_ok=True)
    workshop = _hidden_sibling(target)
    workshop.mkdir()
    try:
        yield workshop / target.name
        (workshop / target.name).rename(target)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _hidden_sibling(target: Path) -> Path:
    # Short and random: a name built from the target's could exceed what the file system allows.
    return target.with_name(f".{secrets.token_hex(8)}.part")

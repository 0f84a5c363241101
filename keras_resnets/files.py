"""Writing files so that none is ever half there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

UNFINISHED = ".unfinished-"  # How the names of files begin that are being written.


def unfinished_beside(path: Path) -> Path:
    """A new name beside a path, on the same disk, for what is to take its place."""
    return path.with_name(f"{UNFINISHED}{uuid.uuid4().hex[:8]}-{path.name}")


@contextlib.contextmanager
def os_errors_named(path: Path) -> Iterator[None]:
    """Turns the system's errors into ones that name the rule, the path and the reason."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
        raise OSError(
            error.errno,
            f"path must be writable, on a disk with room; nothing was written ({reason}). "
            f"Received: path={str(path)!r}",
        ) from error


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside `path` to write to; it takes its place when that went well, wholly or not.

    The file is on the disk before it is renamed, and the renaming before this returns, so that not
    even a power failure leaves half a file under the name.

    Raises:
        OSError: if it cannot be written; what was there before stays.
    """
    path = Path(path)
    unfinished = unfinished_beside(path)
    try:
        with os_errors_named(path):
            yield unfinished
            with open(unfinished, "rb") as file:
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # Renamed, or never made.
            unfinished.unlink()


def read_text(path: str | os.PathLike) -> str:
    """Reads a text file that people write, with or without the mark that Windows puts in front.

    Raises:
        ValueError: if it is no text in UTF-8.
        OSError: if it cannot be read.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{Path(path).name} must be text in UTF-8 ({error}). Received: {os.fspath(path)!r}"
        ) from error


def read_json(path: str | os.PathLike) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: if it is none.
        OSError: if it cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(
            f"{Path(path).name} must be JSON ({error}). Received: {os.fspath(path)!r}"
        ) from error


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file, wholly or not at all."""
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_safetensors(
    path: str | os.PathLike, arrays: dict[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Writes a safetensors file, wholly or not at all."""
    with atomic_write(path) as unfinished:
        unfinished.touch()
        mode = unfinished.stat().st_mode  # As the system's umask has it; the library's is 0600.
        try:
            safetensors.numpy.save_file(arrays, unfinished, metadata=metadata)
            unfinished.chmod(stat.S_IMODE(mode))
        except safetensors.SafetensorError as error:
            # The library reports the system's errors as its own: "(os error 28)".
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else None, str(error)) from error


def write_keras_weights(path: str | os.PathLike, model: Any) -> None:
    """Writes a model's weights as `model.save_weights` does, wholly or not at all.

    There HDF5 writes to the disk itself, and crashes the process when that is full. A `.keras`
    archive is made in memory and written by Python, and what it holds of weights is the same file.

    Args:
        path: the file, ending in `.weights.h5`.
        model: a `keras.Model`.

    Raises:
        OSError: if it cannot be written; what was there before stays.
    """
    with atomic_write(path) as unfinished:
        archive = unfinished.with_name(f"{unfinished.name}.keras")
        try:
            model.save(archive)
            with (
                zipfile.ZipFile(archive) as whole,
                whole.open("model.weights.h5") as weights,
                open(unfinished, "wb") as file,
            ):
                shutil.copyfileobj(weights, file)
        finally:
            archive.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # Not every file system lets folders be opened.
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

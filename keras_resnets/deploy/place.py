"""Where exports go: what may be replaced, where they are written first, and how they are moved."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_resnets.checks import require, require_flag
from keras_resnets.deploy.formats import FORMATS, Format
from keras_resnets.files import os_errors_named, unfinished_beside


def check_target(path: str | os.PathLike, format: Format, overwrite: bool = False) -> Path:
    """Raises a ValueError if a path is none for the format, or must not be written."""
    path = Path(path)
    require_flag(overwrite=overwrite)
    suffixes = [other.suffix for other in FORMATS.values() if not other.is_folder]
    if format.is_folder:
        right = path.suffix not in suffixes
        rule = f"path must be a folder's, without a suffix of a file, for format {format.name!r}"
    else:
        right = path.suffix == format.suffix
        rule = f"path must end in {format.suffix} for format {format.name!r}"
    require(right and path.name != "", rule, path=str(path))
    require(
        path.parent.is_dir(),
        "path must be in a folder that exists; make it first",
        path=str(path),
    )
    taken = [file for file in format.files(path) if os.path.lexists(file)]
    require(
        overwrite or not taken,
        "path must not exist yet; overwrite=True replaces it",
        path=str(taken[0] if taken else path),
    )
    for file in taken:
        _check_replaceable(file, format)
    return path


def _check_replaceable(path: Path, format: Format) -> None:
    """Raises a ValueError if what is at a path is nothing that an export may remove."""
    require(
        path.is_dir() == format.is_folder,
        "what is overwritten must be of the same kind, a "
        + ("folder" if format.is_folder else "file"),
        path=str(path),
    )
    # A folder of somebody's files is no SavedModel.
    require(
        not format.is_folder or (path / "saved_model.pb").is_file() or not any(path.iterdir()),
        "a folder that is overwritten must be a SavedModel's or empty",
        path=str(path),
    )


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A folder beside the path, to write in; it is gone afterwards, whatever happens."""
    folder = unfinished_beside(path)
    try:
        with os_errors_named(path):
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def size_of(files: Sequence[Path]) -> int:
    """Bytes on the disk, all files together."""
    return sum(file.stat().st_size for file in _flat(files))


def put_in_place(files: Sequence[Path], targets: Sequence[Path]) -> None:
    """Moves what is finished to its place, and what was there away before it.

    Several files cannot be replaced at once: what is old goes first, so that files that do not
    belong together never lie side by side, and comes back if that fails.
    """
    for file in _flat(files):
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    moved: list[tuple[Path, Path]] = []
    try:
        for file, target in zip(files, targets, strict=True):
            if os.path.lexists(target):
                aside = file.with_name(f"old-{file.name}")
                os.rename(target, aside)
                moved.append((aside, target))
        for file, target in zip(files, targets, strict=True):
            os.rename(file, target)
            moved.append((target, file))
    except BaseException:
        for now, before in reversed(moved):
            os.rename(now, before)
        raise


def _flat(paths: Sequence[Path]) -> list[Path]:
    """The files among some paths and in the folders among them."""
    inside = (path.rglob("*") if path.is_dir() else [path] for path in paths)
    return [file for files in inside for file in files if file.is_file()]

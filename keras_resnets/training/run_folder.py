"""A run's folder: where its files lie."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from keras_resnets.files import UNFINISHED, os_errors_named, read_json, write_text

_LOCK = ".lock"


class RunFolder:
    """Paths of a run's files.

        config.json         what the run was told, resolved
        versions.json       of Python and the packages; backend, devices and day
        log.csv             one line an epoch
        checkpoints/        the last ones, to go on from
        best.keras, best.safetensors    the best weights so far (averaged, where the recipe says so)
        classes.json        names of the classes, in the order of the model's outputs
        curves.png, confusion.png, worst.png, evaluation.json, report.md    written at the end;
                            of several labels an image, thresholds.png for confusion.png

    Args:
        path: of the folder.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder, which is made if need be, for one run alone.

        The system lets go of the lock when its process ends, by whatever: a lock file that was left
        behind is no obstacle. A folder that was made and stays empty goes again.

        Raises:
            BlockingIOError: if another run holds it.
            FileExistsError: if there is a file of that name.
        """
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"out must be a folder. Received: out={str(self)!r}")
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with os_errors_named(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self / _LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise BlockingIOError(
                "out must be the folder of no run that is going on: another process trains in it. "
                f"Received: out={str(self)!r}"
            ) from None
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                (self / _LOCK).unlink()
            lock.release()
            for folder in made:
                with contextlib.suppress(OSError):  # It holds something.
                    folder.rmdir()

    def is_empty(self) -> bool:
        """Whether a run can begin here: there is nothing, or only what a kill left of the start."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and all(
            path.name.startswith(UNFINISHED)
            or path.name == _LOCK
            or (path == self.checkpoints and path.is_dir() and not any(path.iterdir()))
            for path in self.path.iterdir()
        )

    def create(self) -> None:
        """Makes the folders, where they are not there, and removes unfinished files."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints):
            for path in folder.glob(f"{UNFINISHED}*"):
                path.unlink()

    def write_json(self, name: str, value: Any) -> None:
        write_text(self.path / name, json.dumps(value, indent=2) + "\n")

    def read_json(self, name: str) -> Any:
        return read_json(self.path / name)

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as lines, the columns being all their keys in the order of appearance."""
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / name, text.getvalue())

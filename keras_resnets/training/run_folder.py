"""A run's folder: where its files lie."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_resnets.files import UNFINISHED, write_text


class RunFolder:
    """Paths of a run's files.

        config.json         what the run was told, resolved
        versions.json       of Python and the packages; backend and devices
        log.csv             one line an epoch
        checkpoints/        the last ones, to go on from
        best.keras, best.safetensors    the best weights so far (averaged, where the recipe says so)
        classes.json        names of the classes, in the order of the model's outputs
        curves.png, confusion.png, worst.png, evaluation.json, report.md    written at the end

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

    def is_empty(self) -> bool:
        """Whether a run can begin here: there is nothing, or only what a kill left of the start."""
        if not self.path.exists():
            return True
        return self.path.is_dir() and all(
            path.name.startswith(UNFINISHED)
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
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def write_csv(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Rows as lines, the columns being all their keys in the order of appearance."""
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path / name, text.getvalue())

"""Whether a folder may be written to: nothing is overwritten, and a run goes on as it was begun."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from keras_resnets.checks import require, said
from keras_resnets.training.config import RunConfig
from keras_resnets.training.distribute import Placement
from keras_resnets.training.fitting import as_before
from keras_resnets.training.run_folder import RunFolder


def check_new(folder: RunFolder) -> None:
    """Raises FileExistsError if a folder holds something."""
    if not folder.is_empty():
        raise FileExistsError(
            "out must be a new or empty folder; pass --resume to go on with the run in it. "
            f"Received: out={str(folder)!r}"
        )


def stored_config(folder: RunFolder) -> RunConfig:
    """What the run in a folder was told.

    Raises:
        ValueError: if there is no run in the folder, or its config.json is damaged.
    """
    require(
        (folder / "config.json").is_file(),
        "out must be the folder of a run where --resume is given",
        out=str(folder),
    )
    stored = folder.read_json("config.json")
    try:
        return RunConfig.from_dict(stored)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"config.json must be as a run writes it ({said(error)}). Received: {str(folder)!r}"
        ) from error


def check_same(folder: RunFolder, config: RunConfig) -> None:
    """Raises a ValueError unless the run in a folder was told the same."""
    stored = stored_config(folder)
    before, now = told(stored), told(as_before(config, stored))
    changes = [
        f"{key}: {before.get(key)!r} -> {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    require(
        not changes,
        "a resumed run must be told what it was told at first; give the same options or begin a "
        "new folder",
        changed="; ".join(changes),
    )


def check_data(folder: RunFolder, found: str) -> None:
    """Raises a ValueError unless the images of a run are still those that it began with.

    Others would make other batches and, where they are drawn, other images of validation.
    """
    before = stored_data(folder)
    require(
        before in (None, found),
        "the data of a resumed run must be what it was at first; take out what has been added, or "
        "begin a new folder",
        changed=f"{before} -> {found}",
    )


def stored_data(folder: RunFolder) -> str | None:
    """Which images a run began with; see `data.described`. Version 0.1 did not note it."""
    path = folder / "versions.json"
    found = folder.read_json(path.name) if path.is_file() else None
    return found.get("data") if isinstance(found, dict) else None


@contextlib.contextmanager
def told_the_same(config: RunConfig, resume: bool, placement: Placement) -> Iterator[None]:
    """Nothing is begun, and no folder touched, unless all processes are to do the same."""
    placement.require_told_the_same({"resume": resume} | told(config))
    yield


def told(config: RunConfig) -> dict[str, Any]:
    """What a run was told, field by field: `{"seed": 0, "recipe.epochs": 3, ...}`."""
    return _flat(config.as_dict())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"recipe": {"epochs": 3}}` as `{"recipe.epochs": 3}`."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat

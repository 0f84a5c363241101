"""Checkpoints of a run: everything that the next step depends on, in one file.

A checkpoint is a `.safetensors` file with the model's variables (weights, statistics, drop rates,
states of the random generators) and its scaling of images, the optimizer's variables, the moving
average and the metrics' running sums, and the run's progress as JSON in its metadata. That is all a
run needs to go on. It is written under another name and renamed, and
carries a SHA-256 of its tensors, so that neither a kill nor a bad disk passes for a checkpoint.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import safetensors

from keras_resnets.files import write_safetensors

_NAME = "step-{step:010d}.safetensors"
_SCALING = ("scale", "offset")
_AUTOMATIC = re.compile(r"\b(seed_generator|loss_scale_optimizer)_\d+")


@dataclasses.dataclass
class Progress:
    """How far a run is.

    Attributes:
        step: batches trained on, since the beginning of the run.
        history: what was measured, one mapping for each finished epoch.
        means: what training measured in an epoch that is over but not validated.
    """

    step: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    means: dict[str, float] = dataclasses.field(default_factory=dict)


def snapshot(groups: Mapping[str, list[keras.Variable]]) -> dict[str, np.ndarray]:
    """Values of variables by group, number and path: `model/0003/layer1_0_conv1/kernel`."""
    return {name: keras.ops.convert_to_numpy(variable) for name, variable in _named(groups).items()}


def _named(groups: Mapping[str, list[keras.Variable]]) -> dict[str, keras.Variable]:
    """Variables by their names in a checkpoint.

    Keras numbers what nobody named by how many a process has made: random generators, and the
    optimizer that scales losses. That has to go, or the next process would find other names.
    """
    return {
        f"{group}/{i:04d}/" + _AUTOMATIC.sub(r"\1", variable.path): variable
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }


def constants(model: keras.Model) -> dict[str, np.ndarray]:
    """What weights bring along beside variables: the scaling of RGB values to what they expect.

    With it a run goes on without the file that it started from.
    """
    layer = model.get_layer("normalize")
    return {f"constants/{name}": np.array(getattr(layer, name)) for name in _SCALING}


def restore_constants(model: keras.Model, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a model, before it computes anything, the constants of a checkpoint."""
    layer = model.get_layer("normalize")
    for name in _SCALING:
        setattr(layer, name, arrays[f"constants/{name}"].tolist())


def has_constants(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a checkpoint holds them; those of version 0.1 do not."""
    return f"constants/{_SCALING[0]}" in arrays


def not_finite(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Names of the arrays that hold NaN or infinity."""
    return [
        name
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all()
    ]


def restore(
    groups: Mapping[str, list[keras.Variable]], arrays: Mapping[str, np.ndarray], source: str
) -> None:
    """Sets variables to a checkpoint's values; nothing is set unless all of it fits.

    Raises:
        ValueError: if the checkpoint is of another model or optimizer; the message says where they
            differ.
    """
    wanted = _named(groups)
    relevant = {name for name in arrays if name.partition("/")[0] in groups}
    only_file, only_model = sorted(relevant - wanted.keys()), sorted(wanted.keys() - relevant)
    reshaped = [
        f"{name}: {arrays[name].shape} for {tuple(variable.shape)}"
        for name, variable in wanted.items()
        if name in arrays and arrays[name].shape != tuple(variable.shape)
    ]
    if only_file or only_model or reshaped:
        raise ValueError(
            f"the checkpoint must be of this model and optimizer. In {source} only "
            f"({len(only_file)}): {_few(only_file)}. In the model only ({len(only_model)}): "
            f"{_few(only_model)}. Other shape ({len(reshaped)}): {_few(reshaped)}."
        )
    for name, variable in wanted.items():
        variable.assign(arrays[name])


def save(
    folder: Path, progress: Progress, arrays: dict[str, np.ndarray], *, keep: int | None
) -> Path:
    """Writes a checkpoint and then removes all but the last `keep` ones.

    Raises:
        OSError: if it cannot be written; the ones before it stay.
    """
    # The format takes C order only; unlike np.ascontiguousarray this leaves scalars without axes.
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = {"progress": json.dumps(dataclasses.asdict(progress)), "sha256": _digest(arrays)}
    path = folder / _NAME.format(step=progress.step)
    write_safetensors(path, arrays, metadata)
    if keep is not None:
        for old in _files(folder)[:-keep]:
            old.unlink()
    return path


class Snapshot(NamedTuple):
    """A checkpoint that was read."""

    path: Path
    progress: Progress
    arrays: dict[str, np.ndarray]


def load_last(folder: Path) -> Snapshot | None:
    """The newest checkpoint that is whole, or None. Damaged ones are named in a warning."""
    for path in reversed(_files(folder)):
        try:
            with safetensors.safe_open(path, framework="np") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if metadata["sha256"] != _digest(arrays):
                raise ValueError("its tensors differ from their checksum")
            return Snapshot(path, Progress(**json.loads(metadata["progress"])), arrays)
        except (safetensors.SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(f"{path} is damaged and is passed over ({error}).", stacklevel=2)
    return None


def _files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(
        path for path in folder.glob("step-*.safetensors") if re.search(r"step-\d{10}\.", path.name)
    )


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}\n".encode())
        digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def _few(names: list[Any]) -> str:
    shown = ", ".join(map(str, names[:5])) or "none"
    return shown + (", ..." if len(names) > 5 else "")

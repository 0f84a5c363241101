"""What the folder of a run tells of its model beside the weights, for the model card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnets.checks import is_number
from keras_resnets.files import read_json
from keras_resnets.loading import RUN_CONFIG
from keras_resnets.training import specs
from keras_resnets.weights import source

_ACCURACIES = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "mean_average_precision": "mean average precision",
}


def facts_of(folder: Path) -> dict[str, Any]:
    """What a run's folder tells of its model beside the weights."""
    config = read_json(folder / RUN_CONFIG)
    evaluation, versions = (_read(folder / name) for name in ("evaluation.json", "versions.json"))
    recipe, data = config["recipe"], _shareable(config.get("data"))
    start = _start_of(config)
    training = {
        "recipe": recipe.get("name"),
        "began with": start or ("random weights" if config.get("weights") is None else None),
        "epochs": recipe.get("epochs"),
        "images a step": recipe.get("batch_size"),
        "image size": recipe.get("image_size"),
        "optimizer": recipe.get("optimizer"),
        "seed": config.get("seed"),
        "type": config.get("dtype"),
        **{key: versions.get(key) for key in ("keras_resnets", "keras", "backend")},
    }
    when = {"date": versions["date"]} if versions.get("date") else {}
    command = f"keras-resnets evaluate --model {folder.name} --data {data}"
    return {
        "training": {key: value for key, value in training.items() if value is not None},
        "training_data": data,
        "base_model": start,
        "metrics": tuple(
            {
                "name": name,
                "value": evaluation[key],
                "data": f"{data}, {evaluation.get('images')} validation images",
                **when,
                "command": command,
            }
            for key, name in _ACCURACIES.items()
            if is_number(evaluation.get(key))
        ),
    }


def _read(path: Path) -> dict[str, Any]:
    """What a file of a run says; nothing where the run was stopped before it was written."""
    return read_json(path) if path.is_file() else {}


def _shareable(data: Any) -> str | None:
    """A data set's name without the path of this machine."""
    if not isinstance(data, str):
        return None
    kind, colon, rest = data.partition(":")
    return f"{kind}:{os.path.basename(rest)}" if colon and kind in specs.OF_FILES else data


def _start_of(config: Mapping[str, Any]) -> str | None:
    """The published checkpoint or the repository that a run began with."""
    weights = config.get("weights")
    found = source.named_checkpoint(config["model"], weights)
    if found is not None:
        return found.name
    return weights if isinstance(weights, str) and weights.startswith("hf://") else None

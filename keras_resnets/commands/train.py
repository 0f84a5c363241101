"""What `keras-resnets train` does."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnets.checks import require
from keras_resnets.commands.options import OF_THE_RECIPE
from keras_resnets.commands.output import print_lines
from keras_resnets.files import read_json
from keras_resnets.training import distribute, resuming
from keras_resnets.training.config import RunConfig, resolve
from keras_resnets.training.plan import plan
from keras_resnets.training.recipe import Recipe
from keras_resnets.training.run import train
from keras_resnets.training.run_folder import RunFolder


def run_training(
    out: str,
    *,
    data: str | None,
    model: str | None,
    weights: str | None,
    recipe: str | None,
    changes: Mapping[str, Any],
    options: Mapping[str, Any],
    resume: bool,
    dry_run: bool,
    devices: int | None,
    processes: Mapping[str, Any],
) -> None:
    """`keras-resnets train`.

    Args:
        changes: what `--set` changes.
        options: the options of `commands.options` that were given.
        processes: arguments of `distribute.find_processes`.
    """
    options = dict(options)
    if options.get("class_weights") not in (None, "balanced"):
        options["class_weights"] = _class_weights(options["class_weights"])
    named = {name: options.pop(name) for name in OF_THE_RECIPE if name in options}
    changes = named | dict(changes)
    told = dict(model=model, weights=weights, recipe=recipe, **changes, **options)
    if resume and data is None:
        told = {key: value for key, value in told.items() if value is not None}
        require(
            not told,
            "--resume stands alone with --out, or with the whole command again, --data included",
            **told,
        )
        config = resuming.stored_config(RunFolder(out))
    else:
        require(data is not None, "data must say what to train on", data=data)
        config = resolve(data, model, weights, recipe or "quick", changes, **options)
    placement = distribute.place(distribute.find_processes(**processes), devices=devices)
    if dry_run:
        _print_plan(config, plan(config, placement))
        return
    verbose = (1 if sys.stdout.isatty() else 2) if placement.is_main else 0
    result = train(config, out, resume=resume, placement=placement, verbose=verbose)
    if result.evaluation is not None:
        print_lines(
            [
                result.evaluation.summary,
                f"Wrote {out}: best.keras, best.safetensors, report.md, ...",
            ]
        )


def _class_weights(path: str) -> dict[str, float]:
    path = os.path.expanduser(path)
    require(Path(path).is_file(), 'class_weights must be "balanced" or a JSON file', file=path)
    weights = read_json(path)
    require(isinstance(weights, dict), "class_weights must map classes to weights", file=path)
    return weights


def _print_plan(config: RunConfig, facts: Mapping[str, Any]) -> None:
    _print_facts("recipe", flat(config.recipe))
    told = {"data": config.data, "model": config.model, "weights": config.weights or "random"}
    _print_facts("run", told | dict(facts))


def flat(recipe: Recipe) -> dict[str, Any]:
    """A recipe's fields and its augmentation's in one; what differs by model is in force."""
    values = recipe.as_dict()
    augmentation = values.pop("augmentation")
    return {key: value for key, value in values.items() if key != "by_model"} | augmentation


def _print_facts(title: str, facts: Mapping[str, Any]) -> None:
    print_lines([title, *(f"  {key:<28}{value}" for key, value in facts.items()), ""])

"""What a run would do, without doing it: `keras-resnets train --dry-run`."""

from __future__ import annotations

import math
import time
from typing import Any

import keras

from keras_resnets.training import distribute, fitting
from keras_resnets.training.config import RunConfig
from keras_resnets.training.distribute import Placement
from keras_resnets.training.environment import environment
from keras_resnets.training.optimizers import decayed_variables
from keras_resnets.training.run import Run


def plan(config: RunConfig, placement: Placement | None = None) -> dict[str, Any]:
    """What a run would do: data, steps, learning rate, parameters, estimated memory.

    Everything is checked as for the run itself and nothing is written.

    Returns:
        Facts by name.
    """
    with environment(config):
        placement = placement or distribute.place(distribute.find_processes())
        config = fitting.fitted(config, lambda told: Run(told, placement), time.monotonic())
        run = Run(config, placement)
        trained = run.model.trainable_variables
        memory = estimated_memory(run.model, config, placement.replicas)
    return {
        "images a step": config.recipe.batch_size,
        "epochs": config.recipe.epochs,
        "images": {split: examples.count for split, examples in run.examples.items()},
        "classes": run.classes,
        "devices": placement.replicas,
        "steps per epoch": run.steps_per_epoch,
        "steps": run.steps_per_epoch * config.recipe.epochs,
        "effective batch": config.effective_batch,
        "highest learning rate": config.recipe.scaled_learning_rate(config.effective_batch),
        "parameters": run.model.count_params(),
        "trained parameters": sum(math.prod(variable.shape) for variable in trained),
        "decayed variables": f"{len(decayed_variables(run.model))} kernels of {len(trained)}",
        "estimated memory a device": f"{memory / 2**30:.2f} GiB",
    }


def estimated_memory(model: keras.Model, config: RunConfig, replicas: int) -> int:
    """Bytes that training takes on a device, roughly: variables, gradients, activations.

    Activations are the outputs of all layers, kept for the backward pass; what a compiler fuses
    away comes off, and the workspace of convolutions comes on top.
    """
    slots = {"sgd": 1, "lamb": 2, "adamw": 2}[config.recipe.optimizer]
    copies = 2 + slots + (config.accumulate > 1) + (config.recipe.ema > 0)
    size = config.recipe.image_size
    outputs = [layer.output for layer in model.layers]
    specs = keras.Function(model.inputs, outputs).compute_output_spec(
        [keras.KerasTensor((1, size, size, 3))]
    )
    width = 4 if config.dtype == "float32" else 2
    activations = sum(math.prod(spec.shape) for spec in keras.tree.flatten(specs)) * width
    return copies * 4 * model.count_params() + activations * config.recipe.batch_size // replicas

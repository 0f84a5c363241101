"""A run's best weights as files: a whole model that ends in probabilities, and timm's layout."""

from __future__ import annotations

import keras

from keras_resnets.files import atomic_write
from keras_resnets.preparation import Preparation
from keras_resnets.training.config import RunConfig
from keras_resnets.training.run_folder import RunFolder
from keras_resnets.weights.fit import save_safetensors

INTERPOLATION = "bicubic"  # How `batches.evaluation_batches` resizes the images of validation.


def write_best(
    folder: RunFolder, config: RunConfig, model: keras.Model, class_names: tuple[str, ...]
) -> None:
    """Writes `best.keras` and `best.safetensors`.

    Args:
        folder: of the run.
        config: what the run was told.
        model: from RGB values 0 to 255 to logits.
        class_names: in the order of the logits.
    """
    function = "softmax" if config.recipe.loss == "cross_entropy" else "sigmoid"
    activation = keras.layers.Activation(function, dtype="float32", name="probabilities")
    whole = keras.Model(model.input, activation(model.output), name=model.name)
    with atomic_write(folder / "best.keras") as unfinished:
        whole.save(unfinished)
    save_safetensors(
        model,
        folder / "best.safetensors",
        architecture=config.model,
        metadata=preparation(config, model).as_metadata() | {"label_names": list(class_names)},
    )


def preparation(config: RunConfig, model: keras.Model) -> Preparation:
    """How images are prepared for the weights of a run, which were evaluated so."""
    layer = model.get_layer("normalize")
    # It scales RGB values 0 to 255, as (x - 255 mean) / (255 std).
    std = [1 / (255 * scale) for scale in layer.scale]
    mean = [-offset * deviation for offset, deviation in zip(layer.offset, std, strict=True)]
    return Preparation(
        size=config.eval_image_size,
        crop_pct=config.recipe.crop_pct,
        interpolation=INTERPOLATION,
        mean=tuple(round(value, 6) for value in mean),
        std=tuple(round(value, 6) for value in std),
    )

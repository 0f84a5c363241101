"""A run's best weights as files: a whole model that ends in probabilities, and timm's layout."""

from __future__ import annotations

import keras

from keras_resnets.files import atomic_write
from keras_resnets.loading import BEST_MODEL, BEST_WEIGHTS
from keras_resnets.preparation import Preparation, stated_by_rescaling
from keras_resnets.training.config import RunConfig
from keras_resnets.training.run_folder import RunFolder
from keras_resnets.weights import checkpoint
from keras_resnets.weights.facts import THRESHOLD, multi_label_facts
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
    facts = preparation(config, model).as_metadata() | {"label_names": list(class_names)}
    if config.recipe.config_changes:
        facts["config_changes"] = config.as_dict()["recipe"]["config_changes"]
    if config.recipe.multi_label:
        facts |= multi_label_facts(THRESHOLD)
    with atomic_write(folder / BEST_MODEL) as unfinished:
        whole.save(unfinished)
        # So that the file knows its images and classes wherever it is taken.
        checkpoint.add_facts(unfinished, facts | {"architecture": config.model})
    save_safetensors(model, folder / BEST_WEIGHTS, architecture=config.model, metadata=facts)


def preparation(config: RunConfig, model: keras.Model) -> Preparation:
    """How images are prepared for the weights of a run, which were evaluated so."""
    layer = model.get_layer("normalize")
    stated = stated_by_rescaling(layer.scale, layer.offset)
    return Preparation(
        size=config.eval_image_size,
        crop_pct=config.recipe.crop_pct,
        interpolation=INTERPOLATION,
        mean=tuple(stated["mean"]),
        std=tuple(stated["std"]),
    )

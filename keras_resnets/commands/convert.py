"""What `keras-resnets convert` does."""

from __future__ import annotations

import functools
import os

import keras

from keras_resnets import catalog
from keras_resnets.checks import require
from keras_resnets.files import atomic_write, write_keras_weights
from keras_resnets.loading import Located, locate
from keras_resnets.weights import checkpoint, fit, published
from keras_resnets.weights.facts import multi_label_facts


def convert_file(
    source: str | os.PathLike,
    target: str | os.PathLike,
    name: str | None = None,
    *,
    overwrite: bool = False,
) -> keras.Model:
    """Turns a checkpoint into another format by way of the model that it belongs to.

    Args:
        source: any file, folder or address that `create_model(weights=...)` reads; a run's folder.
        target: the new file, ending in `.safetensors` (timm's layout), `.weights.h5` (Keras'
            weights) or `.keras` (Keras' whole model, which ends in a softmax).
        name: of the architecture; its tag, if it has one, is noted in a `.safetensors` file.
            Default: what the source states. What else that states (how images are prepared, names
            of classes, licence) goes into `.safetensors` and `.keras` files too.
        overwrite: whether to replace an existing file.

    Returns:
        The model with the weights. It has the checkpoint's classes and input channels.

    Raises:
        ValueError: if a path is not as above, the target exists, or the checkpoint is damaged or
            does not fit.
        FileNotFoundError: if there is no such checkpoint.
        OSError: if the target cannot be written; what was there before stays.
    """
    target = os.fspath(target)
    require(
        target.endswith((".safetensors", ".weights.h5", ".keras")),
        "OUT must end in .safetensors, .weights.h5 or .keras",
        OUT=target,
    )
    require(
        overwrite or not os.path.lexists(target),
        "OUT must not exist yet; --overwrite replaces it",
        OUT=target,
    )
    require(
        os.path.isdir(os.path.dirname(target) or "."),
        "OUT must be in a folder that exists",
        OUT=target,
    )
    if name is None:
        located = locate(source)
        tag = None
    else:
        variant, tagged = catalog.find_tagged(name)
        located, tag = locate(variant.name, source), tagged and tagged.tag
    model = _model_of(located)
    if target.endswith(".safetensors"):
        fit.save_safetensors(
            model,
            target,
            architecture=located.variant.name,
            tag=tag,
            metadata=facts_of(located),
        )
        return model
    if target.endswith(".keras"):
        with atomic_write(target) as unfinished:
            model.save(unfinished)
            known = {"architecture": located.variant.name, **facts_of(located)}
            checkpoint.add_facts(unfinished, known)
    else:
        write_keras_weights(target, model)
    return model


def _model_of(located: Located) -> keras.Model:
    """The model of the weights, with their classes and input channels."""
    require(
        located.variant is not None and located.weights is not None,
        "IN must be weights of an architecture; name it by --model",
        IN=located.name,
    )
    changes = dict(located.config_changes)
    if located.threshold is not None:
        changes["classifier_activation"] = "sigmoid"
    build = functools.partial(located.variant, **changes)
    model = build(weights=None)
    state_dict = fit.located(located.weights.state_dict, model)
    classes, channels = fit.classes_in(state_dict), fit.channels_in(state_dict, model)
    if classes not in (None, model.output_shape[-1]) or channels != model.input_shape[-1]:
        model = build(weights=None, classes=classes, input_shape=(None, None, channels))
    fit.load_weights(model, state_dict)
    return model


def facts_of(located: Located) -> dict[str, object]:
    """What is known of the weights beside their tensors, for the metadata of a file."""
    preparation, names = located.preparation, located.class_names
    facts = {"license": located.licence, "config_changes": dict(located.config_changes)}
    facts |= multi_label_facts(located.threshold)
    if preparation is not None:
        facts |= preparation.as_metadata()
    if names is not None and names != tuple(published.class_names()):
        facts |= {
            "label_names": [label for label, _ in names],
            "label_descriptions": {label: text for label, text in names if label != text},
        }
    return {key: value for key, value in facts.items() if value}

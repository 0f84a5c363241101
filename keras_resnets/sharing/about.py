"""All that is known of a model that is shared: what a config.json states and a model card prints.

Nothing is guessed. What nobody told and nothing states is None, and is left out.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import keras

import keras_resnets
from keras_resnets import catalog
from keras_resnets.checks import as_plain, is_number, nearest, require
from keras_resnets.graph.endings import stated_in
from keras_resnets.layers import Preprocessor
from keras_resnets.loading import Located
from keras_resnets.preparation import Preparation
from keras_resnets.sharing import runs
from keras_resnets.sharing.network import Network, described, identified
from keras_resnets.weights import fit, published, source
from keras_resnets.weights.facts import ABOUT, OURS, check_threshold, multi_label_facts
from keras_resnets.weights.published import Pretrained

# What a row about an accuracy may hold, and what it must.
METRIC = ("name", "value", "data", "date", "command", "source")
_REQUIRED = ("name", "value")

# Of `tools/train_cifar_weights.py`, which has no third part of the data.
_CHOSEN = "The epoch of the weights was chosen by the accuracy on the same test images."

_TEXTS = ("licence", "training_data", "data_terms", "base_model")


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What is known of a model.

    Attributes:
        name: what it is called, such as the name of its folder.
        address: what `create_model` takes where it lies.
        timm_address: what timm's `create_model` takes; None where timm cannot read it.
        network: which network it is.
        prepared: how images are prepared, under timm's names, as far as that is stated.
        class_names: label and description of each class.
        threshold: the probability from which an image has a label; None where it has one class.
        licence: of the weights.
        origin_url: where their author published them.
        training_data: what it was trained on.
        data_terms: what may be done with that data.
        base_model: the model that its training began with.
        training: how it was trained, as names and values.
        metrics: accuracies, each with the keys `METRIC`.
        limitations: what it cannot do, as sentences.
    """

    name: str
    address: str
    timm_address: str | None = None
    network: Network
    prepared: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    class_names: tuple[tuple[str, str], ...] | None = None
    threshold: float | None = None
    licence: str | None = None
    origin_url: str | None = None
    training_data: str | None = None
    data_terms: str | None = None
    base_model: str | None = None
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()
    limitations: tuple[str, ...] = ()

    @property
    def preparation(self) -> Preparation | None:
        """How images are prepared; what a statement leaves out is the usual."""
        return Preparation.stated_in(self.prepared)

    def as_config(self) -> dict[str, Any]:
        """The config.json of a folder, as timm writes one, with what timm has no keys for."""
        network = self.network
        ours = {
            field: getattr(self, field)
            for field in ("training_data", "data_terms", "base_model", "training")
        } | {"metrics": list(self.metrics), "limitations": list(self.limitations)}
        labels = [label for label, _ in self.class_names or ()]
        texts = {label: text for label, text in self.class_names or () if label != text}
        config = {
            "architecture": ("" if network.in_timm else OURS) + network.variant.name,
            "num_classes": network.classes,
            "config_changes": dict(network.arguments),
            "label_names": labels,
            "label_descriptions": texts,
            **multi_label_facts(self.threshold),
            "model_args": self._model_args(),
            "pretrained_cfg": {
                key: value
                for key, value in {
                    "num_classes": network.classes,
                    **self.prepared,
                    "first_conv": network.stem,
                    "classifier": network.classifier,
                    "license": self.licence,
                    "origin_url": self.origin_url,
                }.items()
                if value is not None
            },
            ABOUT: {"version": keras_resnets.__version__}
            | {key: value for key, value in ours.items() if value},
        }
        return {key: value for key, value in config.items() if value not in ({}, [])}

    def _model_args(self) -> dict[str, Any]:
        """What timm's builder is told beside the name."""
        network, arguments = self.network, {}
        if network.channels != 3:
            arguments["in_chans"] = network.channels
        if network.attends:  # Whatever size the images have, as many positions were learned.
            arguments["img_size"] = network.variant.config.image_size
        return arguments

    def as_metadata(self) -> dict[str, Any]:
        """The same for the file of the weights, which may be taken elsewhere alone."""
        config = self.as_config()
        keys = ("config_changes", "label_names", "label_descriptions", "multi_label", "threshold")
        return {key: config[key] for key in keys if key in config} | {
            **self.prepared,
            "license": self.licence,
        }


class Told(TypedDict, total=False):
    """What a person may say of a model; see `save_pretrained`."""

    preparation: Preparation | Preprocessor
    class_names: Sequence[str] | Sequence[tuple[str, str]]
    threshold: float
    licence: str
    training_data: str
    data_terms: str
    base_model: str
    metrics: Sequence[Mapping[str, Any]]
    limitations: Sequence[str]


def told(facts: Told) -> dict[str, Any]:
    """What a person says of a model, as fields of `About`.

    Raises:
        ValueError: if a value is none.
        TypeError: if there is no such fact.
    """
    known = list(Told.__annotations__)
    for key in facts:
        if key not in known:
            raise TypeError(
                f"{key!r} is no fact of a model. {nearest(key, known)}They are "
                f"{', '.join(known)}. Received: {key}={facts[key]!r}"
            )
    texts = {key: facts.get(key) for key in _TEXTS}
    for key, text in texts.items():
        require(
            text is None or (isinstance(text, str) and text.strip() != ""),
            f"{key} must be a text or left out",
            **{key: text},
        )
    check_threshold(facts.get("threshold"))
    said: dict[str, Any] = {**texts, "threshold": facts.get("threshold")}
    preparation, names = facts.get("preparation"), facts.get("class_names")
    if isinstance(preparation, Preprocessor):
        preparation = preparation.preparation
    require(
        preparation is None or isinstance(preparation, Preparation),
        "preparation must be a Preparation, or the layer that keras_resnets.preprocessor returns",
        preparation=preparation,
    )
    said["prepared"] = preparation and preparation.as_metadata()
    said["class_names"] = None if names is None else _names(names)
    said["metrics"] = _metrics(facts.get("metrics", ()))
    limitations = facts.get("limitations", ())
    require(
        isinstance(limitations, (tuple, list)) and {*map(type, limitations)} <= {str},
        "limitations must be a list of sentences",
        limitations=limitations,
    )
    said["limitations"] = tuple(limitations)
    return {key: value for key, value in said.items() if value}


def _names(class_names: Any) -> tuple[tuple[str, str], ...]:
    rule = "class_names must be different names in the order of the outputs, or (name, description)"
    require(isinstance(class_names, (tuple, list)), rule, class_names=class_names)
    pairs = [(name, name) if isinstance(name, str) else name for name in class_names]
    require(
        all(
            isinstance(pair, (tuple, list))
            and len(pair) == 2
            and all(isinstance(text, str) for text in pair)
            for pair in pairs
        )
        and len({label for label, _ in pairs}) == len(pairs),
        rule,
        class_names=class_names,
    )
    return tuple((label, text) for label, text in pairs)


def _metrics(metrics: Any) -> tuple[dict[str, Any], ...]:
    rule = f"metrics must be a list of mappings with {' and '.join(_REQUIRED)}, and perhaps " + (
        ", ".join(key for key in METRIC if key not in _REQUIRED)
    )
    require(isinstance(metrics, (tuple, list)), rule, metrics=metrics)
    for row in metrics:
        require(
            isinstance(row, Mapping)
            and set(_REQUIRED) <= row.keys() <= set(METRIC)
            and is_number(row["value"])
            and all(isinstance(row[key], str) for key in row if key != "value"),
            f"{rule}; the value is a number, the others are texts",
            metrics=row,
        )
    return tuple(as_plain(dict(row)) for row in metrics)


# Models in memory --------------------------------------------------------------------------------


def of_model(
    model: keras.Model,
    architecture: str | None,
    config_changes: Mapping[str, Any] | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """What is known of a model, as fields of `About`: what it is told and what its layers state.

    Raises:
        ValueError: if the model is no network of this package, or what is told contradicts it.
    """
    stated = Preparation.stated_in(facts["prepared"]) if "prepared" in facts else None
    network = identified(model, architecture, config_changes, stated and stated.size)
    prepared = dict(stated_in(model))
    sides = model.inputs[0].shape[1:3]
    if prepared and "input_size" not in prepared and None not in sides:
        prepared["input_size"] = [network.channels, *sides]
    return checked({"network": network, "prepared": prepared, **facts})


def checked(fields: dict[str, Any]) -> dict[str, Any]:
    """Raises a ValueError if fields of `About` contradict each other."""
    network, names = fields["network"], fields.get("class_names")
    require(
        names is None or len(names) == network.classes,
        f"class_names must be as many as the model's classes, {network.classes}",
        class_names=names and len(names),
    )
    require(
        fields.get("threshold") is None or network.classes > 0,
        "threshold is for models of several labels an image; leave it out",
        threshold=fields.get("threshold"),
    )
    if fields.get("prepared"):
        channels = Preparation.stated_in(fields["prepared"]).channels
        stated = "input_size" in fields["prepared"]
        require(
            not stated or channels == network.channels,
            f"preparation must have the channels of the model, {network.channels}",
            channels=channels,
        )
    return fields


# Models that are somewhere -----------------------------------------------------------------------


def of_located(located: Located) -> dict[str, Any]:
    """What is known of a model that `locate` found, as fields of `About`.

    The weights of a published checkpoint are not fetched.

    Raises:
        ValueError: if it is a saved model that names no architecture, or has no weights.
    """
    require(
        located.variant is not None and located.asked is not None,
        "model must have weights of an architecture; of a saved model that names none, pass the "
        "model itself and its architecture",
        model=located.name,
    )
    if located.published is not None:
        return of_published(located.published)
    weights = located.weights
    fields = {
        "prepared": weights.stated_of_images,
        "class_names": located.class_names,
        "threshold": located.threshold,
        "licence": located.licence,
    }
    if weights.repository is not None:
        about = weights.repository.facts.about
        known = {field.name for field in dataclasses.fields(About)} - {"network", "name", "address"}
        fields |= {key: value for key, value in about.items() if key in known}
    if located.run is not None:
        fields |= runs.facts_of(located.run)
    fields = {key: value for key, value in fields.items() if value}
    classes, channels = _outputs_and_channels(located)
    size = located.preparation and located.preparation.size
    network, _ = described(located.variant, dict(located.config_changes), classes, channels, size)
    return checked({"network": network, **fields})


def _outputs_and_channels(located: Located) -> tuple[int, int]:
    """Classes and input channels of weights, as their tensors have them."""
    model = located.variant(weights=None, **located.config_changes)
    state_dict = fit.located(located.weights.state_dict, model)
    return fit.classes_in(state_dict) or 0, fit.channels_in(state_dict, model)


def of_published(checkpoint: Pretrained) -> dict[str, Any]:
    """What the catalog knows of a checkpoint, as fields of `About`."""
    variant = catalog.find_variant(checkpoint.architecture)
    preparation, made = checkpoint.preparation, checkpoint.training
    network, _ = described(
        variant, {}, checkpoint.classes, preparation.channels, checkpoint.input_size
    )
    names = tuple(published.class_names())
    if made:  # The file is here and says more; those on the hub are not fetched for this.
        names = source.find(variant.name, checkpoint.tag).class_names
    reported = {"top-1 accuracy": checkpoint.top1, "top-5 accuracy": checkpoint.top5}
    return {
        "network": network,
        "prepared": preparation.as_metadata(),
        "class_names": names if names and len(names) == checkpoint.classes else None,
        "licence": checkpoint.license,
        "origin_url": checkpoint.origin_url or None,
        "training_data": ", ".join(checkpoint.training_data) or None,
        "data_terms": _terms_of(checkpoint),
        "training": dataclasses.asdict(made) if made else {},
        "limitations": (_CHOSEN,) if made else (),
        "metrics": tuple(
            {"name": name, "value": round(value / 100, 5), **_measured(checkpoint)}
            for name, value in reported.items()
            if value is not None
        ),
    }


def _measured(checkpoint: Pretrained) -> dict[str, str]:
    """On what the accuracies of a checkpoint were measured, and by whom or when."""
    made, side = checkpoint.training, checkpoint.results_size
    if made is None:
        return {
            "data": f"ImageNet-1k, validation images, {side}x{side}",
            "source": "timm 1.0.31's table of results",
        }
    spec = re.search(r"--data (\S+)", made.command)
    command = f"keras-resnets evaluate --model {checkpoint.name} --data {spec[1]} --split test"
    return {"data": f"{checkpoint.dataset}, test images", "date": made.date, "command": command}


def _terms_of(checkpoint: Pretrained) -> str | None:
    if not any(name.startswith("ImageNet") for name in checkpoint.training_data):
        return None
    return (
        "ImageNet's images are for non-commercial research and education "
        "(https://image-net.org/download); the licence is that of the weights"
    )

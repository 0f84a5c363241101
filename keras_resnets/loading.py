"""The one answer to: which model, which weights, how are its images prepared, what are its classes.

Every command, `create_model` and `preprocessor` begin with `locate`. So each takes whatever any
other takes: an architecture, a published checkpoint, a repository on the hub, a folder like one,
the folder of a run, a whole model, or a file of weights that says what it is of.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_resnets import catalog
from keras_resnets.checks import nearest, require, said
from keras_resnets.files import read_json
from keras_resnets.graph.classifier import Classifier
from keras_resnets.graph.endings import normalizing_layer
from keras_resnets.models import blocks
from keras_resnets.models.variant import Variant
from keras_resnets.preparation import Preparation
from keras_resnets.weights import checkpoint, hub, published, source
from keras_resnets.weights.published import Pretrained
from keras_resnets.weights.source import Weights

# What a run leaves in its folder; `training.run_folder` writes it.
RUN_CONFIG, BEST_MODEL, BEST_WEIGHTS = "config.json", "best.keras", "best.safetensors"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Located:
    """A model that was named, and what is known of it.

    Attributes:
        name: how it was named.
        variant: its architecture; None for a whole saved model that does not say.
        config_changes: arguments that it is built with beside its name; see `Facts`.
        asked: the weights as they were asked for; see `source.find`.
        whole: a saved model that is loaded rather than built, or None.
        run: the folder of the run that made it, or None.
    """

    name: str
    variant: Variant | None = None
    config_changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    asked: Any = None
    whole: Path | None = None
    run: Path | None = None

    @functools.cached_property
    def weights(self) -> Weights | None:
        """The file of the weights and what that says; None for random ones.

        Published ones are fetched when this is first asked for.

        Raises:
            ValueError: if they cannot be had.
        """
        return source.find(self.variant.name if self.variant else "", self.asked)

    @property
    def path(self) -> Path | None:
        """The saved model or the weights on this machine; None for random weights."""
        return self.whole or (self.weights and Path(self.weights.path))

    @property
    def published(self) -> Pretrained | None:
        """What the catalog knows of the weights, if they are published ones."""
        if isinstance(self.asked, Weights):
            return self.asked.published
        return source.named_checkpoint(self.variant.name, self.asked) if self.variant else None

    @property
    def preparation(self) -> Preparation | None:
        """How images are prepared for the weights; None if nobody states it."""
        return self.weights and self.weights.preparation

    @property
    def class_names(self) -> tuple[tuple[str, str], ...] | None:
        """Label and description of each class, in the order of the outputs."""
        return self.weights and self.weights.class_names

    @property
    def threshold(self) -> float | None:
        """The probability from which an image has a label; None where an image has one class."""
        return self.weights and self.weights.threshold

    @property
    def licence(self) -> str | None:
        return self.weights and self.weights.licence

    def preparation_or_usual(self) -> Preparation:
        """How images are prepared; what nobody states is the usual, and a warning says so."""
        stated = self.preparation
        if stated is not None:
            return stated
        size = self.variant.config.image_size if self.variant else 224
        usual = Preparation(size=size)
        if self.weights is not None:
            warnings.warn(
                f"Nothing states how images are prepared for {self.name!r}; taken is the usual: "
                f"{usual}.",
                stacklevel=3,
            )
        return usual

    def build(self, **arguments: Any) -> keras.Model:
        """Builds the model with its weights, or loads it.

        Args:
            **arguments: those of `Variant`; a whole saved model takes none.

        Raises:
            ValueError: if an argument is out of its range, the weights do not fit, or the file is
                damaged.
        """
        if self.whole is not None:
            require(
                not arguments,
                "a saved model must be taken as it is; build its architecture with its weights to "
                "change it",
                model=self.name,
                **arguments,
            )
            return load_whole(self.whole)
        facts = self.weights and self.weights.repository and self.weights.repository.facts
        if facts and facts.channels is not None and arguments.get("input_tensor") is None:
            arguments.setdefault("input_shape", (None, None, facts.channels))
        if facts and facts.is_backbone and not {"classes", "include_top"} & arguments.keys():
            arguments = {"pooling": "avg", **self.config_changes, "include_top": False, **arguments}
        if self.threshold is not None and "classes" not in arguments:
            arguments.setdefault("classifier_activation", "sigmoid")
        return self.variant(weights=self.weights, **{**self.config_changes, **arguments})

    def build_classifier(self) -> Classifier:
        """The model as a classifier of RGB images, whatever it is.

        Raises:
            ValueError: as `build`, and if it is no such classifier: a saved model that takes
                normalised images says nowhere by what numbers.
        """
        if self.whole is None:
            model = self.build(include_preprocessing=True)
        else:
            model = self.build()
            require(
                hasattr(model, "inputs")
                and len(model.inputs) == 1
                and len(model.inputs[0].shape) == 4
                and len(model.outputs) == 1
                and len(model.outputs[0].shape) == 2,
                "model must take one batch of images and return scores (batch, classes)",
                model=self.name,
            )
            if normalizing_layer(model) is None:
                stated = self.preparation if self.variant else None  # By whoever wrote the file.
                require(
                    stated is not None,
                    "model must normalise RGB values 0 to 255 in its own layers, because nothing "
                    "else states by what numbers; put keras_resnets.preprocessor(...) or a "
                    "Rescaling layer in front of it and save that",
                    model=self.name,
                )
                model = _taking_rgb(model, stated)
        require(
            model.inputs[0].shape[-1] == 3,
            "model must take RGB images",
            model=self.name,
            input_shape=model.inputs[0].shape,
        )
        preparation = self.preparation_or_usual()
        sides = model.inputs[0].shape[1:3]
        if None not in sides and sides != preparation.size:
            preparation = preparation.at_size(sides)
        return Classifier(model, preparation, self.class_names_of(model), self.threshold)

    def class_names_of(self, model: keras.Model) -> tuple[tuple[str, str], ...] | None:
        """Label and description of each output, where they are known and as many."""
        classes = model.outputs[0].shape[-1]
        names = self.class_names or ()
        if len(names) != classes:
            names = tuple(published.class_names())
        return names if len(names) == classes else None


def _taking_rgb(model: keras.Model, preparation: Preparation) -> keras.Model:
    """A model of normalised images as one of RGB values 0 to 255."""
    image = keras.Input(model.inputs[0].shape[1:], name="image")
    normalised = blocks.normalize(image, preparation.mean, preparation.std, prefix="")
    return keras.Model(image, model(normalised), name=model.name)


def locate(model: str | os.PathLike, weights: str | os.PathLike | None = None) -> Located:
    """Finds the model that is meant.

    Args:
        model: an architecture (`"resnest50d"`, `"ResNeSt50"`), a published checkpoint
            (`"resnest50d.in1k"`), `"hf://owner/repository"`, a folder with a `config.json` and
            weights, the folder of a run, a `.keras` file, or a file of weights whose metadata names
            its architecture. A folder that is called like an architecture is written `"./name"`.
        weights: of an architecture: a tag, `"hf://owner/repository"`, a folder, a file, or `"none"`
            for random ones. Default: `"imagenet"`, the best published under a permissive licence.

    Returns:
        What is known of it; nothing is built yet.

    Raises:
        TypeError: if the model is no name and no path.
        ValueError: if there is no such model, it has no weights yet, or `weights` contradicts it.
        FileNotFoundError: if a path does not exist.

    Example:

    >>> locate("runs/flowers").class_names
    (('daisy', 'daisy'), ('rose', 'rose'))
    """
    if not isinstance(model, (str, os.PathLike)):
        raise TypeError(
            f"name must be a string, such as 'resnest50d', or a path. Received: name={model!r}"
        )
    text = os.path.expanduser(os.fspath(model))
    if _is_path(text):
        require(
            weights is None,
            "weights must be left out where the model is a repository, a folder or a file, which "
            "has its own",
            model=text,
            weights=weights,
        )
        return _from_path(text)
    if isinstance(weights, (str, os.PathLike)):
        weights = os.path.expanduser(os.fspath(weights))
    variant, tagged = catalog.find_tagged(text)
    if tagged is not None:
        require(weights is None, "weights must be left out where the model has a tag", model=text)
        weights = tagged.tag
    asked = {None: "imagenet", "none": None}.get(weights, weights)
    if asked is not None and source.named_checkpoint(variant.name, asked) is None:
        asked = source.find(variant.name, asked)  # A path that does not exist shows at once.
    return Located(name=text, variant=variant, asked=asked)


def create_model(name: str | os.PathLike, /, **arguments: Any) -> keras.Model:
    """Builds a model by its name, or loads it.

    Args:
        name: timm's name (`"resnest50d"`), ours (`"ResNeSt50"`), or a name of the authors'
            repositories (`"resnest50_fast_4s2x40d"`). Upper and lower case are one. With the tag of
            a published checkpoint (`"resnest50d.in1k"`) the model gets its weights. Or whatever
            else `loading.locate` finds: `"hf://owner/repository"`, a folder with `config.json` and
            weights, the folder of a run, a `.keras` file, a file of weights that names its
            architecture. Architecture, classes and channels are then those that are stated there.
        **arguments: those of every variant, see `help(keras_resnets.Variant)`; a `name` among
            them is the model's own. A saved model takes none.

    Returns:
        A `keras.Model` of images `(batch, height, width, channels)`; see `Variant`.

    Raises:
        ValueError: if there is no such model, if both the name and `weights` choose a checkpoint,
            or for an argument's sake.
        TypeError: for an unknown argument.

    Example:

    >>> keras_resnets.create_model("resnest50d", weights=None, classes=10).output_shape
    (None, 10)
    """
    if isinstance(name, (str, os.PathLike)):
        path = os.path.expanduser(os.fspath(name))
        if _is_path(path):
            require(
                "weights" not in arguments,
                "name must be a variant's where weights is given: a repository, a folder or a file "
                "has its own",
                name=path,
                weights=arguments.get("weights"),
            )
            return locate(path).build(**arguments)
    variant, tagged = catalog.find_tagged(name)
    if tagged is None:
        return variant(**arguments)
    require(
        "weights" not in arguments,
        "name must be without a tag where weights is given: both choose a checkpoint",
        name=name,
        weights=arguments.get("weights"),
    )
    return variant(weights=tagged.tag, **arguments)


def load_whole(path: str | os.PathLike) -> keras.Model:
    """Loads a `.keras` file, without running code from it.

    Raises:
        ValueError: if the file is damaged, or holds layers that are not known here.
        FileNotFoundError: if there is no such file.
    """
    try:
        with open(path, "rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no archive, or is cut short")
        return keras.saving.load_model(path, compile=False)
    except FileNotFoundError:
        raise
    # Keras' own reader raises whatever it happens to meet: its errors, zip's, h5py's, a layer's.
    except Exception as error:
        raise ValueError(
            "model must be a whole .keras file of layers that are known here (import the package "
            f"that has others first); this one cannot be loaded ({said(error)}). "
            f"Received: {os.fspath(path)!r}"
        ) from error


# Paths -------------------------------------------------------------------------------------------


def is_bare_name(model: Any) -> bool:
    """Whether a model is named by its architecture alone, without weights."""
    return isinstance(model, str) and catalog.is_known(model)


def _is_path(text: str) -> bool:
    """Whether a path is meant, be it there or not, rather than the name of an architecture."""
    if hub.is_source(text) or os.path.basename(text) != text or text in (".", ".."):
        return True
    if checkpoint.is_readable(text):  # As no tag ends.
        return True
    return os.path.exists(text) and not catalog.is_known(text.partition(".")[0])


def _from_path(text: str) -> Located:
    if hub.is_source(text):
        return _from_repository(text)
    path = Path(text)
    if path.is_dir():
        return _from_run(path) if is_run(path) else _from_repository(text)
    if not path.exists():
        near = nearest(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
        raise FileNotFoundError(
            "model must be a file or folder that exists, or the name of an architecture (see "
            f"list_models()). {near}Received: {text!r}"
        )
    if path.name == BEST_MODEL and is_run(path.parent):
        return dataclasses.replace(_from_run(path.parent), name=text)
    weights = Weights(path=text, name=text)
    known = weights.architecture is not None and catalog.is_known(weights.architecture)
    if path.suffix == ".keras" and not known:
        return Located(name=text, asked=weights, whole=path)
    require(
        weights.architecture is not None,
        "a file of weights must name its architecture in its metadata, as save_safetensors writes "
        "it; name the architecture as the model and pass the file as the weights",
        model=text,
    )
    return Located(
        name=text,
        variant=catalog.find_variant(weights.architecture),
        config_changes=weights.config_changes,
        asked=weights,
        whole=path if path.suffix == ".keras" else None,
    )


def _from_repository(text: str) -> Located:
    repository = hub.fetch(text)
    weights = Weights(path=repository.path, name=repository.source, repository=repository)
    require(
        weights.architecture is not None,
        "config.json must name the architecture; name it yourself as the model and pass this as "
        "the weights",
        model=text,
        config=repository.config,
    )
    variant = catalog.find_variant(weights.architecture)
    return Located(
        name=text,
        variant=variant,
        config_changes=weights.config_changes,
        asked=source.find(variant.name, repository),
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's: its config.json tells of a recipe."""
    try:
        config = read_json(folder / RUN_CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "recipe" in config and "model" in config


def _from_run(folder: Path) -> Located:
    best = folder / BEST_WEIGHTS
    require(
        best.is_file() and (folder / BEST_MODEL).is_file(),
        "the run must have finished an epoch: there are no best weights in its folder yet; go on "
        "with it by --resume",
        model=str(folder),
    )
    config = read_json(folder / RUN_CONFIG)
    recipe = config["recipe"]
    changes = recipe.get("config_changes", {}) if isinstance(recipe, dict) else None
    require(
        isinstance(config["model"], str) and isinstance(changes, dict),
        f"{RUN_CONFIG} must be as a run writes it",
        model=str(folder),
    )
    return Located(
        name=str(folder),
        variant=catalog.find_variant(config["model"]),
        config_changes=changes,
        asked=Weights(path=str(best), name=str(best)),
        whole=folder / BEST_MODEL,
        run=folder,
    )

"""From what a person calls weights to their tensors: a tag, the hub, a folder or a file."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from typing import Any

import keras

from keras_resnets.checks import require
from keras_resnets.preparation import Preparation
from keras_resnets.weights import checkpoint, fit, hub, published
from keras_resnets.weights.facts import Facts
from keras_resnets.weights.hub import HubRepository
from keras_resnets.weights.published import Pretrained
from keras_resnets.weights.state_dict import StateDict


@dataclasses.dataclass(frozen=True, kw_only=True)
class Weights:
    """A file of weights and all that is known of them.

    What a repository's config.json states counts before what the catalog knows, and that before
    the metadata of the file itself. Nothing is guessed: what nobody states is None.

    Attributes:
        path: the file on this machine.
        name: where it comes from, for messages.
        repository: the folder or repository that it is in, if it was named by that.
        published: what the catalog knows, if the weights are published ones.
    """

    path: str
    name: str
    repository: HubRepository | None = None
    published: Pretrained | None = None

    @functools.cached_property
    def state_dict(self) -> StateDict:
        """The tensors, read when they are first asked for.

        Raises:
            ValueError: if the file cannot be read.
        """
        return checkpoint.read(self.path)

    def located_in(self, backbone: keras.Model, prefix: str = "") -> StateDict:
        """The tensors of a network without its classifier, and of the classifier beside them.

        Raises:
            ValueError: if they are found in several places of the file, or the classifier
                contradicts the repository's config.json.
        """
        state_dict = fit.located(self.state_dict, backbone, prefix)
        classes, stated = fit.classes_in(state_dict, prefix), self._config.classes
        require(
            None in (classes, stated) or classes == stated,
            f"config.json must agree with its weights, whose classifier has {classes} classes",
            num_classes=stated,
            weights=self.name,
        )
        return state_dict

    @property
    def architecture(self) -> str | None:
        """timm's name of the network that they are of."""
        named = self.published and self.published.architecture
        return self._config.architecture or named or self._metadata.architecture

    @property
    def config_changes(self) -> dict[str, Any]:
        """What the network is built with that its architecture's name does not tell."""
        return self._config.config_changes or self._metadata.config_changes

    @property
    def preparation(self) -> Preparation | None:
        """How images are prepared for them.

        Raises:
            ValueError: if something is stated that cannot be followed, or the file is damaged.
        """
        known = self.published and self.published.preparation
        if self._config.preparation and known:
            return self._config.preparation
        # What a config.json leaves out, the file beside it may state.
        return known or self._metadata.overridden_by(self._config).preparation

    @property
    def stated_of_images(self) -> dict[str, Any]:
        """What is stated about images, under timm's names; `preparation` fills in what is not."""
        known = self.published and self.published.preparation.as_metadata()
        stated = self._metadata.of_images()
        return {**stated, **(known or {}), **self._config.of_images()}

    @property
    def class_names(self) -> tuple[tuple[str, str], ...] | None:
        """Label and description of each class; the synsets of ImageNet for its published ones."""
        imagenet = published.class_names()
        of_imagenet = self.published and self.published.classes == len(imagenet)
        return self._config.class_names or (
            tuple(imagenet) if of_imagenet else self._metadata.class_names
        )

    @property
    def threshold(self) -> float | None:
        """The probability from which an image has a label; None where it has one class."""
        stated = self._config.threshold
        return self._metadata.threshold if stated is None else stated

    @property
    def licence(self) -> str | None:
        known = self.published and self.published.license
        return known or self._config.licence or self._metadata.licence

    @property
    def _config(self) -> Facts:
        return self.repository.facts if self.repository else Facts({})

    @functools.cached_property
    def _metadata(self) -> Facts:
        return Facts(checkpoint.read_metadata(self.path))


def find(architecture: str, weights: Any) -> Weights | None:
    """What is meant by weights, on this machine; their tensors are not read yet.

    Args:
        architecture: timm's name of the network that they are for.
        weights: None for random weights; a published tag; `"hf://owner/repository"`, a folder or a
            `HubRepository`; a file; or `Weights` that were found before.

    Returns:
        The weights; None for random ones.

    Raises:
        ValueError: if there is nothing of that name, it cannot be had, or its config.json speaks
            of another network.

    Example:

    >>> find("resnet50", "runs/flowers/best.safetensors").preparation.size
    (224, 224)
    """
    if weights is None or isinstance(weights, Weights):
        return weights
    rule = (
        "weights must be None (random) or the path of a file or folder that exists, a published "
        "tag, or 'hf://owner/repository'"
    )
    require(isinstance(weights, (str, os.PathLike, HubRepository)), rule, weights=weights)
    repository, entry = weights, None
    if not isinstance(weights, HubRepository):
        entry = named_checkpoint(architecture, weights)
        if hub.is_source(weights) or (entry is None and os.path.isdir(weights)):
            repository = hub.fetch(weights)
        elif entry is not None and entry.bundled is not None:
            return Weights(path=str(entry.bundled), name=entry.name, published=entry)
        elif entry is not None:
            repository = hub.fetch(entry.source)
        else:
            require(os.path.isfile(weights), rule, weights=weights)
            return Weights(path=os.fspath(weights), name=os.fspath(weights))
    _check_repository(architecture, repository)
    return Weights(
        path=repository.path, name=repository.source, repository=repository, published=entry
    )


def read(architecture: str, weights: Any) -> Weights | None:
    """`find`, and the tensors read too: before a model is built, so that a bad file costs nothing.

    Warns of a licence that is not known to allow any use.

    Raises:
        ValueError: as `find`, and if the file cannot be read.
    """
    found = find(architecture, weights)
    if found is None:
        return None
    if found.licence is not None:
        named = found.published.name if found.published else found.name
        _warn_of_licence(named, found.licence)
    _ = found.state_dict
    return found


def named_checkpoint(architecture: str, weights: Any) -> Pretrained | None:
    """The published checkpoint that `weights` names; None if it names a file or folder.

    A tag wins over a folder of the same name, which can be written `"./name"`.
    """
    if not isinstance(weights, str) or not weights:
        return None
    tags = published.table().get(architecture, {})
    if hub.is_source(weights):
        address = weights.partition("@")[0]
        return next((row for row in tags.values() if row.source == address), None)
    if weights in tags or weights == "imagenet":
        return published.find(architecture, weights)
    is_path = os.path.basename(weights) != weights or checkpoint.is_readable(weights)
    return None if is_path or os.path.exists(weights) else published.find(architecture, weights)


def _check_repository(architecture: str, repository: HubRepository) -> None:
    """Raises a ValueError if a config.json describes another network."""
    if repository.architecture is not None and repository.architecture != architecture:
        raise ValueError(
            f"weights must be those of {architecture!r}; the config.json of "
            f"{repository.source!r} says {repository.architecture!r}. Build that with "
            f"create_model({repository.source!r}), or pass the file itself to load it "
            f"regardless. Received: weights={repository.source!r}"
        )
    repository.check()


@functools.cache  # Once for each, whatever the filters of the `warnings` module say.
def _warn_of_licence(name: str, licence: str) -> None:
    if not published.is_permissive(licence):
        warnings.warn(
            f"The weights {name!r} have the licence {licence!r}, which "
            + ("forbids commercial use." if "-nc" in licence else "is not known to allow any use."),
            stacklevel=5,
        )

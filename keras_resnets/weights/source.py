"""From what a person calls weights to their tensors: a tag, the hub, a folder or a file."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_resnets.checks import require
from keras_resnets.preparation import IMAGENET_MEAN, IMAGENET_STD
from keras_resnets.weights import checkpoint, fit, hub, published
from keras_resnets.weights.checkpoint import StateDict
from keras_resnets.weights.hub import HubRepository
from keras_resnets.weights.published import Pretrained


class Weights(NamedTuple):
    """Tensors to be loaded and what is known of them.

    Attributes:
        state_dict: the tensors.
        name: where they come from, for messages.
        normalization: mean and standard deviation of the images that they expect.
    """

    state_dict: StateDict
    name: str
    normalization: tuple[Sequence[float], Sequence[float]] = (IMAGENET_MEAN, IMAGENET_STD)


def read(architecture: str, weights: Any) -> Weights | None:
    """The tensors that are meant, read before a model is built, so that a bad file costs nothing.

    Args:
        architecture: timm's name of the network that they are for.
        weights: None for random weights; a published tag; `"hf://owner/repository"`, a folder or a
            `HubRepository`; or a file.

    Returns:
        The tensors and what is known of them; None for random weights.

    Raises:
        ValueError: if there is nothing of that name, or it cannot be had or read, or its
            config.json speaks of another network.
    """
    if weights is None:
        return None
    rule = (
        "weights must be None (random) or the path of a file or folder that exists, a published "
        "tag, or 'hf://owner/repository'"
    )
    require(isinstance(weights, (str, os.PathLike, HubRepository)), rule, weights=weights)
    repository, entry = weights, None
    if not isinstance(weights, HubRepository):
        entry = _published(architecture, weights)
        if hub.is_source(weights) or (entry is None and os.path.isdir(weights)):
            repository = hub.fetch(weights)
        elif entry is not None:
            repository = hub.fetch(entry.source)
        else:
            require(os.path.isfile(weights), rule, weights=weights)
            return Weights(checkpoint.read(weights), os.fspath(weights))
    _check_repository(architecture, repository)
    if entry is not None:
        _warn_of_licence(entry.name, entry.license)
    elif repository.license is not None:
        _warn_of_licence(repository.source, repository.license)
    state_dict = checkpoint.read(repository.path)
    classes = fit.classes_in(state_dict)
    require(
        None in (classes, repository.classes) or classes == repository.classes,
        f"config.json must agree with its weights, whose classifier has {classes} classes",
        num_classes=repository.classes,
        weights=repository.source,
    )
    stated = repository.normalization or (entry and (entry.mean, entry.std))
    return Weights(state_dict, repository.source, *([stated] if stated else []))


def _published(architecture: str, weights: str | os.PathLike) -> Pretrained | None:
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

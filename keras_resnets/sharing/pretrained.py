"""Folders that timm and this package read, and repositories like them on the hub."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack

import keras

from keras_resnets.checks import require, require_flag
from keras_resnets.deploy.place import put_in_place, written_beside
from keras_resnets.files import write_text
from keras_resnets.loading import Located, is_run, locate
from keras_resnets.sharing import about, card
from keras_resnets.sharing.about import About, Told
from keras_resnets.sharing.network import Network
from keras_resnets.weights import hub
from keras_resnets.weights.fit import save_safetensors

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"


def save_pretrained(
    model: keras.Model | str | os.PathLike,
    folder: str | os.PathLike,
    *,
    architecture: str | None = None,
    config_changes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    **facts: Unpack[Told],
) -> Path:
    """Writes a model as a folder that this package and timm read, with a model card.

    The folder holds `model.safetensors`, `config.json` and the card, `README.md`.
    `keras_resnets.create_model(folder)` builds the model again, and so does timm's
    `create_model("local-dir:FOLDER", pretrained=True)`. A network that timm does not build by its
    name (a CIFAR form, one with changed fields) is written too: its config.json says that it is
    ours, and timm says that it does not know it. Layers in front of the network, such as
    augmentation, and the activation behind it are not written; a model without a classifier is
    read back as its pooled features.

    Args:
        model: a model of this package; or what names one, as for `create_model`: the folder of a
            run, a published checkpoint, a file. Of those much is known that is then not asked for.
        folder: to write, in one that exists. It must not hold such a model yet.
        architecture: name of the model's architecture; default: the model's own name.
        config_changes: fields of the architecture's configuration that the model was built with,
            such as `{"depths": (1, 1, 1, 1)}`.
        overwrite: whether to replace a model that is there. Other files of the folder stay.
        **facts: what is known of the model; what is left out is not stated, or what the model and
            its files state. `preparation`: how its images are prepared, a `Preparation` or the
            layer that `keras_resnets.preprocessor` returns. `class_names`: a list of names, or of
            `(name, description)`, in the order of the outputs. `threshold`: from which probability
            a label is said of an image that may have several. `licence`: of the weights, as the hub
            calls it: `"apache-2.0"`. `training_data` and `data_terms`: what it was trained on, and
            what may be done with that. `base_model`: what its training began with, such as
            `"resnest50d.in1k"`. `metrics`: a list of mappings with `name`, `value` (a number) and
            perhaps `data`, `date`, `command` and `source`. `limitations`: a list of sentences.

    Returns:
        The folder.

    Raises:
        ValueError: if the model is no network of this package, or not the one that is named; if a
            fact contradicts it; or if the folder holds a model or a run. Nothing is written then.
        TypeError: if `model` is something else, or a fact has a name that is none.
        OSError: if the folder cannot be written; what was there before stays.

    Example:

    >>> model = keras_resnets.ResNeSt50(weights=None, classes=2)
    >>> keras_resnets.save_pretrained(model, "flowers", class_names=["daisy", "rose"])
    >>> timm.create_model("local-dir:flowers", pretrained=True)
    """
    folder = Path(folder)
    require_flag(overwrite=overwrite)
    _check_folder(folder, overwrite)
    names = dict(name=folder.absolute().name, address=f"./{folder.absolute().name}")
    shared = _shared(model, architecture, config_changes, facts)
    known = About(**{**shared.facts, **names})
    _write(shared, _readable_in_timm(known, f"local-dir:{names['address']}"), folder)
    return folder


def push_to_hub(
    model: keras.Model | str | os.PathLike,
    repo_id: str,
    *,
    token: str | None = None,
    private: bool | None = None,
    commit_message: str = "Add model",
    replace_card: bool = False,
    architecture: str | None = None,
    config_changes: Mapping[str, Any] | None = None,
    **facts: Unpack[Told],
) -> str:
    """Writes a model to the Hugging Face hub, where this package and timm read it.

    The repository gets what `save_pretrained` writes. It is made if it is not there; a card that it
    has is left as it is, since people write into them.

    Args:
        model: as for `save_pretrained`.
        repo_id: `"owner/repository"`.
        token: that may write there; default: the one of `hf auth login` or `HF_TOKEN`.
        private: whether a new repository is for its owner alone; default: as the owner has set it.
        commit_message: of the commit.
        replace_card: whether to replace a card that the repository has.
        architecture: as for `save_pretrained`.
        config_changes: as for `save_pretrained`.
        **facts: as for `save_pretrained`.

    Returns:
        What `keras_resnets.create_model` takes: `"hf://owner/repository"`. In timm that is
        `create_model("hf-hub:owner/repository", pretrained=True)`.

    Raises:
        ValueError: as for `save_pretrained`; if `repo_id` is no name of a repository, or there is
            no token, before anything is sent; or if the hub refuses.
        TypeError: as for `save_pretrained`.

    Example:

    >>> keras_resnets.push_to_hub("runs/flowers", "me/flowers", licence="apache-2.0")
    'hf://me/flowers'
    """
    require_flag(replace_card=replace_card, **({} if private is None else {"private": private}))
    require(
        isinstance(commit_message, str) and commit_message.strip() != "",
        "commit_message must be a text",
        commit_message=commit_message,
    )
    upload = hub.Upload.checked(repo_id, token)
    address = f"hf://{repo_id}"
    shared = _shared(model, architecture, config_changes, facts)
    known = About(**{**shared.facts, "name": repo_id.partition("/")[2], "address": address})
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "model"
        _write(shared, _readable_in_timm(known, f"hf-hub:{repo_id}"), folder)
        upload.send(
            folder,
            private=private,
            message=commit_message,
            kept=() if replace_card else (CARD,),
        )
    return address


def about_named(name: str) -> About:
    """What is known of a model that is named, for its card."""
    located = locate(name)
    fields = about.of_located(located)
    published = located.published
    if published is not None:
        names = dict(name=published.name, address=published.name)
        return _readable_in_timm(About(**fields, **names), f"hf-hub:{published.hub_id}")
    if hub.is_source(located.name):
        repository = located.name.removeprefix("hf://")
        names = dict(name=repository.partition("@")[0].partition("/")[2], address=located.name)
        return _readable_in_timm(About(**fields, **names), f"hf-hub:{repository}")
    require(
        located.whole is None or located.run is not None,
        "name must be weights, which are built into a model; make such of a saved model by "
        "`keras-resnets convert model.keras model.safetensors`",
        name=located.name,
    )
    # Of a run the weights: its saved model takes no arguments.
    address = located.name if located.run is None else str(located.weights.path)
    known = About(**fields, name=Path(located.name).absolute().name, address=address)
    # timm reads folders that have a config.json of its kind.
    has_config = located.weights.repository is not None and located.weights.repository.config
    return _readable_in_timm(known, f"local-dir:{located.name}") if has_config else known


# What is shared ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Shared:
    """A model that is to be written, and what is known of it, as fields of `About`."""

    model: keras.Model
    facts: dict[str, Any]


def _shared(
    model: Any,
    architecture: str | None,
    config_changes: Mapping[str, Any] | None,
    facts: Told,
) -> _Shared:
    """A model and what is known of it, checked before anything is written.

    Raises:
        ValueError: if what is told contradicts the model.
        TypeError: if a fact has a name that is none.
    """
    told = about.told(facts)
    if not isinstance(model, (str, os.PathLike)):
        return _Shared(model, about.of_model(model, architecture, config_changes, told))
    require(
        architecture is None and config_changes is None,
        "architecture and config_changes must be left out where the model is named: they are known",
        model=os.fspath(model),
    )
    located = locate(model)
    fields = about.checked({**about.of_located(located), **told})
    return _Shared(_model_of(located, fields["network"]), fields)


def _model_of(located: Located, network: Network) -> keras.Model:
    """The network of weights that were found, without layers of its own around it."""
    return located.variant(
        include_top=network.classes > 0,
        weights=located.weights,
        input_shape=(None, None, network.channels),
        **{"classifier_activation": None, **network.arguments},
    )


def _readable_in_timm(known: About, address: str) -> About:
    return dataclasses.replace(known, timm_address=address) if known.network.in_timm else known


# Writing -----------------------------------------------------------------------------------------


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Raises a ValueError if a folder must not be written."""
    require(
        folder.absolute().name != "" and folder.absolute().parent.is_dir(),
        "folder must be in a folder that exists; make that first",
        folder=str(folder),
    )
    require(
        not folder.exists() or folder.is_dir(),
        "folder must be no file",
        folder=str(folder),
    )
    require(
        not is_run(folder),
        "folder must be another than the run's, which goes on from its own config.json; "
        "keras_resnets reads the run's folder as it is",
        folder=str(folder),
    )
    taken = [name for name in (WEIGHTS, CONFIG, CARD) if os.path.lexists(folder / name)]
    require(
        overwrite or not taken,
        "folder must hold no model yet; overwrite=True replaces it",
        folder=str(folder),
        holds=", ".join(taken),
    )


def _write(shared: _Shared, known: About, folder: Path) -> None:
    """Writes the three files, all of them or none."""
    with written_beside(folder.absolute()) as beside:
        save_safetensors(
            shared.model,
            beside / WEIGHTS,
            architecture=known.network.variant.name,
            metadata=known.as_metadata(),
        )
        write_text(beside / CONFIG, json.dumps(known.as_config(), indent=2) + "\n")
        write_text(beside / CARD, card.text_of(known))
        files = (WEIGHTS, CONFIG, CARD)
        with _made(folder):
            put_in_place([beside / name for name in files], [folder / name for name in files])


@contextlib.contextmanager
def _made(folder: Path) -> Iterator[None]:
    """Makes a folder where there is none; it goes again if what is done with it fails."""
    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with contextlib.suppress(OSError):  # It holds something of somebody else's.
                folder.rmdir()
        raise

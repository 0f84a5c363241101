"""Checkpoints of the Hugging Face Hub, and folders laid out like its repositories.

The hub's own client does the work: its cache, resuming, offline mode (`HF_HUB_OFFLINE=1`), mirrors
(`HF_ENDPOINT`), tokens (`HF_TOKEN`) and progress bar are the ones that its users know. What is
added here: the file is checked against its SHA-256, and whatever goes wrong becomes one error that
says what to do.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, NamedTuple

from keras_resnets.weights.checkpoint import ENDINGS, is_readable

# In the order of preference: the second is a pickle and needs PyTorch.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_CONFIG_FILE = "config.json"
_SCHEME = "hf://"

# timm's keywords in a config that change nothing about a loaded network, or that we read.
_HARMLESS_ARGUMENTS = {
    "num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate", "drop_block_rate",
}  # fmt: skip


class HubRepository(NamedTuple):
    """A file of weights and what its repository says about it.

    Attributes:
        path: the weights on this machine.
        config: content of the repository's `config.json`; None if it has none.
        source: where they come from, as it was asked for.
    """

    path: str
    config: dict[str, Any] | None
    source: str

    @property
    def architecture(self) -> str | None:
        """timm's name of the network, if the config has one."""
        name = (self.config or {}).get("architecture")
        return name.split(".")[0] if isinstance(name, str) else None

    @property
    def classes(self) -> int | None:
        """Number of classes that the config states; None for none or for a bare backbone."""
        return self._stated("num_classes") or None

    @property
    def channels(self) -> int | None:
        """Input channels that the config states."""
        size = self._stated("input_size")
        stated = size[0] if isinstance(size, list) and size else None
        return self._arguments.get("in_chans", stated)

    @property
    def license(self) -> str | None:
        """The licence that the config states; a person's own weights have none there."""
        return self._stated("license")

    @property
    def normalization(self) -> tuple[list[float], list[float]] | None:
        """Mean and standard deviation of the images, if the config states them."""
        mean, std = self._stated("mean"), self._stated("std")
        return None if mean is None or std is None else (mean, std)

    @property
    def _arguments(self) -> dict[str, Any]:
        """Keywords that timm's builder was given."""
        arguments = (self.config or {}).get("model_args")
        return arguments if isinstance(arguments, dict) else {}

    def _stated(self, field: str) -> Any:
        """A field of the config; new ones keep most fields in `pretrained_cfg`."""
        config = self.config or {}
        inner = config.get("pretrained_cfg")
        return config.get(field, inner.get(field) if isinstance(inner, dict) else None)

    def check(self) -> None:
        """Raises a ValueError if the config asks for a network that its name does not stand for."""
        others = sorted(set(self._arguments) - _HARMLESS_ARGUMENTS)
        if others:
            raise ValueError(
                f"config.json must describe a network by its architecture; {self.source!r} also "
                f"has model_args that change it: {', '.join(others)}. Build the variant with the "
                f"arguments that they stand for and weights={self.path!r}. "
                f"Received: model_args={self._arguments}"
            )


def is_source(source: str | os.PathLike) -> bool:
    """Whether this is the address of a repository on the hub."""
    return isinstance(source, str) and source.startswith(_SCHEME)


def fetch(source: str | os.PathLike) -> HubRepository:
    """Weights and config of a repository on the hub, or of a folder like one.

    Args:
        source: `"hf://owner/repository"`, which may end in `@revision` (a branch, tag or commit),
            or a folder. Of the weights `model.safetensors` is preferred to `pytorch_model.bin`; a
            folder may instead hold a single file of weights under another name.

    Returns:
        Where the weights are, and the config.

    Raises:
        ValueError: if there is nothing of that name, it is not accessible, the hub cannot be
            reached and nothing is cached, or what was downloaded is damaged.

    Example:

    >>> fetch("hf://timm/resnest50d.in1k").config["architecture"]
    'resnest50d'
    """
    if is_source(source):
        return _fetch_from_hub(source)
    return _fetch_from_folder(os.fspath(source))


# Folders -----------------------------------------------------------------------------------------


def _fetch_from_folder(folder: str) -> HubRepository:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(
            f"weights must be a folder that can be read ({error}). Received: {folder!r}"
        ) from error
    found = [name for name in WEIGHT_FILES if name in names]
    found = found or [name for name in names if is_readable(name)]
    if not found or (len(found) > 1 and found[0] not in WEIGHT_FILES):
        raise ValueError(
            f"weights must be a folder with {' or '.join(WEIGHT_FILES)}, or with a single file "
            f"ending in {ENDINGS}; this one has {', '.join(found) or 'none'}. "
            f"Received: {folder!r}"
        )
    config = os.path.join(folder, _CONFIG_FILE)
    return HubRepository(
        os.path.join(folder, found[0]),
        _read_config(config, folder) if os.path.isfile(config) else None,
        folder,
    )


def _read_config(path: str, source: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
        if not isinstance(config, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"config.json must be a JSON object ({error}). Received: {source!r}"
        ) from error
    return config


# The hub -----------------------------------------------------------------------------------------


def _fetch_from_hub(source: str) -> HubRepository:
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", source)
    if match is None:
        raise ValueError(
            "weights on the hub must be named 'hf://owner/repository' or "
            f"'hf://owner/repository@revision'. Received: {source!r}"
        )
    download = _Download(source, match[1], match[2])
    for name in WEIGHT_FILES:
        weights = download.optional(name)
        if weights is not None:
            break
    else:
        raise download.error(f"it has neither {' nor '.join(WEIGHT_FILES)}")
    config = download.optional(_CONFIG_FILE)
    return HubRepository(weights, config and _read_config(config, source), source)


class _Download(NamedTuple):
    """One repository at one revision."""

    source: str
    repository: str
    revision: str | None

    def optional(self, name: str) -> str | None:
        """Path of a file in the cache, checked; None if the repository has no such file."""
        path = self._get(name)
        if path is None or _is_intact(path):
            return path
        # The client renames what it downloaded without looking inside. Once more, from the start;
        # a broken copy never stays in the cache.
        _forget(path)
        path = self._get(name, force_download=True)
        if path is None or _is_intact(path):
            return path
        _forget(path)
        raise self.error(
            f"{name} differs from its SHA-256, twice: the server or something on the way damages "
            "it; nothing was kept",
            name,
        )

    def _get(self, name: str, **arguments: Any) -> str | None:
        import huggingface_hub
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

        try:
            return huggingface_hub.hf_hub_download(
                self.repository,
                name,
                revision=self.revision,
                library_name="keras-resnets",
                **arguments,
            )
        except LocalEntryNotFoundError as error:
            if self._is_known_to_lack(name) or self._has_other(name):
                return None
            raise self.error(self._explain(error), name) from error
        except EntryNotFoundError:
            return None
        except Exception as error:
            # Some are those of the client's HTTP library, which was requests and is another now.
            raise self.error(self._explain(error), name) from error

    def _cached(self, name: str) -> Any:
        """Path of a file in the cache, None, or a mark that the repository has no such file."""
        import huggingface_hub

        return huggingface_hub.try_to_load_from_cache(self.repository, name, revision=self.revision)

    def _is_known_to_lack(self, name: str) -> bool:
        return not isinstance(self._cached(name), (str, type(None)))

    def _has_other(self, name: str) -> bool:
        """Whether a less preferred file of weights lies in the cache."""
        if name not in WEIGHT_FILES:
            return False
        others = WEIGHT_FILES[WEIGHT_FILES.index(name) + 1 :]
        return any(isinstance(self._cached(other), str) for other in others)

    def _explain(self, error: Exception) -> str:
        """What went wrong and what to do about it."""
        from huggingface_hub import constants
        from huggingface_hub.utils import (
            GatedRepoError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        causes = [cause for cause in (error, error.__cause__) if cause is not None]
        responses = [getattr(cause, "response", None) for cause in causes]
        denied = any(getattr(response, "status_code", None) in (401, 403) for response in responses)
        reason = (str(causes[-1]).strip() or type(causes[-1]).__name__).split("\n")[0]
        token = "log in with `hf auth login` or set HF_TOKEN to a token that may read it"
        if isinstance(error, GatedRepoError):
            return f"access must be granted: accept its terms on its page, then {token}"
        if isinstance(error, RevisionNotFoundError):
            return f"it has no revision {self.revision!r}"
        if isinstance(error, RepositoryNotFoundError) or denied:
            return f"there is no such repository, or it is private: check the name, or {token}"
        if isinstance(error, HFValidationError):
            return "that is no name of a repository"
        if constants.HF_HUB_OFFLINE:
            return (
                "it is not in the cache and HF_HUB_OFFLINE is set: unset it, or copy the cache of "
                "a machine that has it"
            )
        if isinstance(error, LocalEntryNotFoundError):
            return (
                "it is not in the cache and the hub cannot be reached: check the network, the "
                f"proxy and HF_ENDPOINT, or pass a file ({reason})"
            )
        return f"the download failed and can be tried again ({reason})"

    def error(self, reason: str, name: str | None = None) -> ValueError:
        from huggingface_hub import constants

        revision = f" at {self.revision!r}" if self.revision else ""
        tried = f" Tried: {name or ', '.join(WEIGHT_FILES)}{revision} from {constants.ENDPOINT}."
        return ValueError(
            f"weights must be those of a repository that can be read: {self.repository!r}: "
            f"{reason}.{tried} Cache: {constants.HF_HUB_CACHE}. Received: {self.source!r}"
        )


def _is_intact(path: str) -> bool:
    """Whether a large file has the SHA-256 that the hub promised.

    The client names what it caches after the hub's ETag, and a large file's ETag is its SHA-256, so
    nothing needs to be asked again. Small files have a Git hash and are text that is parsed. Where
    the cache has no links (Windows without developer mode) there is no name to compare with.
    """
    promised = os.path.basename(_blob(path))
    if re.fullmatch(r"[0-9a-f]{64}", promised) is None:
        return True
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == promised


def _blob(path: str) -> str:
    """What a file of a snapshot links to; not further, for blobs can be links themselves."""
    if not os.path.islink(path):
        return path
    return os.path.join(os.path.dirname(path), os.readlink(path))


def _forget(path: str) -> None:
    for file in (_blob(path), path):
        if os.path.lexists(file):
            os.remove(file)

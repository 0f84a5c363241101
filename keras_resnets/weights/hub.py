"""Checkpoints of the Hugging Face Hub, and folders laid out like its repositories.

The hub's own client does the work: its cache, resuming, offline mode (`HF_HUB_OFFLINE=1`), mirrors
(`HF_ENDPOINT`), tokens (`HF_TOKEN`) and progress bar are the ones that its users know. What is
added here: the file is checked against its SHA-256, and whatever goes wrong becomes one error of
ours, with the client's own words where they say enough.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras_resnets.checks import require
from keras_resnets.files import read_json
from keras_resnets.weights.checkpoint import ENDINGS, is_readable
from keras_resnets.weights.facts import Facts

# In the order of preference: the second is a pickle and needs PyTorch.
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_CONFIG_FILE = "config.json"
_SCHEME = "hf://"

# timm's keywords in a config that change nothing about a loaded network, or that we read.
_HARMLESS_ARGUMENTS = {
    "num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate", "drop_block_rate",
}  # fmt: skip

# What a config of transformers' ResNet may change that its tensors do not tell.
_OF_TRANSFORMERS = {
    "hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False,
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
    def facts(self) -> Facts:
        """What the config says of the weights."""
        return Facts(self.config or {})

    @property
    def architecture(self) -> str | None:
        """timm's name of the network, if the config has one."""
        return self.facts.architecture

    @property
    def channels(self) -> int | None:
        """Input channels that the config states."""
        return self.facts.channels

    @property
    def _arguments(self) -> dict[str, Any]:
        """Keywords that timm's builder was given."""
        arguments = (self.config or {}).get("model_args")
        return arguments if isinstance(arguments, dict) else {}

    def check(self) -> None:
        """Raises a ValueError if the config asks for a network that its name does not stand for."""
        for field, usual in _OF_TRANSFORMERS.items():
            require(
                (self.config or {}).get(field, usual) == usual,
                f"config.json must describe a network with {field}={usual!r}",
                weights=self.source,
                **{field: (self.config or {}).get(field)},
            )
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
            f"ending in {', '.join(ENDINGS)}; this one has {', '.join(found) or 'none'}. "
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
        config = read_json(path)
        if not isinstance(config, dict):
            raise ValueError("it is no object")
    except (OSError, ValueError) as error:
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
    for i, name in enumerate(WEIGHT_FILES):
        weights = download.optional(name, others=WEIGHT_FILES[i + 1 :])
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

    def optional(self, name: str, others: Sequence[str] = ()) -> str | None:
        """Path of a file in the cache, checked.

        Args:
            name: of the file.
            others: files that will do instead.

        Returns:
            The path; None if the repository has no such file or, where the hub cannot be reached,
            if the cache has one of the others.
        """
        import huggingface_hub
        from huggingface_hub.utils import EntryNotFoundError, LocalEntryNotFoundError

        try:
            path = huggingface_hub.hf_hub_download(
                self.repository, name, revision=self.revision, library_name="keras-resnets"
            )
        except LocalEntryNotFoundError as error:
            if self._is_known_to_lack(name) or any(map(self._is_cached, others)):
                return None
            raise self.error(error) from error
        except EntryNotFoundError:
            return None
        except Exception as error:
            # Some are those of the client's HTTP library, which was requests and is another now.
            raise self.error(error) from error
        if _is_intact(path):
            return path
        # The client renames what it downloaded without looking inside.
        _forget(path)
        raise self.error(
            f"{name} differs from its SHA-256: the server or something on the way damaged it; "
            "nothing was kept, and trying again downloads it anew"
        )

    def _cached(self, name: str) -> Any:
        """Path of a file in the cache, None, or a mark that the repository has no such file."""
        import huggingface_hub

        return huggingface_hub.try_to_load_from_cache(self.repository, name, revision=self.revision)

    def _is_cached(self, name: str) -> bool:
        return isinstance(self._cached(name), str)

    def _is_known_to_lack(self, name: str) -> bool:
        return not isinstance(self._cached(name), (str, type(None)))

    def error(self, reason: str | Exception) -> ValueError:
        from huggingface_hub import constants

        if isinstance(reason, Exception):
            reason = self._explained(reason)
        revision = f" at {self.revision!r}" if self.revision else ""
        return ValueError(
            f"weights must be those of a repository that can be read: {self.repository!r}"
            f"{revision} from {constants.ENDPOINT}: {reason}. "
            f"Cache: {constants.HF_HUB_CACHE}. Received: {self.source!r}"
        )

    def _explained(self, error: Exception) -> str:
        """What to do, where it is known; else what the client says."""
        from huggingface_hub.utils import (
            GatedRepoError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        token = "log in with `hf auth login` or set HF_TOKEN to a token that may read it"
        if isinstance(error, GatedRepoError):
            return f"access must be granted: accept its terms on its page, then {token}"
        if isinstance(error, RepositoryNotFoundError):
            return f"there is no such repository, or it is private: check the name, or {token}"
        if isinstance(error, RevisionNotFoundError):
            return f"it has no revision {self.revision!r}"
        return _said(error)


def _said(error: Exception) -> str:
    """What the client says, and its cause: of a file that cannot be had the cause says why."""
    said = [str(part) or type(part).__name__ for part in (error, error.__cause__) if part]
    return " ".join(" ".join(said).split()).rstrip(".")


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


# Writing -----------------------------------------------------------------------------------------


class Upload(NamedTuple):
    """A repository that is to be written, and the token that may."""

    repo_id: str
    token: str

    @classmethod
    def checked(cls, repo_id: str, token: str | None = None) -> Upload:
        """Raises a ValueError unless a repository is named so and there is a token; sends nothing.

        Args:
            repo_id: `"owner/repository"`.
            token: default: the one that the client finds.
        """
        import huggingface_hub
        from huggingface_hub.utils import HFValidationError, validate_repo_id

        rule = "repo_id must be 'owner/repository', as the hub names repositories"
        hint = ""
        try:
            require(isinstance(repo_id, str) and repo_id.count("/") == 1, rule, repo_id=repo_id)
            validate_repo_id(repo_id)
        except HFValidationError as error:
            hint = f"{str(error).rstrip('.')}. "
        require(not hint, rule, hint, repo_id=repo_id)
        require(
            token is None or (isinstance(token, str) and token != ""),
            "token must be a text or left out",
            token=type(token).__name__,  # Not the token itself: messages end up in logs.
        )
        token = token or huggingface_hub.get_token()
        require(
            token is not None,
            "writing to the hub needs a token: log in with `hf auth login`, or set HF_TOKEN to a "
            "token that may write",
            repo_id=repo_id,
        )
        return cls(repo_id, token)

    def send(
        self, folder: str | os.PathLike, *, private: bool | None, message: str, kept: Sequence[str]
    ) -> None:
        """Makes the repository if it is not there, and commits the files of a folder to it.

        Args:
            folder: of the files.
            private: whether a new repository is for its owner alone; None: as the owner set it.
            message: of the commit.
            kept: files that stay as they are where the repository has them.

        Raises:
            ValueError: if the hub refuses.
        """
        import huggingface_hub

        api = huggingface_hub.HfApi(token=self.token, library_name="keras-resnets")
        try:
            api.create_repo(self.repo_id, private=private, exist_ok=True)
            there = [name for name in kept if api.file_exists(self.repo_id, name)]
            api.upload_folder(
                repo_id=self.repo_id,
                folder_path=folder,
                commit_message=message,
                ignore_patterns=there,
            )
        except Exception as error:  # Some are those of the client's HTTP library.
            raise ValueError(
                "repo_id must be a repository that can be written: "
                f"{self._explained(error)}. Received: repo_id={self.repo_id!r}"
            ) from error

    @staticmethod
    def _explained(error: Exception) -> str:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status == 401:
            return "the hub does not know the token; make one that may write, and set HF_TOKEN"
        if status == 403:
            return "the token may not write there; take one that may, or a repository of your own"
        return _said(error)

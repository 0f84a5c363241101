"""What earlier versions wrote, and the few stable names by which it is written and read.

`tests/fixtures/version_X_Y` is made by `tools/make_version_fixtures.py` of that version. The tool
and `tests/test_version_fixtures.py` reach the package through its public names and its command
only, so that files may move within it.
"""

import importlib
import json
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import keras
import numpy as np
from goldens_io import zeros_for_initial_weights
from typer.testing import CliRunner

import keras_resnets as kr

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "fixtures"


def build(net: dict[str, Any], **arguments) -> keras.Model:
    """A network of `networks.json`, all kernels zero, by the public builder."""
    with zeros_for_initial_weights():
        return kr.create_model(net["variant"], weights=None, **net["arguments"], **arguments)


def inputs(net: dict[str, Any], images: np.ndarray) -> np.ndarray:
    """The uint8 images as a network of `networks.json` takes them, float32."""
    values = images.astype("float32")
    return values if net["takes"] == "rgb" else values / 64 - 2


def command(*arguments: object) -> tuple[int, str, str]:
    """Runs `keras-resnets` in this process: exit code, stdout and stderr.

    The entry point is the one that `pyproject.toml` declares; its module has Typer's `app`. What is
    installed may be another checkout's.
    """
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module = importlib.import_module(scripts["keras-resnets"].partition(":")[0])
    result = CliRunner().invoke(module.app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def pack(folder: Path, archive: Path) -> None:
    """Packs the content of a folder, without the names and times of whoever did so."""

    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = member.mtime = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(archive, "w:xz", preset=9) as packed:
        for path in sorted(folder.iterdir()):
            packed.add(path, path.name, filter=anonymous)


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks what `pack` packed; returns the folder."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


def networks(version: Path) -> dict[str, Any]:
    """The networks of a version by name; see the tool for the fields."""
    return json.loads((version / "networks.json").read_text())

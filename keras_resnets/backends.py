"""Which backend Keras computes with, settled before Keras is imported."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")


def choose() -> None:
    """Lets Keras use a backend that is installed where the one it would use is not.

    What a user has chosen stays: by `KERAS_BACKEND`, by importing Keras before, or by Keras'
    configuration file if that backend is there.

    Raises:
        ImportError: if no backend is installed.
    """
    if "keras" in sys.modules or os.environ.get("KERAS_BACKEND"):
        return
    configured = _configured()
    if importlib.util.find_spec(configured):
        return
    installed = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if not installed:
        raise ImportError(
            "keras_resnets needs a backend of Keras, and none is installed: pip install "
            "'keras-resnets[tensorflow]', or [tensorflow-cpu], [gpu], [jax] or [torch]"
        )
    os.environ["KERAS_BACKEND"] = installed[0]
    print(
        f"keras_resnets: Keras computes with {installed[0]}, because {configured} is not installed "
        "(KERAS_BACKEND chooses).",
        file=sys.stderr,
    )


def _configured() -> str:
    """What Keras' configuration file says, or else Keras' own default."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    try:
        return json.loads(Path(home, "keras.json").read_text(encoding="utf-8"))["backend"]
    except (OSError, ValueError, KeyError, TypeError):
        return "tensorflow"


def is_command() -> bool:
    """Whether this process is the command `keras-resnets`, or `python -m keras_resnets`.

    The command imports what each of its commands needs, so that `--help` answers at once, without
    Keras and without a backend.
    """
    program = Path(sys.argv[0]).stem if sys.argv and sys.argv[0] else ""
    as_module = ("-m", "keras_resnets") in zip(sys.orig_argv, sys.orig_argv[1:], strict=False)
    return program == "keras-resnets" or as_module

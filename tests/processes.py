"""Processes of their own, for what one process can do only once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import keras

import keras_resnets as kr

BACKEND = keras.backend.backend()


def child_environment() -> dict[str, str]:
    """This process' environment, in which a child finds the same package and backend."""
    package = str(Path(kr.__file__).parents[1])
    path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": BACKEND}


def started(function: Callable, *arguments, **variables: str) -> subprocess.Popen:
    """A process in which a function of a test module runs."""
    environment = child_environment() | variables
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), environment["PYTHONPATH"]]
    )
    module = function.__module__
    code = f"import sys, {module}; {module}.{function.__name__}(*sys.argv[1:])"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_child(script: str, *arguments: object) -> None:
    child = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr[-3000:]

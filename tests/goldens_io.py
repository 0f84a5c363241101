"""Reading the golden values and building the networks that they belong to."""

import contextlib
import functools
import gzip
import json
from pathlib import Path
from typing import Any
from unittest import mock

import keras
import numpy as np
from deterministic import random_state
from nets import Case

import keras_resnets as kr

FOLDER = Path(__file__).parent / "goldens"

# Relative to the largest value of a level.
TOLERANCES = {"float32": 1e-5, "float64": 1e-8}


@functools.cache
def architectures() -> dict[str, dict[str, Any]]:
    """Source, parameters, MACs and state of every variant."""
    return json.loads(gzip.decompress((FOLDER / "architectures.json.gz").read_bytes()))


@functools.cache
def parity() -> dict[str, Any]:
    """State of every case and the shapes of its outputs."""
    return json.loads(gzip.decompress((FOLDER / "parity.json.gz").read_bytes()))["cases"]


@functools.cache
def values():
    """The outputs of every case."""
    return np.load(FOLDER / "parity.npz")


@contextlib.contextmanager
def computing_in(dtype: str):
    """Builds and computes in a type."""
    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)  # It is made of the first floatx and kept.
    try:
        yield
    finally:
        keras.config.set_floatx(before)
        keras.config.set_dtype_policy(policy)


@contextlib.contextmanager
def zeros_for_initial_weights():
    """Builds without drawing random numbers: for weights that are replaced or never looked at."""
    with mock.patch.object(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype),
    ):
        yield


def build(case: Case, **arguments):
    """Our network of a case, filled with the deterministic weights; it returns logits."""
    build = dict(case.build)
    channels = build.pop("input_channels", 3)
    with zeros_for_initial_weights():
        model = kr.create_model(
            case.variant,
            weights=None,
            classifier_activation=None,
            input_shape=(None, None, channels),
            **build,
            **case.changes,
            **arguments,
        )
    state = {path: tuple(shape) for path, shape in parity()[case.name]["state"].items()}
    kr.load_weights(model, random_state(state))
    return model


def relative_error(ours, reference) -> float:
    """Largest deviation, in units of the largest reference value."""
    ours, reference = np.asarray(ours, "float64"), np.asarray(reference, "float64")
    return float(np.abs(ours - reference).max() / np.abs(reference).max())

"""What a run computes with: seeds, determinism, precision, versions."""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
from collections.abc import Iterator

import keras
import numpy as np

import keras_resnets
from keras_resnets.training.config import DTYPES, RunConfig
from keras_resnets.training.distribute import Placement


@contextlib.contextmanager
def environment(config: RunConfig) -> Iterator[None]:
    """Seeds, determinism and the type of the computation; the last is put back."""
    keras.utils.set_random_seed(config.seed)
    if config.deterministic:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.experimental.enable_op_determinism()
        elif keras.backend.backend() == "jax":
            flag = "--xla_gpu_deterministic_ops=true"
            os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(DTYPES[config.dtype])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def versions(placement: Placement) -> dict[str, str]:
    """Versions of what a run rests on, where it computes, and the day."""
    backend = keras.backend.backend()
    module = __import__(backend)
    found = {
        "keras_resnets": keras_resnets.__version__,
        "keras": keras.__version__,
        "backend": f"{backend} {module.__version__}",
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": ", ".join(keras.distribution.list_devices()) if backend != "torch" else "",
        "replicas": str(placement.replicas),
        "processes": str(placement.processes.count),
        "date": datetime.date.today().isoformat(),
    }
    if backend != "tensorflow":
        import tensorflow as tf

        found["tensorflow (data)"] = tf.__version__
    return found

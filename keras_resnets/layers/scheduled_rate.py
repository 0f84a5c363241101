"""What DropPath and DropBlock2D share: a drop rate that a schedule can move during training."""

import numbers

import keras
import numpy as np


class ScheduledRate(keras.layers.Layer):
    """Base of layers that drop something at a rate which may change while a model trains.

    The rate lives in a variable, so that a compiled training step sees a new value without being
    traced again. It is part of the configuration and not of the saved weights: a checkpoint fits
    a model whether or not that model drops anything.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self._start_rate = _checked(rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def build(self, input_shape):
        # No autocast: 0.1 must not become 0.1001 because the activations are bfloat16.
        self._rate = self.add_weight(
            name="rate",
            shape=(),
            initializer=keras.initializers.Constant(self._start_rate),
            trainable=False,
            autocast=False,
            dtype="float32",
        )
        super().build(input_shape)

    @property
    def rate(self) -> float:
        """Fraction dropped while training. Assign to it to move it: `layer.rate = 0.05`.

        Do so between epochs: on the JAX backend `fit` holds the variables itself during one.
        """
        return float(keras.ops.convert_to_numpy(self._rate)) if self.built else self._start_rate

    @rate.setter
    def rate(self, value: float) -> None:
        if self.built:
            self._rate.assign(_checked(value))
        else:
            self._start_rate = _checked(value)

    def compute_output_shape(self, input_shape):
        return input_shape

    def save_own_variables(self, store):
        """Writes nothing: the rate belongs to the configuration."""

    def load_own_variables(self, store):
        """Reads nothing: the rate belongs to the configuration."""

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


def _checked(rate: float) -> float:
    number = isinstance(rate, numbers.Real) and not isinstance(rate, bool)
    if not number or not 0 <= np.float32(rate) < 1:
        raise ValueError(f"rate must be a number from 0 to below 1. Received: rate={rate!r}")
    return float(rate)

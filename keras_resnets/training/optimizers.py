"""Optimizers as the papers have them, and what they decay.

Three ways to decay a weight w, which Keras' `weight_decay` argument does not tell apart:

    coupled     g + d w takes the place of the gradient g (SGD in all papers of this package)
    decoupled   w shrinks by the factor 1 - lr d beside the update (AdamW; Keras' `weight_decay`)
    in LAMB     d w is part of the update whose size the trust ratio sets

Only kernels of convolutions and dense layers are decayed, in all of them. That is not everybody's
rule: fb.resnet.torch and the authors of ResNeXt decay every parameter, biases and batch norms
included; torchvision's recipe exempts batch norms and decays the classifier's bias.

With momentum m the coupled decay is itself gathered up by the momentum, to d w / (1 - m) at last:
with m = 0.9 Keras' decoupled decay of the same d would be ten times too weak.
"""

from __future__ import annotations

import re

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_resnets.training.recipe import Recipe


def is_decayed(variable) -> bool:
    """Whether weight decay acts on a variable: on kernels, not on biases and batch norms.

    It asks for the name, because inside `update_step` TensorFlow hands over its own variables.
    """
    return re.search(r"(^|/)kernel(:\d+|/|$)", variable.name) is not None


def decayed_variables(model: keras.Model) -> list[keras.Variable]:
    """The variables of a model that weight decay acts on: its trainable kernels."""
    return [variable for variable in model.trainable_variables if is_decayed(variable)]


@keras.saving.register_keras_serializable(package="keras_resnets")
class CoupledSGD(keras.optimizers.SGD):
    """SGD with momentum and the papers' weight decay: `l2` times the kernel joins its gradient.

    Args:
        learning_rate: float or schedule.
        l2: strength of the decay.
        **kwargs: those of `keras.optimizers.SGD`; `weight_decay`, its decoupled kind, stays out.

    Source:
        Loshchilov and Hutter, arXiv:1711.05101, algorithm 1, the coupled kind.
    """

    def __init__(self, learning_rate=0.01, *, l2: float = 0.0, **kwargs) -> None:
        super().__init__(learning_rate, **kwargs)
        self.l2 = l2

    def update_step(self, gradient, variable, learning_rate):
        """One variable's update; gradients are already averaged, accumulated and clipped."""
        if self.l2 and is_decayed(variable):
            gradient = ops.cast(gradient, variable.dtype) + self.l2 * variable
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="keras_resnets")
class DecayedLamb(keras.optimizers.Lamb):
    """LAMB with the decay inside the update that the trust ratio scales.

    Keras' own shrinks the weights beside the update instead. Like timm's, with which the recipes
    a1 to a3 were found, it takes variables that are not decayed for plain Adam steps: their trust
    ratio is 1.

    Args:
        learning_rate: float or schedule.
        decay: strength of the decay.
        **kwargs: those of `keras.optimizers.Lamb`; `weight_decay` stays out.

    Source:
        You et al., arXiv:1904.00962; its update as in timm's Lamb.
    """

    def __init__(self, learning_rate=0.001, *, decay: float = 0.0, **kwargs) -> None:
        super().__init__(learning_rate, **kwargs)
        self.decay = decay

    def update_step(self, gradient, variable, learning_rate):
        """One variable's update; gradients are already averaged, accumulated and clipped."""
        weights = ops.copy(ops.convert_to_tensor(variable))
        # Where a variable is zero, Keras' trust ratio is 1: at the rate 1 it becomes minus the step
        # of Adam, and so tells what Keras keeps to itself.
        self.assign(variable, ops.zeros_like(weights))
        super().update_step(gradient, variable, 1.0)
        update = -ops.convert_to_tensor(variable)
        if self.decay and is_decayed(variable):
            update = update + self.decay * weights
            size, length = _norm(weights), _norm(update)
            either_zero = ops.logical_or(size == 0, length == 0)
            update = update * ops.where(
                either_zero, 1.0, size / ops.where(either_zero, 1.0, length)
            )
        self.assign(variable, weights - ops.cast(learning_rate, weights.dtype) * update)

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}


@keras.saving.register_keras_serializable(package="keras_resnets")
class DecayedAdamW(keras.optimizers.Adam):
    """AdamW that knows by itself what it decays: kernels shrink by `rate * decay` beside the step.

    Keras' own has to be told which variables to leave alone and forgets them when it is saved: a
    loaded one decays biases and batch norms, too.

    Args:
        learning_rate: float or schedule.
        decay: strength of the decay.
        **kwargs: those of `keras.optimizers.Adam`; `weight_decay` stays out.

    Source:
        Loshchilov and Hutter, arXiv:1711.05101, algorithm 2.
    """

    def __init__(self, learning_rate=0.001, *, decay: float = 0.0, **kwargs) -> None:
        super().__init__(learning_rate, **kwargs)
        self.decay = decay

    def update_step(self, gradient, variable, learning_rate):
        """One variable's update; gradients are already averaged, accumulated and clipped."""
        if self.decay and is_decayed(variable):
            rate = ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, rate * self.decay * ops.convert_to_tensor(variable))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}


def _norm(values):
    return ops.sqrt(ops.sum(ops.square(values)))


def make_optimizer(
    recipe: Recipe, learning_rate: float | LearningRateSchedule, *, accumulate: int = 1
) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe.

    Args:
        recipe: see `Recipe`.
        learning_rate: a float or a schedule; see `schedules.learning_rate`.
        accumulate: batches whose gradients are averaged before the weights move.

    Returns:
        A Keras optimizer. The moving average of the weights is not its business: Keras' would leave
        out the batch norms' statistics; see `callbacks.MovingAverage`.
    """
    shared = dict(
        learning_rate=learning_rate,
        global_clipnorm=recipe.clip_norm,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
    )
    if recipe.optimizer == "sgd":
        return CoupledSGD(
            momentum=float(recipe.momentum),
            nesterov=recipe.nesterov,
            l2=recipe.weight_decay,
            name="coupled_sgd",
            **shared,
        )
    decayed = {"beta_1": recipe.momentum, "decay": recipe.weight_decay, **shared}
    if recipe.optimizer == "lamb":
        return DecayedLamb(epsilon=1e-6, name="decayed_lamb", **decayed)
    return DecayedAdamW(name="adamw", **decayed)

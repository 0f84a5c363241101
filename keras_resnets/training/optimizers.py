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

Each can give variables learning rates of their own, as fractions of the common one; whatever the
learning rate multiplies follows, decoupled decay included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import keras
from keras import ops
from keras.optimizers.schedules import LearningRateSchedule

from keras_resnets.checks import require
from keras_resnets.graph.backbone import find_backbone, level_layers
from keras_resnets.names import in_head
from keras_resnets.training.recipe import Recipe


def is_decayed(variable) -> bool:
    """Whether weight decay acts on a variable: on kernels, not on biases and batch norms.

    It asks for the name, because inside `update_step` TensorFlow hands over its own variables.
    """
    return re.search(r"(^|/)kernel(:\d+|/|$)", variable.name) is not None


def decayed_variables(model: keras.Model) -> list[keras.Variable]:
    """The variables of a model that weight decay acts on: its trainable kernels."""
    return [variable for variable in model.trainable_variables if is_decayed(variable)]


def stage_scales(model: keras.Model, decay: float) -> dict[str, float]:
    """Learning rates by stage, as fractions of the classifier's: `decay` from each to the next.

    A stage ends with a level of the feature pyramid (`feature_levels`). Of a ResNet-50 the
    classifier has 1, `layer4` the decay, `layer3` its square, and the stem its fifth power.

    Args:
        model: with a backbone of this package in its own graph; what is frozen is left out.
        decay: 1 for one learning rate.

    Returns:
        The fraction of each trainable variable by its path; nothing where the decay is 1.

    Raises:
        ValueError: if all that trains is of one stage.

    Source:
        Layer-wise learning rates: Howard and Ruder, arXiv:1801.06146, section 3.2; by stage as in
        timm's `param_groups_layer_decay`.
    """
    if decay == 1:
        return {}
    backbone = find_backbone(model)
    ends = set(map(id, level_layers(backbone)[""].values()))
    scales, stage = {}, 0
    for layer in backbone.layers:  # Whatever reads a layer comes behind it.
        stage += id(layer) in ends
        below = 0 if in_head(layer.name) else len(ends) - min(stage, len(ends) - 1)
        scales |= {variable.path: decay**below for variable in layer.trainable_variables}
    require(
        len(set(scales.values())) > 1,
        "layer_decay needs two stages or more that train; freeze less, or leave it out",
        layer_decay=decay,
        trained_variables=len(scales),
    )
    return scales


class _ScaledByVariable:
    """What the optimizers below share: learning rates that differ by variable.

    Args:
        scales: fractions of the learning rate by the variables' paths; what it lacks has all of it.
    """

    def __init__(self, *args: Any, scales: Mapping[str, float] | None = None, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.scales = dict(scales or {})

    def build(self, variables):
        super().build(variables)
        # By identity, because inside `update_step` TensorFlow hands over its own variables.
        self.scale_of = {
            id(part): self.scales.get(variable.path, 1.0)
            for variable in (variables if self.scales else ())
            for part in _parts(variable)
        }

    def scaled(self, learning_rate, variable):
        """The learning rate of a variable."""
        return learning_rate * self.scale_of[id(variable)] if self.scales else learning_rate

    def get_config(self):
        return {**super().get_config(), "scales": dict(self.scales)}


def _parts(variable: keras.Variable) -> list:
    """What stands for a variable in `update_step`: on TensorFlow its own, one a device."""
    if keras.backend.backend() != "tensorflow":
        return [variable]
    import tensorflow as tf

    return list(tf.distribute.get_strategy().experimental_local_results(variable.value))


@keras.saving.register_keras_serializable(package="keras_resnets")
class CoupledSGD(_ScaledByVariable, keras.optimizers.SGD):
    """SGD with momentum and the papers' weight decay: `l2` times the kernel joins its gradient.

    Args:
        learning_rate: float or schedule.
        l2: strength of the decay.
        scales: fractions of the learning rate by variable; see `stage_scales`.
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
        super().update_step(gradient, variable, self.scaled(learning_rate, variable))

    def get_config(self):
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="keras_resnets")
class DecayedLamb(_ScaledByVariable, keras.optimizers.Lamb):
    """LAMB with the decay inside the update that the trust ratio scales.

    Keras' own shrinks the weights beside the update instead. Like timm's, with which the recipes
    a1 to a3 were found, it takes variables that are not decayed for plain Adam steps: their trust
    ratio is 1.

    Args:
        learning_rate: float or schedule.
        decay: strength of the decay.
        scales: fractions of the learning rate by variable; see `stage_scales`.
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
        rate = ops.cast(self.scaled(learning_rate, variable), weights.dtype)
        self.assign(variable, weights - rate * update)

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}


@keras.saving.register_keras_serializable(package="keras_resnets")
class DecayedAdamW(_ScaledByVariable, keras.optimizers.Adam):
    """AdamW that knows by itself what it decays: kernels shrink by `rate * decay` beside the step.

    Keras' own has to be told which variables to leave alone and forgets them when it is saved: a
    loaded one decays biases and batch norms, too.

    Args:
        learning_rate: float or schedule.
        decay: strength of the decay.
        scales: fractions of the learning rate by variable; see `stage_scales`.
        **kwargs: those of `keras.optimizers.Adam`; `weight_decay` stays out.

    Source:
        Loshchilov and Hutter, arXiv:1711.05101, algorithm 2.
    """

    def __init__(self, learning_rate=0.001, *, decay: float = 0.0, **kwargs) -> None:
        super().__init__(learning_rate, **kwargs)
        self.decay = decay

    def update_step(self, gradient, variable, learning_rate):
        """One variable's update; gradients are already averaged, accumulated and clipped."""
        learning_rate = self.scaled(learning_rate, variable)
        if self.decay and is_decayed(variable):
            rate = ops.cast(learning_rate, variable.dtype)
            self.assign_sub(variable, rate * self.decay * ops.convert_to_tensor(variable))
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "decay": self.decay}


def _norm(values):
    return ops.sqrt(ops.sum(ops.square(values)))


def make_optimizer(
    recipe: Recipe,
    learning_rate: float | LearningRateSchedule,
    *,
    accumulate: int = 1,
    scales: Mapping[str, float] | None = None,
) -> keras.optimizers.Optimizer:
    """The optimizer of a recipe.

    Args:
        recipe: see `Recipe`.
        learning_rate: a float or a schedule; see `schedules.learning_rate`.
        accumulate: batches whose gradients are averaged before the weights move.
        scales: fractions of the learning rate by variable; see `stage_scales`.

    Returns:
        A Keras optimizer. The moving average of the weights is not its business: Keras' would leave
        out the batch norms' statistics; see `callbacks.MovingAverage`.
    """
    shared = dict(
        learning_rate=learning_rate,
        global_clipnorm=recipe.clip_norm,
        gradient_accumulation_steps=accumulate if accumulate > 1 else None,
        scales=scales,
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

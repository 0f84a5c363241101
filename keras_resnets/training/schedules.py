"""What moves during training: the learning rate, every step, and drop rates, every epoch."""

from __future__ import annotations

import keras
from keras import ops
from keras.optimizers.schedules import (
    CosineDecay,
    LearningRateSchedule,
    PiecewiseConstantDecay,
)

from keras_resnets.layers import DropBlock2D
from keras_resnets.training.recipe import Recipe


@keras.saving.register_keras_serializable(package="keras_resnets")
class WarmUp(LearningRateSchedule):
    """A linear rise in front of any schedule.

    Keras' `CosineDecay` can warm up by itself and its other schedules cannot; this does it for all.
    The schedule behind it starts at its own step 0 when the rise is over. Step 0 already moves: the
    first step has `start` of the target, not the step after it.

    Args:
        after: the schedule that follows.
        target: learning rate at the end of the rise.
        steps: length of the rise.
        start: learning rate at step 0.

    Source:
        Goyal et al., arXiv:1706.02677, section 2.2 (gradual warm-up).
    """

    def __init__(
        self, after: LearningRateSchedule, target: float, steps: int, start: float = 0.0
    ) -> None:
        super().__init__()
        self.after, self.target, self.steps, self.start = after, target, steps, start

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = self.start + (self.target - self.start) * step / max(self.steps, 1)
        following = self.after(ops.maximum(step - self.steps, 0.0))
        return ops.where(step < self.steps, rising, following)

    def get_config(self):
        return dict(
            after=keras.saving.serialize_keras_object(self.after),
            target=self.target,
            steps=self.steps,
            start=self.start,
        )

    @classmethod
    def from_config(cls, config):
        after = keras.saving.deserialize_keras_object(config["after"])
        return cls(**(config | {"after": after}))


def learning_rate(recipe: Recipe, *, steps_per_epoch: int, batch_size: int) -> LearningRateSchedule:
    """The learning rate of a recipe, a function of the step.

    With e epochs of s steps, w of them warm-up, and the rate r, scaled to the batch, step k has

        warm-up, k < w s:   r (f + (1 - f) k / (w s)),   f = `warmup_factor`
        cosine:             r (g + (1 - g) (1 + cos(pi p)) / 2),   g = `final_factor`,
                            p = (k - w s) / (e s - w s)
        steps:              r h^n,   n of `step_epochs` being over,   h = `step_factor`

    Args:
        recipe: see `Recipe`.
        steps_per_epoch: steps that an epoch takes; where gradients are accumulated, each batch
            counts as one.
        batch_size: the effective batch: images that one update of the weights rests on.

    Returns:
        A Keras schedule.
    """
    peak = recipe.scaled_learning_rate(batch_size)
    total = recipe.epochs * steps_per_epoch
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), total - 1)
    if recipe.schedule == "cosine":
        after = CosineDecay(peak, total - warmup, alpha=recipe.final_factor)
    elif recipe.schedule == "steps":
        # Keras' boundary belongs to the value before it, hence the step before.
        borders = [epoch * steps_per_epoch - warmup - 1 for epoch in recipe.step_epochs]
        values = [peak * recipe.step_factor**i for i in range(len(borders) + 1)]
        after = PiecewiseConstantDecay([float(border) for border in borders], values)
    else:
        after = CosineDecay(peak, 1, alpha=1.0)
    if not warmup:
        return after
    return WarmUp(after, peak, warmup, start=recipe.warmup_factor * peak)


def drop_block_progress(recipe: Recipe, epoch: int) -> float:
    """Which part of DropBlock's rate is in force in an epoch, counted from 0: from 0 to 1."""
    if not recipe.ramp_drop_block:
        return 1.0
    return epoch / max(recipe.epochs - 1, 1)


class DropBlockSchedule(keras.callbacks.Callback):
    """Raises DropBlock's rates linearly, from nothing in the first epoch to all in the last.

    The rates are variables, so the compiled step sees the new ones without being traced again. They
    move between epochs, because on JAX a running `fit` holds the variables itself.

    Args:
        recipe: see `Recipe`; `ramp_drop_block` says whether anything moves.
        model: as it was built, with the rates of the last epoch.

    Source:
        Ghiasi et al., arXiv:1810.12890, section 3 (scheduled DropBlock). ResNeSt's authors
        move it by `(epoch + 1) / epochs`; here the first epoch has none.
    """

    def __init__(self, recipe: Recipe, model: keras.Model) -> None:
        super().__init__()
        self.recipe = recipe
        self.last_rates = {
            layer: layer.rate for layer in model.layers if isinstance(layer, DropBlock2D)
        }

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for layer, rate in self.last_rates.items():
            layer.rate = rate * drop_block_progress(self.recipe, epoch)

"""Learning rates against their formulas, and drop rates that move without a new trace."""

import dataclasses
import math

import keras
import numpy as np
import pytest

import keras_resnets as kr
from keras_resnets.training.recipe import find_recipe, list_recipes
from keras_resnets.training.schedules import DropBlockSchedule, WarmUp, learning_rate

STEPS = 10  # An epoch.


def formula(recipe, step: int, batch_size: int) -> float:
    """What the docstring of `learning_rate` says, in plain Python."""
    peak = recipe.learning_rate * batch_size / recipe.reference_batch_size
    warmup = recipe.warmup_epochs * STEPS
    if step < warmup:
        return peak * (recipe.warmup_factor + (1 - recipe.warmup_factor) * step / warmup)
    if recipe.schedule == "steps":
        return peak * recipe.step_factor ** sum(step >= e * STEPS for e in recipe.step_epochs)
    progress = (step - warmup) / (recipe.epochs * STEPS - warmup)
    g = recipe.final_factor
    return peak * (g + (1 - g) * (1 + math.cos(math.pi * progress)) / 2)


@pytest.mark.parametrize("name", list_recipes())
def test_learning_rates_follow_their_formula_at_every_border(name):
    recipe = find_recipe(name)
    batch_size = 2 * recipe.batch_size
    schedule = learning_rate(recipe, steps_per_epoch=STEPS, batch_size=batch_size)
    warmup = round(recipe.warmup_epochs * STEPS)
    last = recipe.epochs * STEPS - 1
    borders = [0, warmup, last, last // 2, *(epoch * STEPS for epoch in recipe.step_epochs)]
    # In float32, as Keras computes, 1 + cos near its end is known to some 1e-7 of the peak.
    tolerance = 1e-6 * recipe.scaled_learning_rate(batch_size)
    for step in {min(max(b + d, 0), last) for b in borders for d in (-1, 0, 1)}:
        value = float(schedule(np.int64(step)))
        assert value == pytest.approx(formula(recipe, step, batch_size), abs=tolerance), step


def test_the_learning_rate_follows_the_batch_by_the_stated_rule():
    recipe = find_recipe("resnet")
    assert recipe.scaled_learning_rate(1024) == pytest.approx(0.4)
    root = dataclasses.replace(recipe, batch_scaling="sqrt")
    assert root.scaled_learning_rate(1024) == pytest.approx(0.2)
    assert dataclasses.replace(recipe, batch_scaling="none").scaled_learning_rate(1024) == 0.1


def test_a_cosine_that_ends_above_zero_and_a_warm_up_that_starts_above_it():
    recipe = dataclasses.replace(
        find_recipe("a3"), epochs=4, warmup_epochs=1, warmup_factor=0.25, final_factor=0.1
    )
    schedule = learning_rate(recipe, steps_per_epoch=STEPS, batch_size=2048)
    for step in (0, 5, 9, 10, 25, 39):
        assert float(schedule(step)) == pytest.approx(formula(recipe, step, 2048), rel=1e-5)


def test_a_constant_rate_stays():
    recipe = dataclasses.replace(find_recipe("resnet"), schedule="constant")
    schedule = learning_rate(recipe, steps_per_epoch=STEPS, batch_size=256)
    assert [float(schedule(step)) for step in (0, 1, 1000)] == pytest.approx([0.1] * 3)


def test_a_warm_up_longer_than_the_run_does_not_end_it():
    recipe = dataclasses.replace(find_recipe("resnest"), epochs=2)
    schedule = learning_rate(recipe, steps_per_epoch=1, batch_size=256)
    assert [float(schedule(step)) for step in (0, 1)] == pytest.approx([0.0, 0.1])


def test_schedules_are_serialised_with_what_follows_them():
    schedule = learning_rate(find_recipe("resnest"), steps_per_epoch=STEPS, batch_size=256)
    assert isinstance(schedule, WarmUp)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    for step in (0, 20, 50, 1000):
        assert float(again(step)) == float(schedule(step))


@keras.saving.register_keras_serializable(package="tests")
class CountTraces(keras.layers.Layer):
    """Counts how often Python runs its call: once a trace."""

    traces = 0

    def call(self, inputs):
        type(self).traces += 1
        return inputs


def test_drop_block_rises_to_its_rate_without_a_new_trace():
    recipe = dataclasses.replace(find_recipe("resnest"), epochs=3)
    inputs = keras.Input((8, 8, 16))
    x = CountTraces()(inputs)
    x = kr.layers.DropBlock2D(0.4, 3, name="drop")(x)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    model.compile("sgd", "mse", run_eagerly=False)
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append((model.get_layer("drop").rate, logs["loss"]))
    )
    images = np.ones((4, 8, 8, 16), "float32")
    CountTraces.traces = 0
    traces = []
    count = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: traces.append(CountTraces.traces)
    )
    model.fit(
        images,
        np.ones((4, 16), "float32"),
        epochs=3,
        verbose=0,
        callbacks=[DropBlockSchedule(recipe, model), watch, count],
    )
    assert [rate for rate, _ in seen] == pytest.approx([0.0, 0.2, 0.4])
    assert seen[0][1] == 0, "nothing may be dropped in the first epoch"
    assert seen[2][1] > seen[1][1] > 0, "the step must see the new rates"
    assert traces[0] == traces[2]


def test_drop_block_keeps_its_rate_where_nothing_ramps():
    recipe = dataclasses.replace(find_recipe("resnet"), epochs=3)
    model = kr.ResNet18(weights=None, depths=(1, 1, 1), drop_block=0.2, classes=4)
    rates = [layer.rate for layer in model.layers if isinstance(layer, kr.layers.DropBlock2D)]
    schedule = DropBlockSchedule(recipe, model)
    schedule.on_epoch_begin(0)
    assert rates
    assert rates == [layer.rate for layer in schedule.last_rates]

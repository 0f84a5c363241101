"""What several devices share: the statistics of batch norms, and no random draws.

Devices are logical ones of the processor, in a process of their own.
"""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from processes import BACKEND, started
from scale_runs import ask_to_stop, at_step, finish
from tiny_runs import ONE_BLOCK, last_arrays, pictures, tiny_config

from keras_resnets.layers import DropBlock2D, DropPath
from keras_resnets.training import distribute, errors
from keras_resnets.training.run import train
from keras_resnets.training.run_folder import RunFolder

on_tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="TensorFlow's strategies")
on_jax = pytest.mark.skipif(BACKEND != "jax", reason="JAX's distribution")

DATA = {"train": pictures(40), "validation": pictures(21, seed=1)}


def images(count: int = 16) -> np.ndarray:
    """Images whose mean rises from one to the next, so that no two parts of a batch agree."""
    random = np.random.default_rng(0)
    return (random.normal(size=(count, 4, 4, 3)) + np.arange(count)[:, None, None, None]).astype(
        "float32"
    )


def small_model() -> keras.Model:
    """Its batch norm sees the images alone, whatever becomes of the weights."""
    return keras.Sequential(
        [
            keras.Input((4, 4, 3)),
            keras.layers.BatchNormalization(momentum=0.5, name="norm"),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5, seed=1),
            keras.layers.Dense(1),
        ]
    )


def dropping() -> list[keras.layers.Layer]:
    return [
        keras.layers.Dropout(0.5, seed=3),
        DropPath(0.5, seed=4),
        DropBlock2D(0.5, block_size=2, seed=5),
    ]


def result_of(function, *arguments) -> dict:
    """What a function that runs in a process of its own wrote down."""
    out = Path(arguments[0])
    process = started(function, *arguments)
    try:
        said = finish(process)
    finally:
        process.kill()
    assert process.returncode == 0, said[-3000:]
    return json.loads((out / "found.json").read_text())


# TensorFlow --------------------------------------------------------------------------------------


def trained(placement, with_replicas: bool) -> keras.Model:
    with placement.scope():
        model, optimizer = small_model(), keras.optimizers.SGD(0.01)
    model = distribute.compiled(model, placement, optimizer=optimizer, loss="mse")
    callbacks = [distribute.Replicas(placement.strategy)] if with_replicas else []
    x, y = images(), np.zeros((16, 1), "float32")
    with placement.scope():
        model.fit(x, y, batch_size=8, epochs=2, shuffle=False, callbacks=callbacks, verbose=0)
    return model


def on_two_replicas(out: str) -> None:
    import tensorflow as tf

    two = distribute.place(distribute.Processes(), devices=2)
    found = {}
    for name, with_replicas in (("keras", False), ("ours", True)):
        model = trained(two, with_replicas)
        norm = model.get_layer("norm")
        for statistic in ("moving_mean", "moving_variance"):
            values = two.strategy.experimental_local_results(getattr(norm, statistic).value)
            found[f"{name} {statistic}"] = [value.numpy().tolist() for value in values]
        model.save(f"{out}/{name}.keras")

    def masks(model, x):
        draw = tf.function(lambda: two.strategy.run(lambda: model(x, training=True)))
        results = keras.tree.flatten(draw())
        each = [two.strategy.experimental_local_results(result) for result in results]
        return [[(value.numpy() == 0).astype(int).tolist() for value in pair] for pair in each]

    x = tf.ones((32, 8, 8, 4))

    def build():
        with two.scope():
            inputs = keras.Input((8, 8, 4))
            return keras.Model(inputs, [layer(inputs) for layer in dropping()])

    model = build()
    states = [v for v in model.variables if v.name == "seed_generator_state"]
    start = [state.numpy() for state in states]
    found["keras draws"] = masks(model, x)
    for state, value in zip(states, start, strict=True):
        state.assign(value)
    replicas = distribute.Replicas(two.strategy)
    replicas.set_model(model)
    with two.scope():
        replicas.on_train_begin()
    found["draws"] = [masks(model, x), masks(model, x)]
    with two.scope():
        replicas.on_train_begin()  # Again, as when an epoch is begun in the middle.
    between = [state.numpy() for state in states]
    found["later"] = masks(model, x)
    # A model into which that state is loaded.
    resumed = build()
    states = [v for v in resumed.variables if v.name == "seed_generator_state"]
    for state, value in zip(states, between, strict=True):
        state.assign(value)
    replicas = distribute.Replicas(two.strategy)
    replicas.set_model(resumed)
    with two.scope():
        replicas.on_train_begin()
    found["resumed"] = masks(resumed, x)
    Path(out, "found.json").write_text(json.dumps(found))


@pytest.mark.long
@on_tensorflow
def test_statistics_that_are_saved_are_the_mean_over_replicas_and_draws_differ(tmp_path):
    found = result_of(on_two_replicas, tmp_path)
    saved = {
        name: keras.saving.load_model(tmp_path / f"{name}.keras").get_layer("norm")
        for name in ("keras", "ours")
    }
    for statistic in ("moving_mean", "moving_variance"):
        # What Keras does: where this fails, it has been mended there.
        first, second = map(np.array, found[f"keras {statistic}"])
        assert abs(first - second).max() > 0.1
        assert np.array(getattr(saved["keras"], statistic)) == pytest.approx(first)
        # What we do, and nothing else of the training has changed.
        ours = np.array(found[f"ours {statistic}"])
        assert (ours[0] == ours[1]).all()
        assert ours[0] == pytest.approx((first + second) / 2, rel=1e-6)
        assert np.array(getattr(saved["ours"], statistic)) == pytest.approx(ours[0])
    for keras_draws, *ours in zip(found["keras draws"], *found["draws"], strict=True):
        assert keras_draws[0] == keras_draws[1]
        assert all(first != second for first, second in ours)
        # The first replica draws what it did, as one device does.
        assert ours[0][0] == keras_draws[0]
        # The draws go on.
        assert ours[0] != ours[1]
    assert found["resumed"] == found["later"]
    assert found["later"] not in found["draws"]


def config():
    changes = dict(ONE_BLOCK, ema=0.9, epochs=2, dropout=0.3, drop_path=0.3)
    return tiny_config(data=DATA, changes=changes, deterministic=True)


def runs_on_two_replicas(out: str) -> None:
    """A run to its end, and one that stops in the middle of an epoch and is resumed."""
    two = distribute.place(distribute.Processes(), devices=2)
    train(config(), f"{out}/whole", placement=two)
    with at_step(4, ask_to_stop), pytest.raises(errors.Interrupted):
        train(config(), f"{out}/parts", placement=two)
    train(config(), f"{out}/parts", placement=two, resume=True)
    Path(out, "found.json").write_text("{}")


@pytest.mark.long
@on_tensorflow
def test_a_resumed_run_on_two_replicas_draws_and_gathers_what_a_whole_one_does(tmp_path):
    result_of(runs_on_two_replicas, tmp_path)
    whole, parts = (last_arrays(RunFolder(tmp_path / name)) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert any("moving_mean" in name for name in whole)
    for name in whole:
        assert parts[name] == pytest.approx(whole[name], rel=1e-5, abs=1e-6), name


# JAX ---------------------------------------------------------------------------------------------


def on_jax_devices(out: str, devices: str) -> None:
    placement = distribute.place(distribute.Processes(), devices=int(devices))
    assert placement.replicas == int(devices)
    model = trained(placement, with_replicas=True)
    norm = model.get_layer("norm")
    found = {
        name: np.array(getattr(norm, name)).tolist() for name in ("moving_mean", "moving_variance")
    }
    found["masks"] = [
        (np.array(layer(np.ones((32, 8, 8, 4), "float32"), training=True)) == 0)
        .astype(int)
        .tolist()
        for layer in dropping()
    ]
    Path(out, "found.json").write_text(json.dumps(found))


@on_jax
@pytest.mark.backend
def test_on_jax_a_batch_is_one_array_with_one_mean_and_one_mask(tmp_path):
    one, two = (result_of(on_jax_devices, tmp_path, devices) for devices in (1, 2))
    for statistic in ("moving_mean", "moving_variance"):
        assert two[statistic] == pytest.approx(one[statistic], rel=1e-5)
    assert two["masks"] == one["masks"]
    for mask in map(np.array, two["masks"]):
        assert (mask[:16] != mask[16:]).any()  # The halves that two devices hold.

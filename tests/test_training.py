"""Tiny nets of every family train: every variable learns, and what changes training changes it."""

import functools
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from processes import BACKEND, child_environment
from tiny_nets import (
    LEAVES,
    NETS,
    batch,
    batch_norms,
    call,
    compiled,
    fit,
    tiny_net,
    unchanged,
    values,
)

import keras_resnets as kr

# Every family ------------------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("net", NETS)
def test_fit_moves_every_variable_and_lowers_the_loss(net):
    model = compiled(tiny_net(net), rate=0.02)
    weights = [v for layer in model.layers for v in layer.weights if v.name in LEAVES]
    before = values(weights)
    losses = fit(model, epochs=8)
    assert np.all(np.isfinite(losses))
    # The same batch again and again: with a gradient of the wrong sign the loss would rise.
    assert losses[-1] < 0.95 * losses[0], losses
    # A batch norm takes out whatever the bias in front of it adds: rounding errors alone move it.
    # So it does with ReXNet's sums of linear outputs: each way on is a 1x1 convolution and a norm.
    normed = {id(layer.input) for layer in batch_norms(model)}
    cancelled = {
        layer.bias.path
        for layer in model.layers
        if getattr(layer, "use_bias", False) and id(layer.output) in normed
    }
    cancelled |= {path for path in before if path.endswith("_conv_pwl_bn/beta")}
    assert unchanged(weights, before) <= cancelled


# Batch norms -------------------------------------------------------------------------------------


@pytest.mark.backend
def test_frozen_batch_norms_stay_and_the_rest_learns():
    model = tiny_net("bottleneck-d")
    norms = batch_norms(model)
    for norm in norms:
        norm.trainable = False
    frozen = [variable for norm in norms for variable in norm.weights]
    kernels = model.trainable_variables
    assert len(frozen) == 4 * len(norms)
    before = values([*frozen, *kernels])
    images, _ = batch()
    # With the statistics of the batch, training mode would give other values than inference.
    error = np.abs(call(model, images, training=True) - call(model, images)).max()
    assert error < 1e-5
    fit(compiled(model))
    assert unchanged(frozen, before) == {variable.path for variable in frozen}
    assert not unchanged(kernels, before)


@pytest.mark.backend
def test_batch_norm_statistics_move_by_a_tenth():
    """PyTorch's momentum 0.1 is Keras' 0.9; the other way round, one step would replace them."""
    model = tiny_net("bottleneck-d")
    norm = batch_norms(model)[0]
    before = values(norm.weights)[norm.moving_mean.path]
    images, _ = batch()
    into = keras.Model(model.input, norm.input)(images)
    mean = keras.ops.convert_to_numpy(keras.ops.mean(into, axis=(0, 1, 2)))
    fit(compiled(model))
    after = values(norm.weights)[norm.moving_mean.path]
    np.testing.assert_allclose(after, 0.9 * before + 0.1 * mean, atol=1e-5)


# Regularisation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "net", [pytest.param("resnest-2s2x", marks=pytest.mark.backend), "res2net-4s", "wide"]
)
def test_all_drops_at_once_train_at_unknown_sizes(net):
    drops = dict(drop_path=0.2, drop_block=0.1, dropout=0.2)
    model = tiny_net(net, input_shape=(None, None, 3), **drops)
    kinds = {type(layer) for layer in model.layers}
    assert {kr.layers.DropPath, kr.layers.DropBlock2D, keras.layers.Dropout} <= kinds
    images, _ = batch()
    # Nothing is dropped at inference, and something is while training, each time something else.
    np.testing.assert_array_equal(call(model, images), call(tiny_net(net), images))
    for norm in batch_norms(model):
        norm.trainable = False
    draws = [call(model, images, training=True) for _ in range(2)]
    assert not np.array_equal(*draws)
    for norm in batch_norms(model):
        norm.trainable = True
    compiled(model)
    # Two sizes after one another: a size that a drop layer kept from the first would show.
    for size in ((64, 64), (48, 80)):
        assert np.all(np.isfinite(fit(model, batch(*size))))


@pytest.mark.backend
def test_a_callback_moves_the_drop_rate_while_fit_runs(monkeypatch):
    """The rate must be a variable: as a Python number, the compiled step would keep its first."""
    traces = 0
    original = kr.layers.DropPath.call

    @functools.wraps(original)
    def counted(self, inputs, training=False):
        nonlocal traces
        traces += 1
        return original(self, inputs, training=training)

    monkeypatch.setattr(kr.layers.DropPath, "call", counted)
    model = tiny_net("basic", drop_path=0.5)
    drops = [layer for layer in model.layers if isinstance(layer, kr.layers.DropPath)]
    rates, seen = (0.5, 0.0, 0.9, 0.0), []

    def move(epoch, logs=None):
        for layer in drops:
            layer.rate = rates[epoch]
        seen.append(traces)

    # A learning rate of 0 and frozen norms: nothing but the drops tells one epoch from another.
    for norm in batch_norms(model):
        norm.trainable = False
    compiled(model, rate=0.0)
    losses = fit(model, epochs=4, callbacks=[keras.callbacks.LambdaCallback(on_epoch_begin=move)])
    expected = model.evaluate(*batch(), batch_size=4, verbose=0)
    assert losses[1] == pytest.approx(expected, rel=1e-5)
    assert losses[3] == pytest.approx(expected, rel=1e-5)
    assert abs(losses[2] - expected) > 1e-3 * expected
    if BACKEND != "torch":  # It compiles nothing: every step calls the layer.
        assert seen[3] == seen[1], "a moved rate traced the training step again"


# Precision and compilation -----------------------------------------------------------------------


@pytest.fixture
def mixed_bfloat16():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.backend
@pytest.mark.parametrize("net", ["resnest-2s2x", "rexnet"])
def test_mixed_bfloat16_trains(net, mixed_bfloat16):
    drops = dict(drop_path=0.2) | ({} if net == "rexnet" else dict(drop_block=0.1))
    model = compiled(tiny_net(net, **drops))
    convs = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert {conv.compute_dtype for conv in convs} == {"bfloat16"}
    # The loss needs more than 8 bits, and weights that small steps would not move cannot learn.
    assert model.output.dtype == "float32"
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    before = values(model.trainable_variables)
    assert np.all(np.isfinite(fit(model, epochs=2)))
    kernels = [conv.kernel for conv in convs]
    assert not unchanged(kernels, before)
    assert np.all(np.isfinite(np.concatenate([v.ravel() for v in values(model.weights).values()])))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="JAX compiles always, torch otherwise.")
def test_a_step_compiled_by_xla_is_the_same_step():
    variables = []
    for jit_compile in (True, False):
        model = compiled(tiny_net("cifar"), jit_compile=jit_compile)
        fit(model, batch(32, 32))
        variables.append(list(values(model.weights).values()))
    for ours, plain in zip(*variables, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-4)


# Two devices -------------------------------------------------------------------------------------

# The batch norms are frozen: each replica takes the statistics of its own half of the batch, so
# with live ones the two runs would rightly differ. Frozen, the mean gradient of the halves is that
# of the whole, and since the halves hold other images, a replica that is left out shows.
_TWO_DEVICES = """
import sys
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from tiny_nets import batch_norms, compiled, fit, tiny_net, values

net, jit_compile, drops = sys.argv[1], dict(auto="auto", off=False)[sys.argv[2]], sys.argv[3]

def build():
    model = tiny_net(net, **(dict(drop_path=0.2, drop_block=0.1) if drops == "drops" else {}))
    for norm in batch_norms(model):
        norm.trainable = False
    return compiled(model, jit_compile=jit_compile)

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    mirrored = build()
start = values(mirrored.trainable_variables).values()
losses = fit(mirrored, epochs=3)
assert np.all(np.isfinite(losses)), losses
ours = values(mirrored.trainable_variables).values()
moved = max(np.abs(a - b).max() for a, b in zip(ours, start, strict=True))
assert moved > 1e-3, f"nothing was learnt: {moved}"
if drops == "none":
    single = build()
    fit(single, epochs=3)
    theirs = values(single.trainable_variables).values()
    error = max(np.abs(a - b).max() for a, b in zip(ours, theirs, strict=True))
    assert error < 1e-4, f"two devices and one differ by {error}"
"""


@pytest.mark.long
@pytest.mark.skipif(BACKEND != "tensorflow", reason="A strategy of TensorFlow.")
@pytest.mark.parametrize(
    ("net", "jit_compile", "drops"),
    [
        ("resnest-2s2x", "auto", "none"),
        ("resnext-se", "off", "none"),
        ("basic", "auto", "drops"),  # The drops draw and keep state on every replica.
    ],
)
def test_two_devices_learn_what_one_learns(net, jit_compile, drops):
    # A process each: devices are configured once, and a failed run poisons the next.
    child = subprocess.run(
        [sys.executable, "-c", _TWO_DEVICES, net, jit_compile, drops],
        cwd=Path(__file__).parent,
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert child.returncode == 0, child.stderr[-3000:]

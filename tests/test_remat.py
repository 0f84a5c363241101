"""remat=True: the same network and the same training, with its blocks computed twice."""

import keras
import numpy as np
import pytest
from tiny_nets import batch, compiled, fit, tiny_net, values

import keras_resnets as kr
from keras_resnets.graph.remat import RematModel

# Random drops, whose second time has to be the first again, in all that has blocks.
DROPS = {
    "basic": dict(drop_path=0.3, dropout=0.1),
    "resnext-se": dict(drop_path=0.3, drop_block=0.1),
    "resnest-2s2x": dict(drop_path=0.3, drop_block=0.1),
    "res2net-4s": dict(drop_path=0.3),
    "rexnet": dict(drop_path=0.3, dropout=0.1),
}


def trained(net: str, **arguments) -> tuple[list[float], list[np.ndarray]]:
    """The losses of two steps, and all weights, statistics and seeds after them."""
    compile_arguments = {key: arguments.pop(key) for key in ("jit_compile",) if key in arguments}
    keras.utils.set_random_seed(0)
    model = compiled(tiny_net(net, **DROPS.get(net, {}), **arguments), **compile_arguments)
    keras.utils.set_random_seed(1)
    return fit(model, epochs=2), list(values(model.variables).values())


@pytest.mark.long
@pytest.mark.parametrize(
    "net",
    [pytest.param(net, marks=pytest.mark.backend) if net == "rexnet" else net for net in DROPS],
)
def test_training_is_that_of_the_plain_network(net):
    (losses, weights), (remat_losses, remat_weights) = (
        trained(net, remat=remat) for remat in (False, True)
    )
    assert losses[-1] != losses[0]
    np.testing.assert_allclose(remat_losses, losses, rtol=1e-5)
    for ours, plain in zip(remat_weights, weights, strict=True):
        # XLA compiles the two differently: of each array the largest value sets the scale.
        np.testing.assert_allclose(ours, plain, rtol=0, atol=2e-4 * np.abs(plain).max())


@pytest.mark.long
def test_training_is_the_same_under_xla():
    losses, remat_losses = (
        trained("resnext-se", remat=remat, jit_compile=True)[0] for remat in (False, True)
    )
    np.testing.assert_allclose(remat_losses, losses, rtol=1e-4)


def test_half_types_train_in_less_memory_too():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        losses, remat_losses = (trained("basic", remat=remat)[0] for remat in (False, True))
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(remat_losses, losses, rtol=2e-2)


def convolutions(model: keras.Model) -> int:
    """How many convolutions TensorFlow runs forwards for the gradients of a step."""
    import tensorflow as tf

    @tf.function
    def step(images):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True))
        weights = [variable.value for variable in model.trainable_variables]
        return tape.gradient(loss, weights)

    graph = step.get_concrete_function(tf.TensorSpec((2, 64, 64, 3))).graph
    return sum(operation.type == "Conv2D" for operation in graph.get_operations())


def test_every_block_is_computed_twice_and_nothing_else():
    plain, ours = (convolutions(tiny_net("basic", remat=remat)) for remat in (False, True))
    in_blocks = sum(
        layer.name.startswith("layer") and "conv" in type(layer).__name__.lower()
        for layer in tiny_net("basic").layers
    )
    assert plain == in_blocks + 1, "the stem is one convolution"
    assert ours == plain + in_blocks


@pytest.mark.backend
def test_layers_weights_and_values_are_those_of_the_plain_network(tmp_path):
    plain, ours = (tiny_net("rexnet", remat=remat) for remat in (False, True))
    assert isinstance(ours, RematModel)
    assert not isinstance(plain, RematModel)
    assert [layer.name for layer in ours.layers] == [layer.name for layer in plain.layers]
    images, _ = batch()
    np.testing.assert_array_equal(*(model.predict_on_batch(images) for model in (plain, ours)))
    fit(compiled(ours))  # The graph is cut when training begins, which changes nothing of this.
    ours.save_weights(tmp_path / "net.weights.h5")
    compiled(plain)
    plain.load_weights(tmp_path / "net.weights.h5")
    expected = ours.predict_on_batch(images)
    np.testing.assert_array_equal(plain.predict_on_batch(images), expected)
    kr.save_safetensors(ours, tmp_path / "net.safetensors")
    kr.load_weights(plain, tmp_path / "net.safetensors")
    np.testing.assert_array_equal(plain.predict_on_batch(images), expected)


def test_a_saved_model_remembers_and_can_be_cut_and_folded(tmp_path):
    model = tiny_net("basic", remat=True, drop_path=0.2)
    fit(compiled(model))
    model.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    assert isinstance(loaded, RematModel)
    assert np.isfinite(fit(loaded)).all()
    images, _ = batch()
    expected = loaded.predict_on_batch(images)
    folded = kr.fold_batch_norms(loaded).predict_on_batch(images)
    np.testing.assert_allclose(folded, expected, rtol=1e-4, atol=1e-5)
    backbone = keras.Model(loaded.input, loaded.get_layer("P2").output)
    assert backbone.predict_on_batch(images).shape[-1] == loaded.get_layer("P2").output.shape[-1]


def test_it_trains_on_top_of_other_layers_and_with_its_own_preprocessing():
    image = keras.Input((64, 64, 3))
    augment = keras.Sequential([keras.layers.GaussianNoise(0.1), keras.layers.RandomFlip()])
    jittered = augment(keras.layers.Rescaling(2.0)(image))
    model = tiny_net(
        "basic", remat=True, input_tensor=jittered, include_preprocessing=True, prefix="a_"
    )
    assert np.isfinite(fit(compiled(model))).all()


def test_integers_are_taken_as_the_plain_network_takes_them():
    images = np.random.default_rng(0).integers(0, 255, (2, 32, 32, 3)).astype("uint8")
    plain, ours = (tiny_net("basic", remat=remat)(images, training=True) for remat in (False, True))
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


def test_a_backend_without_it_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match="remat needs one of the backends tensorflow, jax, torch"):
        kr.ResNet18(weights=None, remat=True)

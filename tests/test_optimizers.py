"""One update against NumPy, and what is decayed."""

import dataclasses

import keras
import numpy as np
import pytest
from tiny_nets import NETS, tiny_net

import keras_resnets as kr
from keras_resnets.names import in_head, stage_of
from keras_resnets.training.optimizers import (
    CoupledSGD,
    DecayedAdamW,
    DecayedLamb,
    decayed_variables,
    make_optimizer,
    stage_scales,
)
from keras_resnets.training.recipe import find_recipe

RATE, DECAY, MOMENTUM = 0.1, 0.01, 0.9
GRADIENTS = [np.array([0.5, -1.0, 2.0], "float32"), np.array([0.25, 1.0, -1.0], "float32")]
START = np.array([1.0, -2.0, 3.0], "float32")


def updated(optimizer, name: str) -> np.ndarray:
    """A variable after the updates by `GRADIENTS`."""
    variable = keras.Variable(START, name=name)
    optimizer.build([variable])
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return keras.ops.convert_to_numpy(variable)


def sgd(decay: float, nesterov: bool = False) -> np.ndarray:
    weights, velocity = START.astype("float64"), 0.0
    for gradient in GRADIENTS:
        gradient = gradient + decay * weights
        velocity = MOMENTUM * velocity - RATE * gradient
        weights = weights + (MOMENTUM * velocity - RATE * gradient if nesterov else velocity)
    return weights


def lamb(decay: float) -> np.ndarray:
    weights, m, v = START.astype("float64"), 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6)
        if decay:
            update = update + decay * weights
            update = update * np.linalg.norm(weights) / np.linalg.norm(update)
        weights = weights - RATE * update
    return weights


@pytest.mark.backend
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize(("name", "decay"), [("kernel", DECAY), ("bias", 0.0), ("gamma", 0.0)])
def test_sgd_couples_the_decay_of_kernels_alone(name, decay, nesterov):
    optimizer = CoupledSGD(RATE, momentum=MOMENTUM, nesterov=nesterov, l2=DECAY)
    assert updated(optimizer, name) == pytest.approx(sgd(decay, nesterov), rel=1e-5)


def test_the_decay_of_keras_is_another_one():
    """Or the subclass would be of no use."""
    optimizer = keras.optimizers.SGD(RATE, momentum=MOMENTUM, weight_decay=DECAY)
    assert updated(optimizer, "kernel") != pytest.approx(sgd(DECAY), rel=1e-5)


@pytest.mark.backend
@pytest.mark.parametrize(("name", "decay"), [("kernel", DECAY), ("bias", 0.0)])
def test_lamb_scales_the_decay_with_the_update(name, decay):
    optimizer = DecayedLamb(RATE, epsilon=1e-6, decay=DECAY)
    assert updated(optimizer, name) == pytest.approx(lamb(decay), rel=1e-4)


def test_lamb_leaves_weights_of_zero_a_way_out():
    optimizer = DecayedLamb(RATE, decay=DECAY)
    variable = keras.Variable(np.zeros(3, "float32"), name="kernel")
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(GRADIENTS[0])], [variable])
    assert np.isfinite(variable.numpy()).all()
    assert (variable.numpy() != 0).all()


def adamw(decay: float) -> np.ndarray:
    weights, m, v = START.astype("float64"), 0.0, 0.0
    for step, gradient in enumerate(GRADIENTS, start=1):
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-7)
        weights = weights - RATE * decay * weights - RATE * update
    return weights


@pytest.mark.backend
@pytest.mark.parametrize(("name", "decay"), [("kernel", DECAY), ("bias", 0.0), ("gamma", 0.0)])
def test_adamw_decays_kernels_beside_the_update(name, decay):
    optimizer = DecayedAdamW(RATE, decay=DECAY)
    assert updated(optimizer, name) == pytest.approx(adamw(decay), rel=1e-5)


def decayed_by(model: keras.Model) -> set[str]:
    """What moves without gradients: only the decay does that, with the two momenta at zero."""
    before = {v.path: v.numpy() for v in model.trainable_variables}
    model.optimizer.apply([keras.ops.zeros(v.shape) for v in model.trainable_variables])
    return {v.path for v in model.trainable_variables if (v.numpy() != before[v.path]).any()}


@pytest.mark.parametrize("name", ["sgd", "lamb", "adamw"])
def test_an_optimizer_that_was_saved_with_its_model_decays_the_same(name, tmp_path):
    model = kr.ResNet18(weights=None, depths=(1, 1), planes=(16, 32), classes=4)
    recipe = dataclasses.replace(find_recipe("resnet"), optimizer=name, weight_decay=0.5)
    model.compile(make_optimizer(recipe, 0.1), "categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    expected = {variable.path for variable in decayed_variables(model)}
    assert decayed_by(loaded) == decayed_by(model) == expected


@pytest.mark.parametrize("net", NETS)
def test_only_kernels_are_decayed_and_all_of_them(net):
    model = tiny_net(net)
    decayed = {variable.path for variable in decayed_variables(model)}
    kernels = {v.path for layer in model.layers for v in layer.weights if v.name == "kernel"}
    print("\n".join(sorted(decayed)))
    assert decayed == kernels
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            assert not decayed & {variable.path for variable in layer.weights}


def test_frozen_kernels_are_not_decayed():
    model = tiny_net("basic")
    kr.freeze(model, until="layer1")
    assert not [v for v in decayed_variables(model) if v.path.startswith(("conv1", "layer1"))]


@pytest.mark.parametrize("name", ["sgd", "lamb", "adamw"])
def test_two_accumulated_batches_make_one_update(name):
    recipe = dataclasses.replace(find_recipe("resnet"), optimizer=name, weight_decay=DECAY)
    one, two = (make_optimizer(recipe, RATE, accumulate=n) for n in (1, 2))
    values = {}
    for optimizer, steps in ((one, [[0, 1]]), (two, [[0], [1]])):
        variable = keras.Variable(START, name="kernel")
        optimizer.build([variable])
        for numbers in steps:
            gradient = np.mean([GRADIENTS[i] for i in numbers], axis=0)
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        values[optimizer] = variable.numpy()
    assert values[one] == pytest.approx(values[two], rel=1e-6)
    assert (values[one] != START).all()


def test_the_gradient_is_clipped_as_a_whole():
    recipe = dataclasses.replace(find_recipe("resnet"), clip_norm=0.5, weight_decay=0.0)
    optimizer = make_optimizer(recipe, 1.0)
    variable = keras.Variable(START, name="kernel")
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(GRADIENTS[0])], [variable])
    assert np.linalg.norm(variable.numpy() - START) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        CoupledSGD(l2=0.3),
        DecayedLamb(decay=0.3),
        DecayedAdamW(decay=0.3),
        CoupledSGD(scales={"conv1/kernel": 0.5}),
    ],
)
def test_optimizers_of_ours_come_back_from_their_configuration(optimizer):
    saved = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(saved)
    assert again.get_config() == optimizer.get_config()


# Learning rates by stage -------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("name", ["sgd", "lamb", "adamw"])
def test_a_learning_rate_by_variable_is_that_learning_rate(name):
    """Schedules included: the fraction is of whatever the learning rate is at a step."""
    recipe = dataclasses.replace(find_recipe("resnet"), optimizer=name, weight_decay=DECAY)
    falling = keras.optimizers.schedules.PiecewiseConstantDecay([0], [RATE, RATE / 4])
    lower = keras.optimizers.schedules.PiecewiseConstantDecay([0], [RATE / 2, RATE / 8])
    expected = [updated(make_optimizer(recipe, rate), "kernel") for rate in (lower, falling)]
    optimizer = make_optimizer(recipe, falling, scales={"a/kernel": 0.5})
    variables = []
    for layer in ("a", "b"):
        with keras.name_scope(layer):
            variables.append(keras.Variable(START, name="kernel"))
    assert [variable.path for variable in variables] == ["a/kernel", "b/kernel"]
    optimizer.build(variables)
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)] * 2, variables)
    for variable, values in zip(variables, expected, strict=True):
        assert keras.ops.convert_to_numpy(variable) == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("net", NETS)
def test_stages_have_one_learning_rate_each_and_lower_ones_to_the_front(net):
    model = tiny_net(net)
    scales = stage_scales(model, 0.5)
    assert set(scales) == {variable.path for variable in model.trainable_variables}
    of_stages: dict[str, set[float]] = {}
    for layer in model.layers:
        if layer.name == "norm":  # Of the wide net, behind its last stage.
            assert {scales[v.path] for v in layer.trainable_variables} == {0.5}
            continue
        stage = "head" if in_head(layer.name) else stage_of(layer.name) or "stem"
        of_stages.setdefault(stage, set()).update(scales[v.path] for v in layer.trainable_variables)
    assert of_stages.pop("head") == {1.0}
    assert max(map(max, filter(None, of_stages.values()))) == 0.5
    if not net.startswith("rexnet"):  # Whose blocks are called like stages.
        assert of_stages == {"stem": {0.125}, "layer1": {0.25}, "layer2": {0.5}}


def test_a_resnet50_decays_from_stage_to_stage():
    scales = stage_scales(kr.ResNet50(weights=None, depths=(1, 1, 1, 1), classes=3), 0.75)
    for path, power in {
        "fc/bias": 0,
        "layer4_0_conv1/kernel": 1,
        "layer4_0_downsample_0/kernel": 1,
        "layer2_0_downsample_1/gamma": 3,
        "layer1_0_bn2/beta": 4,
        "conv1/kernel": 5,
    }.items():
        assert scales[path] == pytest.approx(0.75**power), path


def test_stages_of_which_one_alone_trains_are_refused():
    model = tiny_net("basic")
    kr.freeze(model, until="layer1")
    assert set(stage_scales(model, 0.5).values()) == {0.5, 1.0}
    kr.freeze(model, until="layer2")
    with pytest.raises(ValueError, match=r"layer_decay needs two stages .* that train.*=0\.5"):
        stage_scales(model, 0.5)
    assert stage_scales(model, 1.0) == {}


def test_a_saved_optimizer_keeps_its_learning_rates(tmp_path):
    model = kr.ResNet18(weights=None, depths=(1, 1), planes=(16, 32), classes=4)
    recipe = dataclasses.replace(find_recipe("resnet"), weight_decay=0.0)
    scales = stage_scales(model, 0.5)
    model.compile(make_optimizer(recipe, 1.0, scales=scales), "categorical_crossentropy")
    model.optimizer.build(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.scales == scales
    before = {v.path: v.numpy() for v in loaded.trainable_variables}
    loaded.optimizer.apply([keras.ops.ones(v.shape) for v in loaded.trainable_variables])
    for variable in loaded.trainable_variables:
        moved = before[variable.path] - variable.numpy()
        assert moved == pytest.approx(scales[variable.path], rel=1e-4), variable.path

"""What `freeze` freezes stays as it is, bit by bit, while the rest trains."""

import numpy as np
import pytest
from tiny_nets import NETS, compiled, fit, tiny_net, unchanged, values

import keras_resnets as kr

STAGES = {name: ("features_2" if name.startswith("rexnet") else "layer1", "P1") for name in NETS}


@pytest.mark.backend
@pytest.mark.parametrize("net", ["basic", "resnext-se", "resnest-2s2x", "res2net-4s", "rexnet"])
def test_weights_and_statistics_of_the_frozen_part_stay_bit_by_bit(net):
    model = tiny_net(net)
    frozen = kr.freeze(model, until=STAGES[net][0])
    compiled(model, rate=0.1)
    before = values(model.weights)
    fit(model, epochs=2)
    same = unchanged(model.weights, before)
    inside = {v.path for layer in model.layers if layer.name in frozen for v in layer.weights}
    outside = {v.path for v in model.weights} - inside
    assert any("moving_mean" in path for path in inside)
    assert inside <= same
    # Everything else moves; a squeezed gate may rest on a ReLU that is never active.
    moving = {path for path in outside if "moving" in path or "kernel" in path}
    assert len(moving - same) > 0.9 * len(moving)


@pytest.mark.parametrize("net", NETS)
def test_a_stage_takes_along_everything_before_it_and_nothing_behind(net):
    stage, level = STAGES[net]
    model = tiny_net(net)
    order = [layer.name for layer in model.layers if layer.weights]
    frozen = kr.freeze(model, until=stage)
    assert frozen == [name for name in order if name in frozen]
    assert order[0] in frozen
    assert {name for name in order if name.startswith(f"{stage}_")} <= set(frozen)
    assert "fc" not in frozen
    assert "head_fc" not in frozen
    assert not [name for name in frozen if name.startswith(("layer2", "features_3"))]
    # The stem's level is less than a stage.
    assert set(kr.freeze(tiny_net(net), until=level)) < set(frozen)


@pytest.mark.parametrize("net", ["basic", "resnest-2s2x", "rexnet"])
def test_the_last_level_leaves_the_head_to_train(net):
    model = tiny_net(net)
    kr.freeze(model, until=max(kr.feature_levels(model)))
    assert model.trainable_variables
    names = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert not [name for name in names if name.startswith("layer")]


def test_a_block_or_a_layer_can_be_named_too():
    model = kr.ResNet18(weights=None, depths=(2, 1), planes=(16, 32), classes=4)
    frozen = kr.freeze(model, until="layer1.0")
    assert "layer1_0_bn2" in frozen
    assert "layer1_1_conv1" not in frozen
    assert "layer1_1_conv1" in kr.freeze(model, until="layer1_1_conv1")


def test_a_prefix_tells_two_backbones_apart():
    model = kr.ResNet18(weights=None, depths=(1, 1), planes=(16, 32), classes=4, prefix="left.")
    frozen = kr.freeze(model, until="layer1", prefix="left.")
    assert frozen[0] == "left_conv1"
    with pytest.raises(ValueError, match=r"prefix must be that of a backbone .*'left_'"):
        kr.freeze(model, until="layer1")


@pytest.mark.parametrize("until", ["layer5", "lay", "", None, 3])
def test_an_unknown_stage_is_answered_with_what_there_is(until):
    model = kr.ResNet18(weights=None, depths=(1, 1), planes=(16, 32), classes=4)
    with pytest.raises(ValueError, match="layer1, layer2, P1, P2, P3") as error:
        kr.freeze(model, until=until)
    assert f"until={until!r}" in str(error.value)
    assert all(layer.trainable for layer in model.layers)


def test_a_loaded_model_can_be_frozen(tmp_path):
    import keras

    model = tiny_net("resnest-2s2x")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert kr.freeze(loaded, until="layer1") == kr.freeze(model, until="layer1")
    assert np.isfinite(loaded.predict(np.zeros((1, 32, 32, 3)), verbose=0)).all()

"""Builder arguments: every combination builds the right thing or says which argument is wrong."""

import dataclasses
import inspect
import itertools
import math

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.layers import DropBlock2D, DropPath, GroupedConv2D
from keras_resnets.models import blocks
from keras_resnets.models.resnest import parse_split

# A tiny network of each family: the variant and the changes that make it tiny.
TINY = dict(depths=(1, 1, 1, 1), planes=(8, 16, 24, 32), stem_width=8)
TINY_REXNET = dict(width=0.1, depth=0.1, initial_channels=4, final_channels=160)
FAMILIES = {
    "resnet": ("resnet18", TINY),
    "resnext": ("resnext50_32x4d", dict(TINY, cardinality=4, base_width=16)),
    "resnest": ("resnest50d", TINY),
    "res2net": ("res2net50_26w_4s", TINY),
    "rexnet": ("rexnet_100", TINY_REXNET),
}
# Branches of the code that a family's own tiny network does not have.
BRANCHES = {
    **FAMILIES,
    "resnet bottleneck": ("resnet50", TINY),
    "resnet tiered SE": ("seresnet50t", TINY),
    "resnet CIFAR": ("resnet20", dict(depths=(1, 2, 1))),
    "resnet wide CIFAR": ("wide_resnet28_10", dict(depths=(1, 2, 1), planes=(8, 16, 24))),
    "resnext SE": ("seresnext50_32x4d", dict(TINY, cardinality=4, base_width=16)),
    "resnest radix 0": ("resnest50d", dict(TINY, radix=0, cardinality=2)),
    "resnest radix 1": ("resnest50d", dict(TINY, radix=1, cardinality=2)),
    "resnest cardinality 2": ("resnest50d", dict(TINY, cardinality=2, avd_first=True)),
    "res2net scale 1": ("res2net50_26w_4s", dict(TINY, scale=1)),
    "res2next": ("res2next50", dict(TINY, cardinality=2, base_width=16)),
    "rexnet without SE": ("rexnet_100", TINY_REXNET | dict(se_ratio=0.0)),
    "rexnet lite": ("rexnet_lite_100", TINY_REXNET),
}
every_family = pytest.mark.parametrize("family", FAMILIES)
every_branch = pytest.mark.parametrize("branch", BRANCHES)


def build(network: str, **arguments) -> keras.Model:
    variant, changes = BRANCHES[network]
    return kr.create_model(variant, **{"weights": None, **changes, **arguments})


def deeper(network: str, depths=(1, 2, 2, 2), depth=0.5) -> dict:
    """Changes that give a network identity blocks."""
    if network.startswith("rexnet"):
        return dict(depth=depth)
    return dict(depths=depths[: len(BRANCHES[network][1]["depths"])])


def random_images(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).uniform(-2, 2, shape).astype("float32")


def evaluate(model: keras.Model, images: np.ndarray, training: bool = False):
    return keras.tree.map_structure(
        keras.ops.convert_to_numpy, model(keras.ops.convert_to_tensor(images), training=training)
    )


def randomise(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every variable random values, so that no branch is silent.

    A new network's last gammas are zero: each block is its shortcut, and whatever happens on the
    branch neither shows in the output nor lets a gradient through.
    """
    random = np.random.RandomState(seed)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.name in ("gamma", "moving_variance"):
                variable.assign(random.uniform(0.5, 1.5, variable.shape))
            elif variable.name == "kernel":
                limit = 2 / math.sqrt(math.prod(variable.shape[:-1]))
                variable.assign(random.uniform(-limit, limit, variable.shape))
            elif variable.name != "rate":
                variable.assign(random.uniform(-0.2, 0.2, variable.shape))
    return model


def copy_weights(source: keras.Model, target: keras.Model) -> keras.Model:
    """By layer and variable name; `set_weights` would count the drop layers' rates."""
    values = {
        f"{layer.name}/{variable.name}": variable.numpy()
        for layer in source.layers
        for variable in layer.weights
    }
    for layer in target.layers:
        for variable in layer.weights:
            if variable.name != "rate":
                variable.assign(values[f"{layer.name}/{variable.name}"])
    return target


def layers_of(model: keras.Model, kind: type) -> list[keras.layers.Layer]:
    return [layer for layer in model.layers if isinstance(layer, kind)]


@pytest.fixture
def nothing_built(monkeypatch):
    """Fails a test in which a model's input is made: errors must come first."""

    def refuse(*arguments, **keywords):
        raise AssertionError("a model was being built before the arguments were checked")

    monkeypatch.setattr(keras, "Input", refuse)


# What comes out -----------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    "input_shape", [None, (None, None, 3), (224, 224, 1), (64, 96, 4), (33, 47, 13)], ids=str
)
@pytest.mark.parametrize("pooling", [None, "avg", "max"])
@pytest.mark.parametrize("classes", [None, 10, 1000])
@pytest.mark.parametrize("include_top", [True, False])
@pytest.mark.parametrize(("family", "channels"), [("resnet", 32), ("rexnet", 128)])
def test_every_combination_has_its_input_and_output_shape(
    family, channels, include_top, classes, pooling, input_shape
):
    model = build(
        family, include_top=include_top, classes=classes, pooling=pooling, input_shape=input_shape
    )
    height, width, image_channels = input_shape or (None, None, 3)
    assert model.input_shape == (None, height, width, image_channels)
    if include_top:
        assert model.output_shape == (None, classes or 1000)
    elif pooling:
        assert model.output_shape == (None, channels)
    else:
        small = [size and math.ceil(size / 32) for size in (height, width)]
        assert model.output_shape == (None, *small, channels)
        # The symbolic shape could be right and the computed one not, at odd sizes above all.
        images = np.ones((2, height or 65, width or 63, image_channels), "float32")
        expected = (2, math.ceil(images.shape[1] / 32), math.ceil(images.shape[2] / 32), channels)
        assert evaluate(model, images).shape == expected


@pytest.mark.parametrize("family", ["resnet", "rexnet"])
def test_pooling_is_the_mean_or_the_maximum_of_the_feature_map(family):
    images = random_images(2, 96, 64, 3)
    base = randomise(build(family, include_top=False))
    features = evaluate(base, images)
    for pooling, pool in (("avg", np.mean), ("max", np.max)):
        pooled = copy_weights(base, build(family, include_top=False, pooling=pooling))
        np.testing.assert_allclose(evaluate(pooled, images), pool(features, (1, 2)), rtol=1e-5)
    # With a top it is what the classifier stands on.
    average, maximum = (randomise(build(family, pooling=p, classes=5)) for p in ("avg", "max"))
    assert np.abs(evaluate(average, images) - evaluate(maximum, images)).max() > 1e-4


def test_cifar_forms_have_ten_classes_and_32_pixel_images_leave_an_eighth():
    for branch in ("resnet CIFAR", "resnet wide CIFAR"):
        assert build(branch).output_shape == (None, 10)
        features = build(branch, include_top=False, input_shape=(32, 40, 3))
        assert features.output_shape[:3] == (None, 8, 10)  # Three stages: an eighth has four.


@pytest.mark.parametrize("family", ["resnet", "rexnet"])
def test_the_classifier_activation_is_applied_to_the_logits(family):
    images = random_images(3, 64, 64, 3)
    plain = randomise(build(family, classes=7, classifier_activation=None))
    logits = evaluate(plain, images)
    assert np.abs(logits.sum(-1) - 1).min() > 1e-3, "the logits look like probabilities"

    def with_activation(activation):
        model = build(family, classes=7, classifier_activation=activation)
        return evaluate(copy_weights(plain, model), images)

    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    softmax = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(with_activation("softmax"), softmax, atol=1e-5)
    np.testing.assert_allclose(with_activation("softmax").sum(-1), 1, atol=1e-5)
    np.testing.assert_allclose(with_activation("sigmoid"), 1 / (1 + np.exp(-logits)), atol=1e-5)
    np.testing.assert_allclose(with_activation(keras.ops.tanh), np.tanh(logits), atol=1e-5)
    default = copy_weights(plain, build(family, classes=7))
    np.testing.assert_allclose(evaluate(default, images), softmax, atol=1e-5)


@pytest.mark.parametrize("family", ["resnet", "rexnet"])
def test_built_in_preprocessing_equals_preprocessing_by_hand(family):
    plain = randomise(build(family, classes=7, classifier_activation=None))
    model = build(family, classes=7, classifier_activation=None, include_preprocessing=True)
    copy_weights(plain, model)
    pixels = np.random.RandomState(1).randint(0, 256, (2, 64, 48, 3)).astype("uint8")
    # ImageNet's numbers, written out: taken from the package, a wrong one would agree with itself.
    by_hand = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    expected = evaluate(plain, by_hand.astype("float32"))
    for images in (pixels, pixels.astype("float32")):
        kept = images.copy()
        result = keras.ops.convert_to_numpy(model(images))
        assert np.abs(result - expected).max() <= 1e-5 * np.abs(expected).max()
        np.testing.assert_array_equal(images, kept)


@pytest.mark.parametrize("channels", [1, 4])
def test_preprocessing_is_refused_where_there_is_no_rgb(channels, nothing_built):
    with pytest.raises(ValueError, match="include_preprocessing needs 3 input channels") as error:
        build("resnet", include_preprocessing=True, input_shape=(None, None, channels))
    assert f"input_shape=(None, None, {channels})" in str(error.value)


# Output stride ------------------------------------------------------------------------------------


@every_family
def test_output_stride_keeps_the_weights_and_the_levels_before_the_first_dilation(family):
    images = random_images(2, 97, 130, 3)
    arguments = dict(include_top=False, **deeper(family))
    base = randomise(build(family, **arguments))
    levels = evaluate(kr.feature_pyramid(base), images)
    for output_stride, unchanged in ((8, 3), (16, 4), (32, 5)):
        model = build(family, output_stride=output_stride, **arguments)
        model.set_weights(base.get_weights())
        strides = {name: level.stride for name, level in kr.feature_levels(model).items()}
        assert strides == {
            name: min(stride, output_stride)
            for name, stride in dict(P1=2, P2=4, P3=8, P4=16, P5=32).items()
        }
        results = evaluate(kr.feature_pyramid(model), images)
        for number, (name, stride) in enumerate(strides.items(), start=1):
            size = (math.ceil(97 / stride), math.ceil(130 / stride))
            assert results[name].shape == (2, *size, levels[name].shape[-1]), name
            if number <= unchanged:
                np.testing.assert_array_equal(results[name], levels[name], err_msg=name)
            else:
                # Dilated taps see other pixels, so no values to compare here: see test_parity.
                assert np.abs(results[name]).max() > 0
        size = (math.ceil(97 / output_stride), math.ceil(130 / output_stride))
        assert evaluate(model, images).shape[1:3] == size


@every_family
def test_small_inputs_divide_the_strides_by_four_and_leave_nothing_to_dilate(family):
    images = random_images(1, 32, 40, 3)
    base = randomise(build(family, small_inputs=True, include_top=False))
    strides = [level.stride for level in kr.feature_levels(base).values()]
    assert strides == [1, 1, 2, 4, 8]
    dilated = build(family, small_inputs=True, include_top=False, output_stride=8)
    copy_weights(base, dilated)
    np.testing.assert_array_equal(evaluate(dilated, images), evaluate(base, images))
    assert evaluate(base, images).shape[1:3] == (4, 5)


# Regularisation -----------------------------------------------------------------------------------


@every_family
def test_drop_path_rises_linearly_from_nothing_to_the_rate_of_the_last_block(family):
    model = build(family, drop_path=0.3, **deeper(family))
    rates = {layer.name: layer.rate for layer in layers_of(model, DropPath)}
    if family == "rexnet":
        # Ten blocks; only those with a shortcut have a branch that could be dropped.
        shortcuts = [i for i in range(10) if f"features_{i}_add" in (x.name for x in model.layers)]
        assert 0 < len(shortcuts) < 9
        expected = {f"features_{i}_drop_path": 0.3 * i / 9 for i in shortcuts}
        assert 9 in shortcuts, "the last block has the whole rate"
    else:
        places = ["layer1_0", "layer2_0", "layer2_1", "layer3_0", "layer3_1", "layer4_0"]
        places.append("layer4_1")
        expected = {f"{place}_drop_path": 0.3 * i / 6 for i, place in enumerate(places)}
        del expected["layer1_0_drop_path"]  # At rate 0 there is no layer.
    assert rates == pytest.approx(expected)


def test_a_network_of_one_block_drops_no_path():
    model = kr.ResNet18(weights=None, depths=(1,), planes=(8,), drop_path=0.5)
    assert layers_of(model, DropPath) == []


@pytest.mark.parametrize("branch", [name for name in BRANCHES if not name.startswith("rexnet")])
def test_drop_block_acts_in_the_last_two_stages_only(branch):
    model = build(branch, drop_block=0.2, **deeper(branch))
    depths = deeper(branch)["depths"]
    found = sorted(
        (layer.name[:8], layer.block_size, round(layer.rate, 6))
        for layer in layers_of(model, DropBlock2D)
    )
    last = len(depths)
    expected = [
        (f"layer{stage}_{i}", size, rate)
        for stage, size, rate in ((last - 1, 5, 0.05), (last, 3, 0.2))
        for i in range(depths[stage - 1])
    ]
    assert found == expected


def test_with_a_single_stage_drop_block_has_its_whole_rate_there():
    model = kr.ResNet18(weights=None, depths=(2,), planes=(8,), drop_block=0.2)
    assert [(x.rate, x.block_size) for x in layers_of(model, DropBlock2D)] == [
        (pytest.approx(0.2), 3)
    ] * 2


def test_rexnet_refuses_drop_block(nothing_built):
    with pytest.raises(ValueError, match="drop_block must be 0: ReXNet has no DropBlock") as error:
        build("rexnet", drop_block=0.1)
    assert "drop_block=0.1" in str(error.value)


@pytest.mark.parametrize(("family", "default"), [("resnet", []), ("rexnet", [0.2])])
def test_dropout_stands_before_the_classifier_at_the_papers_rate_or_the_given(family, default):
    def rates(**arguments):
        return [layer.rate for layer in layers_of(build(family, **arguments), layers.Dropout)]

    assert rates() == default
    assert rates(dropout=0.4) == [0.4]
    assert rates(dropout=0) == []
    assert rates(dropout=0.4, include_top=False, pooling="avg") == []


@pytest.mark.long
@every_branch
def test_drop_layers_do_nothing_at_inference(branch):
    images = random_images(2, 64, 64, 3)
    drops = dict(dropout=0.5, drop_path=0.5)
    if not branch.startswith("rexnet"):
        drops["drop_block"] = 0.5
    arguments = dict(classes=5, classifier_activation=None, **deeper(branch))
    plain = randomise(build(branch, **arguments))
    dropping = copy_weights(plain, build(branch, **drops, **arguments))
    assert len(dropping.layers) > len(plain.layers)
    np.testing.assert_array_equal(evaluate(dropping, images), evaluate(plain, images))
    # They must matter in training, else the line above says nothing.
    changed = evaluate(dropping, images, training=True) - evaluate(plain, images, training=True)
    assert np.abs(changed).max() > 1e-4


@pytest.mark.long
@every_branch
def test_drop_path_drops_the_branch_of_identity_blocks_too(branch):
    """In timm it dropped a ResNeSt block's input, which identity blocks had stored before."""
    images = random_images(4, 64, 64, 3)
    model = randomise(build(branch, drop_path=0.5, **deeper(branch)))
    # Stage 2's last block, everywhere an identity block; in ReXNet the last block.
    place = "features_9" if branch.startswith("rexnet") else "layer2_1"
    drop, add = (model.get_layer(f"{place}_{part}") for part in ("drop_path", "add"))
    assert all("downsample" not in layer.name for layer in model.layers if place in layer.name)
    branch_input, shortcut = add.input
    network = keras.Model(model.input, [branch_input, shortcut, add.output])
    for layer in layers_of(model, DropPath):
        layer.rate = 0.0
    kept = evaluate(network, images, training=True)
    assert np.abs(kept[0]).max() > 0.1
    np.testing.assert_allclose(kept[2], kept[0] + kept[1], rtol=1e-6)
    drop.rate = 1 - 1e-6
    dropped = evaluate(network, images, training=True)
    np.testing.assert_array_equal(dropped[0], 0)
    np.testing.assert_array_equal(dropped[2], dropped[1])


# Input tensors, several backbones -----------------------------------------------------------------


def test_a_model_builds_on_the_tensor_of_another_layer():
    source = keras.Input((64, 80, 5), name="bands")
    mixed = layers.Conv2D(3, 1, name="mix")(source)
    model = kr.ResNet18(weights=None, input_tensor=mixed, input_shape=(64, 80, 3), **TINY)
    assert model.input_shape == (None, 64, 80, 5)
    assert model.input is source
    plain = build("resnet")
    copy_weights(model, plain)
    images = random_images(2, 64, 80, 5)
    by_hand = evaluate(plain, evaluate(keras.Model(source, mixed), images))
    np.testing.assert_allclose(evaluate(model, images), by_hand, atol=1e-6)


def test_a_model_builds_on_a_tensor_of_two_inputs():
    inputs = [keras.Input((40, 40, n)) for n in (1, 2)]
    both = layers.Concatenate()(inputs)
    model = build("resnest", input_tensor=both)
    assert [tuple(shape) for shape in model.input_shape] == [(None, 40, 40, 1), (None, 40, 40, 2)]
    outputs = model([np.ones((2, 40, 40, 1), "float32"), np.ones((2, 40, 40, 2), "float32")])
    assert tuple(outputs.shape) == (2, 1000)


@pytest.mark.parametrize(
    ("tensor", "arguments", "error", "message"),
    [
        (np.ones((1, 64, 64, 3)), {}, TypeError, "input_tensor must be a keras.KerasTensor"),
        ("image", {}, TypeError, "input_tensor must be a keras.KerasTensor, such as keras.Input"),
        (
            keras.Input((64, 64, 3)),
            dict(input_shape=(64, 32, 3)),
            ValueError,
            "input_shape must agree with input_tensor, or be left out. "
            "Received: input_shape=(64, 32, 3)",
        ),
        (
            keras.Input((64, 64, 3)),
            dict(input_shape=5),
            ValueError,
            "input_shape must agree with input_tensor, or be left out. Received: input_shape=5",
        ),
        (keras.Input((64, 3)), {}, ValueError, "input_tensor must have the shape (batch, height,"),
        (
            keras.Input((64, 64, None)),
            {},
            ValueError,
            "input_tensor must have the shape (batch, height, width, channels)",
        ),
        # Nobody gave an input_shape, so the message must not ask for another one.
        (
            keras.Input((64, 16, 3)),
            {},
            ValueError,
            "input_tensor: height and width must be at least 32, the network's stride, or None. "
            "Received: input_tensor=(64, 16, 3)",
        ),
        (
            keras.Input((64, 64, 4)),
            dict(include_preprocessing=True),
            ValueError,
            "include_preprocessing needs 3 input channels (RGB). "
            "Received: include_preprocessing=True, input_tensor=(64, 64, 4)",
        ),
    ],
)
def test_a_wrong_input_tensor_is_refused(tensor, arguments, error, message, nothing_built):
    with pytest.raises(error) as caught:
        build("resnet", input_tensor=tensor, **arguments)
    assert message in str(caught.value)


def test_a_second_backbone_on_the_first_needs_another_prefix():
    first = build("resnet", include_top=False, prefix="a_")
    onto = layers.UpSampling2D(32)(first.output)
    onto = layers.Conv2D(3, 1, name="mix")(onto)
    with pytest.raises(ValueError, match="prefix must differ from that of the network") as error:
        build("rexnet", input_tensor=onto, prefix="a_")
    assert "prefix='a_'" in str(error.value)
    second = build("rexnet", input_tensor=onto, prefix="b_")
    assert tuple(second(np.ones((1, 64, 64, 3), "float32")).shape) == (1, 1000)
    assert list(kr.feature_levels(second, "a_")) == list(kr.feature_levels(second, "b_"))
    assert kr.feature_levels(second, "a_")["P5"].stride == 32


def test_two_backbones_share_an_input_in_one_model():
    images = random_images(2, 64, 64, 3)
    source = keras.Input((64, 64, 3))
    arguments = dict(input_tensor=source, include_top=False, pooling="avg")
    left = randomise(build("resnet", prefix="left_", **arguments))
    right = randomise(build("rexnet", prefix="right.", **arguments), seed=1)
    model = keras.Model(source, layers.Concatenate()([left.output, right.output]))
    assert evaluate(model, images).shape == (2, 32 + 128)
    np.testing.assert_allclose(
        evaluate(model, images),
        np.concatenate([evaluate(left, images), evaluate(right, images)], -1),
        atol=1e-6,
    )
    assert kr.feature_levels(model, "left_")["P5"].channels == 32
    assert kr.feature_levels(model, "right.")["P5"].stride == 32
    with pytest.raises(ValueError, match="prefix must be that of a backbone") as error:
        kr.feature_levels(model)
    assert "(found: 'left_', 'right_')" in str(error.value)


def test_two_backbones_nest_in_one_model():
    source = keras.Input((64, 64, 3))
    nested = [
        build(family, include_top=False, pooling="max", name=f"branch_{family}")
        for family in ("resnest", "res2net")
    ]
    model = keras.Model(source, layers.Concatenate()([network(source) for network in nested]))
    images = random_images(2, 64, 64, 3)
    np.testing.assert_allclose(
        evaluate(model, images),
        np.concatenate([evaluate(x, images) for x in nested], -1),
        atol=1e-6,
    )


# Names --------------------------------------------------------------------------------------------


@every_branch
def test_prefix_is_prepended_to_every_layer(branch):
    arguments = dict(include_preprocessing=True, dropout=0.1, drop_path=0.1)
    plain, prefixed = build(branch, **arguments), build(branch, prefix="left_", **arguments)
    assert plain.name == prefixed.name == BRANCHES[branch][0], "the variant's name is the default"
    # A name that Keras numbers itself would differ too, and then files would not fit.
    assert [layer.name for layer in prefixed.layers] == [f"left_{x.name}" for x in plain.layers]


def test_prefix_leaves_the_layers_below_an_input_tensor_alone():
    source = keras.Input((64, 64, 5), name="bands")
    model = build("resnet", input_tensor=layers.Conv2D(3, 1, name="mix")(source), prefix="left_")
    names = [layer.name for layer in model.layers]
    assert names[:2] == ["bands", "mix"]
    assert all(name.startswith("left_") for name in names[2:])


def test_a_dot_in_the_prefix_becomes_an_underscore_everywhere():
    """Keras' torch backend refuses dots in names."""
    model = build("resnet", prefix="left.")
    assert all(layer.name.startswith("left_") for layer in model.layers)
    assert list(kr.feature_levels(model, "left.")) == ["P1", "P2", "P3", "P4", "P5"]


@every_family
def test_another_name_changes_no_value(family):
    images = random_images(1, 64, 64, 3)
    model = randomise(build(family))
    renamed = build(family, name="my_backbone")
    assert renamed.name == "my_backbone"
    renamed.set_weights(model.get_weights())
    np.testing.assert_array_equal(evaluate(renamed, images), evaluate(model, images))


# Precision ----------------------------------------------------------------------------------------


@pytest.fixture
def restored_policy():
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.long
@every_family
@pytest.mark.parametrize(
    ("policy", "compute", "variables", "tolerance"),
    [
        ("mixed_bfloat16", "bfloat16", "float32", 0.1),
        ("mixed_float16", "float16", "float32", 0.02),
        ("float64", "float64", "float64", 1e-4),
    ],
)
def test_precision_policies_keep_the_classifier_in_the_weights_type(
    family, policy, compute, variables, tolerance, restored_policy
):
    images = random_images(2, 64, 64, 3)
    arguments = dict(classes=5, classifier_activation=None, include_preprocessing=True)
    reference = randomise(build(family, **arguments))
    expected = evaluate(reference, 64 * images + 127)
    keras.config.set_dtype_policy(policy)
    model = copy_weights(reference, build(family, **arguments))
    assert {keras.backend.standardize_dtype(w.dtype) for w in model.weights} == {variables}
    logits = model(64 * images + 127)
    assert keras.backend.standardize_dtype(logits.dtype) == variables
    # The last feature map of the family, and every level.
    features = build(family, include_top=False)
    assert keras.backend.standardize_dtype(features(images).dtype) == compute
    for level in kr.feature_levels(features).values():
        assert keras.backend.standardize_dtype(level.output.dtype) == compute
    error = np.abs(keras.ops.convert_to_numpy(logits) - expected).max() / np.abs(expected).max()
    assert error <= tolerance


# Gradients ----------------------------------------------------------------------------------------


@pytest.mark.long
@every_branch
@pytest.mark.parametrize("residual", [True, False], ids=["residual", "plain"])
def test_every_trainable_variable_gets_a_gradient(branch, residual):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes the gradients with TensorFlow's tape")
    import tensorflow as tf

    # Not the tiny planes: with oneDNN, TensorFlow 2.21's gradient of a 1x1 convolution of stride 2
    # with 8 input channels or fewer writes beyond its memory and aborts the process.
    planes = {} if branch.startswith("rexnet") else dict(planes=(16, 24, 32, 40))
    model = build(branch, classes=5, classifier_activation=None, residual=residual, **planes)
    # At a new network's zero gammas the branches' gradients are zero, connected or not.
    randomise(model)
    images = tf.constant(random_images(4, 64, 64, 3))
    variables = model.trainable_variables
    assert variables
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(model(images, training=True) - random_images(4, 5)))
    gradients = tape.gradient(loss, [variable.value for variable in variables])
    for variable, gradient in zip(variables, gradients, strict=True):
        assert gradient is not None, f"{variable.path} is not connected"
        assert np.isfinite(gradient).all(), variable.path
        # A bias in front of a batch norm is taken out by it.
        if variable.name != "bias" or variable.path.split("/")[0] == model.layers[-1].name:
            assert np.abs(gradient).max() > 0, f"{variable.path} has no influence"


# Wrong values of arguments ------------------------------------------------------------------------

FLAG = "{argument} must be True or False"
RATE = "{argument} must be a number from 0 to below 1"
BAD_RATES = [-0.1, 1, 1.5, "x", True, math.nan, math.inf, [0.1]]
SHAPE = "input_shape must be (height, width, channels), with height and width ints or None and"
BAD_ARGUMENTS = {
    "include_top": (FLAG, [1, 0, "yes", None]),
    "include_preprocessing": (FLAG, ["yes", 1, None]),
    "remat": (FLAG, ["blocks", 1, None]),
    "weights": (
        "weights must be None (random) or the path of a file or folder that exists, a published",
        [7, "nope.safetensors", "nope.weights.h5", "./nope", b"imagenet", ""],
    ),
    "input_shape": (
        SHAPE,
        [
            (224, 224),
            (1, 224, 224, 3),
            ("a", 1, 3),
            (224, 224, 0),
            (224, 224, None),
            (-1, 224, 3),
            (224.0, 224, 3),
            (True, 224, 3),
            (224, 224, True),
            "abc",
            -1,
            5,
        ],
    ),
    "pooling": ('pooling must be None, "avg" or "max"', ["mean", True, False, 0, ["avg"], "AVG"]),
    "classes": ("classes must be a positive int", [0, -1, True, 2.5, "10", [10]]),
    "classifier_activation": (
        "classifier_activation must be None or an activation known to Keras, such as 'softmax'",
        ["nonsense", 3, "", {}, True],
    ),
    "output_stride": ("output_stride must be 8, 16 or 32", [4, 64, 16.0, "8", None, True, [8]]),
    "dropout": (RATE, BAD_RATES),  # None is its default.
    "drop_path": (RATE, [*BAD_RATES, None]),
    "drop_block": (RATE, [*BAD_RATES, None]),
    "prefix": ("prefix must be a string without '/'", [3, "a/b", None]),
    "name": ("name must be a string without '/'", [3, "a/b", True]),
}


def named(table: dict) -> list:
    """(argument, rule, value) of each value in a table, with readable ids."""
    return [
        pytest.param(argument, rule.format(argument=argument), value, id=f"{argument}={value!r}")
        for argument, (rule, values) in table.items()
        for value in values
    ]


@pytest.mark.parametrize(("argument", "rule", "value"), named(BAD_ARGUMENTS))
@pytest.mark.parametrize("family", ["resnet", "rexnet"])
def test_a_wrong_value_is_refused_by_its_rule(family, argument, rule, value, nothing_built):
    with pytest.raises(ValueError, match="Received: ") as error:
        build(family, **{argument: value})
    message = str(error.value)
    assert message.startswith(rule)
    assert f"{argument}={value!r}" in message.partition("Received: ")[2]


def test_a_value_that_compares_element_by_element_is_refused_like_any_other(nothing_built):
    """`array in (None, "avg")` raises NumPy's "truth value is ambiguous"."""
    with pytest.raises(ValueError, match='pooling must be None, "avg" or "max"'):
        build("resnet", pooling=np.array(["avg", "max"]))


def test_an_empty_name_is_refused(nothing_built):
    with pytest.raises(ValueError, match=r"name must not be empty\. Received: name=''"):
        build("resnet", name="")


@pytest.mark.parametrize(
    ("arguments", "smallest"),
    [
        (dict(input_shape=(16, 224, 3)), 32),
        (dict(input_shape=(224, 31, 3)), 32),
        (dict(input_shape=(None, 31, 3)), 32),
        (dict(input_shape=(0, None, 3)), 32),
        (dict(input_shape=(15, 15, 3), output_stride=16), 16),
        (dict(input_shape=(7, 8, 3), output_stride=8), 8),
        (dict(input_shape=(7, 8, 3), small_inputs=True), 8),
    ],
    ids=str,
)
@every_family
def test_an_image_smaller_than_the_stride_is_refused(family, arguments, smallest, nothing_built):
    with pytest.raises(
        ValueError, match=f"height and width must be at least {smallest}, "
    ) as error:
        build(family, **arguments)
    assert f"input_shape={arguments['input_shape']}" in str(error.value)


@every_family
@pytest.mark.parametrize(
    "arguments",
    [{}, dict(output_stride=16), dict(output_stride=8), dict(small_inputs=True)],
    ids=str,
)
def test_an_image_of_just_the_stride_is_enough(family, arguments):
    size = 8 if "small_inputs" in arguments else arguments.get("output_stride", 32)
    model = build(family, include_top=False, input_shape=(size, size, 3), **arguments)
    features = evaluate(model, random_images(1, size, size, 3))
    assert features.shape[1:3] == (1, 1)
    assert np.isfinite(features).all()


def test_every_argument_of_the_builder_is_in_the_table_of_wrong_values():
    parameters = set(inspect.signature(kr.Variant.__call__).parameters)
    assert set(BAD_ARGUMENTS) == parameters - {"self", "config_changes", "input_tensor"}


# Wrong values of a configuration's fields ---------------------------------------------------------

COUNT = "{argument} must be a positive int"
RATIO = "{argument} must be a number from 0 to 1"
POSITIVE = "{argument} must be a positive number"
BAD_COUNTS = [0, -1, 2.0, "2", None, True]
BAD_RATIOS = [-0.1, 1.1, "x", math.nan, None, True]
BAD_FACTORS = [0, -1, math.inf, math.nan, "1", None, True]
BAD_STAGES = [(), (0, 1), "3", 3, (1, -1), (1, 2.0), (True,), None, {1: 2}]
BAD_FIELDS = {
    "small_inputs": (FLAG, ["no", 1, None]),
    "residual": (FLAG, [None, 0, "yes"]),
    "depths": ("{argument} must be a tuple of positive ints", BAD_STAGES),
    "planes": ("{argument} must be a tuple of positive ints", BAD_STAGES),
    "block": ("{argument} must be a function", [None, "bottleneck"]),
    "stem": ("{argument} must be a function", [3, None]),
    "shortcut": ("{argument} must be a function", ["d", None]),
    "stem_width": ("{argument} must be an int of at least 4", [3, -8, 8.0, "8", None, True]),
    "base_width": (COUNT, BAD_COUNTS),
    "cardinality": (COUNT, BAD_COUNTS),
    "stem_pool": ("{argument} must be a function", ["max", None]),
    "norm": ("{argument} must be a function", ["batch", None, 32]),
    "act": ("{argument} must be the name of a Keras activation", ["rleu", None, 3, len]),
    "attention": ("{argument} must be a function or None", ["se", 1, True]),
    "attention_ratio": (RATIO, BAD_RATIOS),
    "antialias": ("{argument} must be a function or None", ["blur", 2]),
    "se_ratio": (RATIO, BAD_RATIOS),
    "radix": ("{argument} must be an int of at least 0", [-1, 1.0, "2", None, True]),
    "avd_first": (FLAG, [1, None, "yes"]),
    "scale": (COUNT, BAD_COUNTS),
    "width": (POSITIVE, BAD_FACTORS),
    "depth": (POSITIVE, BAD_FACTORS),
    "initial_channels": (COUNT, BAD_COUNTS),
    "final_channels": (COUNT, BAD_COUNTS),
    "divisor": (COUNT, BAD_COUNTS),
    "widths": (
        "{argument} must be two positive ints for each block of each stage",
        [3, None, "widths", (((1, 2, 3),),), (((1, 0),),), ((1, 2),)],
    ),
    "outputs": ("{argument} must be a tuple of positive ints", [3, None, "3", (1, 0), (1.5,)]),
    "split_input": (FLAG, [1, None, "yes"]),
    "fused_ratio": (RATIO, BAD_RATIOS),
    "fused_divisor": (COUNT, BAD_COUNTS),
    "conv": ("{argument} must be a function", [None, "standardized"]),
    "first_block": ("{argument} must be a function or None", ["edge", 1]),
    "last_block": ("{argument} must be a function or None", ["edge", False]),
    "features": ("{argument} must be an int from 0 up", [-1, 2.0, "2", None, True]),
    "hidden": ("{argument} must be an int from 0 up", [-1, 2.0, "2", None, True]),
    "grid": (COUNT, BAD_COUNTS),
    "attention_pooling": (FLAG, [1, None, "yes"]),
}


def fields_of(network: str) -> list[str]:
    return [field.name for field in dataclasses.fields(catalog.find_variant(network).config)]


@pytest.mark.parametrize(
    ("network", "field"),
    [
        (network, field)
        for network in (
            "resnet50", "wide_resnet28_10", "resnext50_32x4d", "resnest50d", "res2net50_26w_4s",
            "rexnet_100", "rexnet_lite_100", "ecaresnet50d_pruned", "skresnet50", "resnetv2_50",
            "resnet51q", "resnet50_clip",
        )
        for field in fields_of(network)
    ],
)  # fmt: skip
def test_every_field_of_every_family_refuses_wrong_values(network, field, nothing_built):
    rule, values = BAD_FIELDS[field]  # A new field has to be entered here.
    for value in values:
        with pytest.raises(ValueError, match="Received: ") as error:
            kr.create_model(network, weights=None, **{field: value})
        message = str(error.value)
        assert message == f"{rule.format(argument=field)}. Received: {field}={value!r}"


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (
            "resnet18",
            dict(depths=(1, 1, 1, 1, 1)),
            "depths and planes must name the same number of stages. "
            "Received: depths=(1, 1, 1, 1, 1), planes=(64, 128, 256, 512)",
        ),
        (
            "resnest50d",
            dict(planes=(8, 16)),
            "depths and planes must name the same number of stages. "
            "Received: depths=(3, 4, 6, 3), planes=(8, 16)",
        ),
        (
            "res2net50_14w_8s",
            dict(planes=(4, 8, 16, 32)),
            "base_width: planes * base_width / 64 must be at least 1 in every stage. "
            "Received: base_width=14, planes=(4, 8, 16, 32)",
        ),
        (
            "resnet34",
            dict(base_width=128),
            "base_width must be 64 and cardinality 1 with the basic block, which has no middle to "
            "widen or to group. Received: base_width=128, cardinality=1",
        ),
        (
            "resnet50_gn",
            dict(planes=(64, 128, 256, 500)),
            "norm: its 32 groups must divide the channels of every norm. "
            "Received: norm=GroupNorm(groups=32), channels=[500, 2000]",
        ),
        (
            "resnet18d",
            dict(norm=blocks.GroupNorm(48), planes=(48, 96, 192, 384)),
            "norm: its 48 groups must divide the channels of every norm. "
            "Received: norm=GroupNorm(groups=48), channels=[32, 64]",
        ),
        (
            "res2net50_26w_4s",
            dict(norm=blocks.group_norm),
            "norm: its 32 groups must divide the channels of every norm. Received: "
            "norm=GroupNorm(groups=32), channels=[26, 52, 104, 208]",
        ),
        (
            "resnest50d",
            dict(cardinality=5, base_width=40),
            "cardinality must divide the 104 channels that attention is computed from. Received: "
            "radix=2, cardinality=5, base_width=40, planes=(64, 128, 256, 512)",
        ),
        (
            "resnest50d",
            dict(radix=3),
            "radix * cardinality must divide the 64 channels of a 3x3 convolution. Received: "
            "radix=3, cardinality=1, base_width=64, planes=(64, 128, 256, 512)",
        ),
        (
            "resnest50d_4s2x40d",
            dict(planes=(8, 16, 24, 32)),
            "radix * cardinality must divide the 10 channels of a 3x3 convolution. Received: "
            "radix=4, cardinality=2, base_width=40, planes=(8, 16, 24, 32)",
        ),
        (
            "ecaresnet50d_pruned",
            dict(depths=(1, 1), outputs=(8, 9), widths=(((4, 4),), ((4, 4), (5, 5)))),
            "outputs and widths must name the stages and blocks that depths does. Received: "
            "outputs=(8, 9), widths=(((4, 4),), ((4, 4), (5, 5))), depths=(1, 1)",
        ),
        (
            "skresnet50",
            dict(planes=(8, 15, 24, 32)),
            "split_input and cardinality: a selective kernel's input must divide into 2. Received: "
            "split_input=True, cardinality=1, base_width=64, planes=(8, 15, 24, 32)",
        ),
        (
            "skresnet18",
            dict(cardinality=2),
            "base_width must be 64 and cardinality 1 with the basic block, which has no middle to "
            "widen or to group. Received: base_width=64, cardinality=2",
        ),
        (
            "resnetv2_50x1_bit",
            dict(planes=(16, 32, 64, 128)),
            "norm: its 32 groups must divide the channels of every norm. Received: "
            "norm=GroupNorm(groups=32), channels=[16]",
        ),
        (
            "resnext26ts",
            dict(planes=(64, 128, 256, 500)),
            "group_size must divide the planes of its stages. Received: "
            "group_size=32, planes=(64, 128, 256, 500)",
        ),
        (
            "resnet50_clip",
            dict(planes=(8, 16, 24, 30)),
            "planes: attention pooling needs a multiple of 64 channels in the end. Received: "
            "planes=(8, 16, 24, 30), attention_pooling=True",
        ),
        (
            "resnet50_clip",
            dict(pooling="max"),
            "pooling must be None with attention pooling; pass attention_pooling=False for "
            "another. Received: pooling='max'",
        ),
    ],
)
def test_fields_that_contradict_each_other_are_refused(network, changes, message, nothing_built):
    with pytest.raises(ValueError, match="Received: ") as error:
        kr.create_model(network, weights=None, **changes)
    assert str(error.value) == message


def test_fewer_depths_keep_the_first_stages_widths():
    model = kr.ResNet18(weights=None, include_top=False, depths=[1, 1], planes=[8, 16, 24, 32])
    assert model.output_shape == (None, None, None, 16)


@pytest.mark.parametrize(
    ("network", "keyword", "hint"),
    [
        ("res2net50_26w_4s", "scal", "Did you mean 'scale'? Its fields: "),
        ("resnest50d", "radx", "Did you mean 'radix'? Its fields: "),
        ("rexnet_100", "depths", "Did you mean 'depth'? Its fields: "),
        ("resnet50", "zzz", "'zzz' is neither an argument nor a field of ResNetConfig. Its fields"),
    ],
)
def test_an_unknown_keyword_is_refused_and_the_nearest_named(network, keyword, hint, nothing_built):
    with pytest.raises(TypeError, match="is neither an argument nor a field of ") as error:
        kr.create_model(network, weights=None, **{keyword: 4})
    assert hint in str(error.value)
    assert f"Received: {keyword}=4" in str(error.value)


def test_channels_first_is_refused(nothing_built):
    kept = keras.config.image_data_format()
    try:
        keras.config.set_image_data_format("channels_first")
        with pytest.raises(ValueError, match="image_data_format must be 'channels_last'") as error:
            build("resnet")
    finally:
        keras.config.set_image_data_format(kept)
    assert "Received: image_data_format='channels_first'" in str(error.value)


# Settings of split attention ----------------------------------------------------------------------


def test_split_settings_are_read():
    assert parse_split("2s1x64d") == dict(radix=2, cardinality=1, base_width=64)
    assert parse_split("4s2x40d") == dict(radix=4, cardinality=2, base_width=40)


@pytest.mark.parametrize("text", ["2s1x64", "", "s1x64d", "2s1x64d_", " 2s1x64d", "2s1x64d\n", 3])
def test_a_wrong_split_setting_is_refused(text):
    with pytest.raises(ValueError, match="A split setting must read like '2s1x64d'") as error:
        parse_split(text)
    assert f"Received: {text!r}" in str(error.value)


@pytest.mark.parametrize("network", kr.list_models("resnest50d_*"))
def test_split_attention_convolves_in_cardinality_times_radix_groups(network):
    """Section 3.1: G = K * R. A grouped convolution with other groups has the same output shape."""
    setting = parse_split(network.removeprefix("resnest50d_"))
    radix, cardinality = setting["radix"], setting["cardinality"]
    model = kr.create_model(network, weights=None, depths=(1, 1, 1, 1))
    for stage, planes in enumerate((64, 128, 256, 512), start=1):
        width = planes * setting["base_width"] // 64 * cardinality
        conv2 = model.get_layer(f"layer{stage}_0_conv2" + ("_conv" if radix else ""))
        groups = cardinality * max(radix, 1)
        assert (conv2.groups, conv2.filters) == (groups, width * max(radix, 1))
        assert isinstance(conv2, GroupedConv2D) == (groups > 1)
        assert model.get_layer(f"layer{stage}_0_conv1").filters == width
        if radix:
            fc1, fc2 = (model.get_layer(f"layer{stage}_0_conv2_{n}") for n in ("fc1", "fc2"))
            assert fc1.groups == fc2.groups == cardinality
            assert fc2.filters == width * radix


# The catalog --------------------------------------------------------------------------------------


def test_models_are_listed_sorted_and_once():
    names = kr.list_models()
    assert names == sorted(set(names))
    assert len(names) == len(catalog.variants())
    assert {"resnet50", "resnext50_32x4d", "resnest50d", "res2net50_26w_4s", "rexnet_100"} < set(
        names
    )


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("resnest*e", ["resnest101e", "resnest200e", "resnest269e"]),
        ("RESNEST*E", ["resnest101e", "resnest200e", "resnest269e"]),
        ("rexnetr_1?0", ["rexnetr_100", "rexnetr_130", "rexnetr_150"]),
        ("resnet50", ["resnet50"]),
        ("resnet5", []),
        ("", []),
    ],
)
def test_patterns_select_models(pattern, expected):
    assert kr.list_models(pattern) == expected


def test_a_pattern_that_is_no_string_is_refused():
    with pytest.raises(TypeError, match="pattern must be a string, such as 'res") as error:
        kr.list_models(3)
    assert "Received: pattern=3" in str(error.value)


def test_every_variant_is_found_by_each_of_its_names_in_any_case():
    for public, variant in catalog.variants().items():
        for name in (public, variant.name):
            for spelling in (name, name.upper(), name.lower()):
                assert catalog.find_variant(spelling) is variant, spelling


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("resnest50", "resnest50d"),
        ("ResNeSt50", "resnest50d"),
        ("resnest50_fast_4s2x40d", "resnest50d_4s2x40d"),
        ("ResNeSt50_fast_1s1x64d", "resnest50d_1s1x64d"),
        ("res2net50_v1b_26w_4s", "res2net50d"),
        ("res2next50_4s", "res2next50"),
    ],
)
def test_names_of_papers_and_repositories_build_the_variant(name, variant):
    model = kr.create_model(name, weights=None, classes=3, depths=(1,), planes=(32,))
    assert model.name == variant
    assert model.output_shape == (None, 3)


def test_a_model_made_by_its_variants_name_can_have_another_name():
    """Python would take `name=` for the first argument unless that is positional only."""
    assert kr.create_model("resnet18", weights=None, name="backbone", **TINY).name == "backbone"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("resnet5O", "'resnet50'"),
        ("resnest50_d", "'resnest50d'"),
        ("ReXNet_1.0", "'rexnet_100'"),
        ("vgg16", "See list_models()."),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_named(name, suggestion):
    with pytest.raises(ValueError, match="name must be one of list_models") as error:
        kr.create_model(name)
    assert suggestion in str(error.value)
    assert f"Received: name={name!r}" in str(error.value)


@pytest.mark.parametrize("name", [None, 50, kr.ResNet50.config, ["resnet50"]], ids=repr)
def test_a_name_that_is_no_string_is_refused(name):
    with pytest.raises(TypeError, match="name must be a string, such as 'resnest50d'") as error:
        kr.create_model(name)
    assert f"Received: name={name!r}" in str(error.value)


def test_the_public_namespace_has_exactly_the_variants_of_the_catalog():
    public = {name: x for name, x in vars(kr).items() if isinstance(x, kr.Variant)}
    assert public.keys() == catalog.variants().keys()
    assert all(public[name] is variant for name, variant in catalog.variants().items())
    assert len({variant.name for variant in public.values()}) == len(public)


# Feature levels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (keras.Sequential([layers.Dense(3)]), {}, "build it first, for example with model.build("),
        (3, {}, "model must be a functional or a built sequential keras.Model. Received: model=3"),
        ("plain", {}, "(found: none built by keras_resnets). Received: prefix='', model='plain'"),
        ("tiny", dict(prefix="left_"), "(found: ''). Received: prefix='left_', model='resnet18'"),
        ("tiny", dict(prefix=3), "prefix must be a string. Received: prefix=3"),
    ],
)
def test_a_model_without_levels_is_refused(model, arguments, message):
    if model == "plain":
        image = keras.Input((8, 8, 3))
        # An Identity of its own must not be taken for a level.
        model = keras.Model(image, layers.Identity(name="P")(image), name="plain")
    elif model == "tiny":
        model = build("resnet")
    for function in (kr.feature_levels, kr.feature_pyramid):
        with pytest.raises(ValueError, match="Received: ") as error:
            function(model, **arguments)
        assert message in str(error.value)


@pytest.mark.parametrize(
    "levels", [("P3", "P6"), "P3", (), 3, [["P3"]], ("p3",), (None,)], ids=repr
)
def test_unknown_levels_are_refused(levels):
    with pytest.raises(ValueError, match=r"levels must be some of P1, P2, P3, P4, P5\.") as error:
        kr.feature_pyramid(build("resnet"), levels)
    assert f"Received: levels={levels!r}" in str(error.value)


def test_levels_come_in_the_order_asked_for_and_share_the_weights():
    model = build("rexnet", classes=3)
    pyramid = kr.feature_pyramid(model, ["P5", "P2", "P3"])
    assert pyramid.name == "rexnet_100_pyramid"
    outputs = evaluate(pyramid, random_images(1, 64, 64, 3))
    assert list(outputs) == ["P5", "P2", "P3"]
    assert [outputs[name].shape[1] for name in outputs] == [2, 16, 8]
    stem = next(layer for layer in model.layers if isinstance(layer, layers.Conv2D))
    assert pyramid.get_layer(stem.name) is stem


# Multiply-accumulates -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "input_shape", [(224, 224), (224, 224, 1), (0, 224, 3), (None, 224, 3), 224, "abc"], ids=repr
)
def test_macs_are_refused_for_a_shape_that_does_not_fit(input_shape):
    with pytest.raises(ValueError, match="input_shape must be positive ints that agree") as error:
        kr.count_macs(build("resnet"), input_shape)
    assert f"Received: input_shape={input_shape!r}" in str(error.value)


def test_macs_of_a_fixed_size_are_refused_at_another():
    model = build("resnet", input_shape=(64, 64, 3))
    assert kr.count_macs(model) == kr.count_macs(build("resnet"), (64, 64, 3))
    with pytest.raises(ValueError, match=r"that agree with the model's \(64, 64, 3\)"):
        kr.count_macs(model, (96, 64, 3))


def test_macs_are_refused_for_what_has_no_single_image():
    pair = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    with pytest.raises(ValueError, match="model must have one input"):
        kr.count_macs(keras.Model(pair, layers.Add()(pair)))
    for model in (3, keras.Sequential([layers.Dense(2)])):
        with pytest.raises(ValueError, match="model must be a functional or a built sequential"):
            kr.count_macs(model)


# Any combination ----------------------------------------------------------------------------------

ONE_BLOCK = dict(depths=(1,), planes=(8,), stem_width=4)
PROPERTY_NETWORKS = {
    "resnet18": (ONE_BLOCK, 8),
    "resnet50": (ONE_BLOCK, 32),
    "resnest50d": (ONE_BLOCK, 32),
    "res2net50_26w_4s": (ONE_BLOCK, 32),
    "rexnet_100": (TINY_REXNET, 128),
    "ecaresnet50d_pruned": (ONE_BLOCK | dict(outputs=(9,), widths=(((4, 5),),)), 9),
    "skresnet18": (ONE_BLOCK, 8),
    "resnetv2_50d": (ONE_BLOCK, 32),
    "resnet33ts": (ONE_BLOCK | dict(features=12), 12),
    "resnet50_clip": (ONE_BLOCK | dict(planes=(16,)), 64),
}
# Values that a network may be given: good ones, then bad ones.
VALUES = {
    "include_top": ([True, False], [1, "yes", None]),
    "weights": ([None], ["./imagenet", "gone.safetensors", 3]),
    "input_shape": (
        [None, (None, None, 3), (32, 40, 3), [64, None, 3], (None, 33, 1), (32, 32, 4)],
        [(0, 40, 3), (32, 32), (32, 32, 0), "square", 32, (32, 32, 3.0), ()],
    ),
    "pooling": ([None, "avg", "max"], ["mean", True, ("avg",)]),
    "classes": ([None, 1, 10], [0, -3, 2.5, "ten", False]),
    "classifier_activation": ([None, "softmax", "sigmoid", keras.ops.tanh], ["softmin", 3, True]),
    "include_preprocessing": ([True, False], [1, "no"]),
    "remat": ([True, False], [1, "all"]),
    "output_stride": ([8, 16, 32], [4, 8.0, "16", None]),
    "dropout": ([None, 0, 0.5], [1, -0.5, "half", math.nan]),
    "drop_path": ([0.0, 0.25], [1.0, True, None]),
    "drop_block": ([0, 0.25], [1.5, "0.1", math.inf]),
    "prefix": (["", "left_", "a.b."], ["a/b", 3, None]),
    "name": ([None, "network"], ["", "a/b", 3]),
    "small_inputs": ([True, False], [1, None]),
    "residual": ([True, False], [0, "no"]),
    "unheard_of": ([], [1, None]),
}


@st.composite
def combinations(draw):
    """A network, its arguments, and the names of those that were given a bad value."""
    network = draw(st.sampled_from(sorted(PROPERTY_NETWORKS)))
    given_values = {
        argument: draw(st.sampled_from(good))
        for argument, (good, _) in VALUES.items()
        if good and draw(st.booleans())
    }
    bad = draw(st.sets(st.sampled_from(sorted(VALUES)), max_size=2))
    given_values |= {argument: draw(st.sampled_from(VALUES[argument][1])) for argument in bad}
    return network, given_values, bad


def contradictory(network: str, arguments: dict) -> set[str]:
    """Arguments that are good one by one and cannot go together."""
    found = set()
    gray_or_more = arguments.get("input_shape") in ((None, 33, 1), (32, 32, 4))
    if arguments.get("include_preprocessing") is True and gray_or_more:
        found |= {"include_preprocessing", "input_shape"}
    if network == "rexnet_100" and arguments.get("drop_block"):
        found |= {"drop_block"}
    if network == "resnet50_clip" and arguments.get("include_top", True):
        found |= {"pooling"} if arguments.get("pooling") else set()
    return found


@pytest.mark.long
@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(combination=combinations())
def test_any_combination_builds_or_names_a_wrong_argument(combination):
    network, arguments, bad = combination
    changes, channels = PROPERTY_NETWORKS[network]
    bad = bad | contradictory(network, arguments)
    call = {"weights": None, **changes, **arguments}
    if bad:
        with pytest.raises((ValueError, TypeError)) as error:
            kr.create_model(network, **call)
        message = str(error.value)
        received = message.partition("Received: ")[2]
        assert any(f"{argument}=" in received for argument in bad), message
        return
    model = kr.create_model(network, **call)
    assert isinstance(model, keras.Model)
    assert model.name == (arguments.get("name") or network)
    shape = tuple(arguments.get("input_shape") or (None, None, 3))
    assert model.input_shape == (None, *shape)
    if arguments.get("include_top", True):
        own = catalog.find_variant(network).classes
        assert model.output_shape == (None, arguments.get("classes") or own)
    elif arguments.get("pooling"):
        assert model.output_shape == (None, channels)
    else:
        assert len(model.output_shape) == 4
        assert model.output_shape[-1] == channels


def test_the_table_of_the_property_test_knows_good_from_bad():
    """Each bad value alone must be refused: one that builds would hide behind another."""
    for argument, value in itertools.chain.from_iterable(
        ((argument, value) for value in bad) for argument, (_, bad) in VALUES.items()
    ):
        with pytest.raises((ValueError, TypeError), match=rf"{argument}="):
            kr.create_model("resnet18", **{"weights": None, **ONE_BLOCK, argument: value})


def test_zero_padding_needs_no_parameters_and_projections_do():
    """The same shortcut everywhere would build and train, and no shape would tell."""
    counts = {
        shortcut: kr.ResNet18(weights=None, shortcut=shortcut, **TINY).count_params()
        for shortcut in (blocks.zero_padding, blocks.projection, blocks.pooled_projection)
    }
    kernels = 8 * 16 + 16 * 24 + 24 * 32
    norms = 4 * (16 + 24 + 32)
    assert counts[blocks.projection] - counts[blocks.zero_padding] == kernels + norms
    assert counts[blocks.pooled_projection] == counts[blocks.projection]

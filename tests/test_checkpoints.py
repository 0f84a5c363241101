"""Checkpoints: one rule puts a file into a model, all of it or nothing."""

import os
import struct
import warnings

import keras
import numpy as np
import pytest
from checkpoint_files import assert_same, build, state_of, weights_of
from deterministic import random_images, random_state
from goldens_io import relative_error, values
from keras import layers
from nets import CASES, size_key
from safetensors.numpy import save_file

import keras_resnets as kr
from keras_resnets.weights import checkpoint

TOLERANCE = 1e-5

# Each family, and what differs in names or axes: deep stems, squeeze-excite, grouped kernels,
# attention of radix 1 and 2, numbered slices, depthwise kernels, shortcuts without weights.
LOADED = (
    "basic", "bottleneck-d", "se-bottleneck-t", "resnext-se", "resnest-1s2x-first", "resnest-2s2x",
    "res2net-4s", "res2next", "rexnet", "rexnet-no-se", "full-resnet20",
)  # fmt: skip


def golden(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images of a case's first size and PyTorch's logits for them."""
    case = CASES[name]
    height, width, batch = case.sizes[0]
    images = random_images(height, width, case.input_channels, batch)
    return images, values()[f"{name}/{size_key(case.sizes[0])}/logits"]


def evaluate(model: keras.Model, images: np.ndarray) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(images), training=False))


@pytest.fixture
def file_of(tmp_path):
    """Writes the checkpoint of a case, as timm would, and returns its path."""

    def write(name: str, state: dict[str, np.ndarray] | None = None) -> str:
        path = str(tmp_path / f"{name}.safetensors")
        state = state_of(name) if state is None else state
        save_file({key: np.ascontiguousarray(array) for key, array in state.items()}, path)
        return path

    return write


@pytest.fixture
def nothing_built(monkeypatch):
    """Fails a test in which a model's input is made: a bad file must come first."""

    def refuse(*arguments, **keywords):
        raise AssertionError("a model was being built before the file was read")

    monkeypatch.setattr(keras, "Input", refuse)


FRESH = (
    'Pass head="fresh" to load_weights, or classes to the builder, for a classifier of the '
    "model's own."
)


# What fits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOADED)
def test_a_checkpoint_file_gives_the_values_of_pytorch(name, file_of):
    images, expected = golden(name)
    model = build(name, weights=file_of(name))
    # Ten classes are the file's; the variants themselves have a thousand, or ten for CIFAR.
    assert model.output_shape == (None, expected.shape[-1])
    assert relative_error(evaluate(model, images), expected) <= TOLERANCE


@pytest.mark.parametrize("name", ["bottleneck-d", "resnest-2s2x", "rexnet"])
def test_a_weights_file_of_keras_gives_the_same_values(name, file_of, tmp_path):
    images, expected = golden(name)
    path = str(tmp_path / "model.weights.h5")
    build(name, weights=file_of(name)).save_weights(path)
    model = build(name, weights=path)
    assert model.output_shape == (None, 10)
    assert relative_error(evaluate(model, images), expected) <= TOLERANCE
    other = build(name, classes=10)
    assert kr.load_weights(other, path).fits
    assert_same(weights_of(other), weights_of(model))


@pytest.mark.parametrize("name", ["basic", "rexnet"])
@pytest.mark.parametrize("ending", [".safetensors", ".weights.h5"])
def test_a_backbone_takes_a_file_that_has_a_head(name, ending, file_of, tmp_path):
    path = file_of(name)
    whole = build(name, weights=path)
    if ending == ".weights.h5":
        path = str(tmp_path / "whole.weights.h5")
        whole.save_weights(path)
    for pooling in (None, "avg", "max"):
        backbone = build(name, weights=path, include_top=False, pooling=pooling)
        heads = [key for key in weights_of(whole) if key.split("/")[0] in ("fc", "head_fc")]
        assert len(heads) == 2
        expected = {k: v for k, v in weights_of(whole).items() if k not in heads}
        assert_same(weights_of(backbone), expected)


def test_another_number_of_classes_keeps_the_backbone_and_says_so(file_of, tmp_path):
    path = file_of("basic")
    whole = build("basic", weights=path)
    keras_path = str(tmp_path / "whole.weights.h5")
    whole.save_weights(keras_path)
    for file in (path, keras_path):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = build("basic", weights=file, classes=7)
        ours = [str(warning.message) for warning in caught if "classes" in str(warning.message)]
        assert ours == [
            f"classes=7 differs from the 10 classes of {file!r}: the backbone is loaded and the "
            "classifier starts from random weights."
        ]
        assert model.output_shape == (None, 7)
        loaded, expected = weights_of(model), weights_of(whole)
        heads = ["fc/kernel", "fc/bias"]
        fresh = [loaded.pop(key) for key in heads]
        assert np.abs(fresh[0]).max() > 0
        assert_same(loaded, {k: v for k, v in expected.items() if k not in heads})


@pytest.mark.parametrize("classes", [None, 10])
def test_the_number_of_classes_of_the_file_is_no_reason_to_warn(classes, file_of):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*classes")
        assert build("basic", weights=file_of("basic"), classes=classes).output_shape == (None, 10)


@pytest.mark.parametrize("prefix", ["left_", "left."])
def test_a_prefix_is_no_part_of_a_pytorch_files_names(prefix, file_of):
    images, expected = golden("basic")
    model = build("basic", weights=file_of("basic"), prefix=prefix)
    assert model.output_shape == (None, 10)
    assert relative_error(evaluate(model, images), expected) <= TOLERANCE


def test_a_prefix_is_part_of_a_keras_files_names(file_of, tmp_path):
    path = str(tmp_path / "left.weights.h5")
    model = build("basic", weights=file_of("basic"), prefix="left_")
    model.save_weights(path)
    same = build("basic", weights=path, prefix="left_")
    assert_same(weights_of(same), weights_of(model))
    with pytest.raises(ValueError, match="weights must fit the model") as error:
        build("basic", weights=path, classes=10)
    assert "In the file only (77): left_bn1/0 (64,), " in str(error.value)


def test_each_of_two_backbones_loads_its_own_file(file_of):
    """The stem is the first convolution of the backbone that is loaded, not of the model."""
    image = keras.Input((64, 64, 4))
    backbones = [
        build("basic", input_tensor=image, prefix=prefix, classes=10) for prefix in ("a_", "b_")
    ]
    model = keras.Model(image, [backbone.output for backbone in backbones])
    before = weights_of(backbones[0])
    report = kr.load_weights(model, file_of("basic"), prefix="b_")
    assert report.adapted == ("conv1.weight: (7, 7, 3, 64) -> (7, 7, 4, 64)",)
    assert_same(weights_of(backbones[0]), before)
    kr.load_weights(model, file_of("basic"), prefix="a_")
    first, second = (weights_of(backbone) for backbone in backbones)
    assert_same({f"b_{k[2:]}": v for k, v in first.items()}, second)


def test_two_layers_of_one_name_are_refused_instead_of_leaving_one_unset(file_of):
    image = keras.Input((64, 64, 3))
    twins = [build("basic", classes=10, name=name) for name in ("one", "two")]
    model = keras.Model(image, [twin(image) for twin in twins])
    with pytest.raises(ValueError, match="model must not have two layers of one name") as error:
        kr.load_weights(model, file_of("basic"))
    assert "Received: two layers 'conv1'" in str(error.value)
    # A model used twice has its layers once.
    shared = keras.Model(image, [twins[0](image), twins[0](-image)])
    assert kr.load_weights(shared, file_of("basic")).fits


def test_a_file_loads_onto_the_tensor_of_another_layer(file_of):
    image = keras.Input((64, 64, 5))
    mixed = layers.Conv2D(3, 1, name="mix")(image)
    model = build("basic", weights=file_of("basic"), input_tensor=mixed, prefix="net_")
    plain = weights_of(build("basic", weights=file_of("basic")))
    loaded = {k[4:]: v for k, v in weights_of(model).items() if k.startswith("net_")}
    assert_same(loaded, plain)


def test_preprocessing_changes_nothing_about_loading(file_of):
    pixels = np.random.RandomState(0).randint(0, 256, (2, 64, 64, 3)).astype("float32")
    by_hand = (pixels / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    path = file_of("basic")
    expected = evaluate(build("basic", weights=path), by_hand.astype("float32"))
    model = build("basic", weights=path, include_preprocessing=True)
    assert relative_error(evaluate(model, pixels), expected) <= TOLERANCE


@pytest.mark.parametrize("drops", [dict(drop_path=0.3), dict(drop_block=0.3), dict(dropout=0.3)])
def test_a_weights_file_fits_whether_or_not_a_model_drops(drops, file_of, tmp_path):
    """A drop layer's rate and its random state are variables too."""
    plain = build("bottleneck", weights=file_of("bottleneck"))
    dropping = build("bottleneck", classes=10, **drops)
    rates = {k: v for k, v in weights_of(dropping).items() if k.endswith("/rate")}
    assert bool(rates) == ("dropout" not in drops)
    path = str(tmp_path / "plain.weights.h5")
    plain.save_weights(path)
    assert kr.load_weights(dropping, path).fits
    assert_same(weights_of(dropping), weights_of(plain) | rates)
    path = str(tmp_path / "dropping.weights.h5")
    dropping.save_weights(path)
    assert_same(weights_of(build("bottleneck", weights=path)), weights_of(plain))


def test_variables_stay_float32_under_mixed_precision(file_of):
    policy = keras.config.dtype_policy()
    plain = build("basic", weights=file_of("basic"))
    try:
        keras.config.set_dtype_policy("mixed_bfloat16")
        model = build("basic", weights=file_of("basic"))
    finally:
        keras.config.set_dtype_policy(policy)
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in model.weights} == {
        "float32"
    }
    assert_same(weights_of(model), weights_of(plain))
    kernel = state_of("basic")["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(weights_of(model)["conv1/kernel"], kernel)


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_files_of_other_float_types_are_converted(kind, file_of):
    state = {name: array.astype(kind) for name, array in state_of("basic").items()}
    loaded = weights_of(build("basic", weights=file_of("basic", state)))
    assert {array.dtype for array in loaded.values()} == {np.dtype("float32")}
    np.testing.assert_array_equal(loaded["bn1/gamma"], state["bn1.weight"].astype("float32"))


# Input channels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["basic", "bottleneck-d", "rexnet"])
def test_a_gray_model_sees_what_its_rgb_model_sees_in_the_copied_image(name, file_of):
    path = file_of(name)
    gray = random_images(64, 64, 1, batch=2)
    rgb_model = build(name, weights=path)
    gray_model = build(name, weights=path, input_shape=(None, None, 1))
    expected = evaluate(rgb_model, np.repeat(gray, 3, axis=-1))
    assert relative_error(evaluate(gray_model, gray), expected) <= TOLERANCE


@pytest.mark.parametrize("name", ["resnet50d-channels1", "rexnet_100-channels1"])
def test_a_gray_file_spreads_over_the_channels_of_an_rgb_model(name, file_of):
    path = file_of(name)
    gray = random_images(64, 64, 1, batch=2)
    gray_model = build(name, weights=path, input_shape=(None, None, 1))
    rgb_model = build(name, weights=path)
    assert rgb_model.input_shape[-1] == 3
    images = np.repeat(gray, 3, axis=-1)
    assert relative_error(evaluate(rgb_model, images), evaluate(gray_model, gray)) <= TOLERANCE


@pytest.mark.parametrize("channels", [2, 4, 13])
def test_more_channels_repeat_the_kernel_and_keep_the_size_of_the_response(channels, file_of):
    model = build("basic", weights=file_of("basic"), input_shape=(None, None, channels))
    original = state_of("basic")["conv1.weight"].transpose(2, 3, 1, 0)
    kernel = weights_of(model)["conv1/kernel"]
    assert kernel.shape == (7, 7, channels, 64)
    for i in range(channels):
        np.testing.assert_allclose(kernel[:, :, i], original[:, :, i % 3] * 3 / channels, rtol=1e-6)
    # Of nothing else were the channels changed.
    rest = weights_of(build("basic", weights=file_of("basic")))
    assert_same(
        {k: v for k, v in weights_of(model).items() if k != "conv1/kernel"},
        {k: v for k, v in rest.items() if k != "conv1/kernel"},
    )


# What does not fit --------------------------------------------------------------------------------


def refused(model: keras.Model, source, **arguments) -> str:
    """The message of the one error; and nothing may have been set."""
    before = weights_of(model)
    with pytest.raises(ValueError, match="weights must fit the model") as error:
        kr.load_weights(model, source, **arguments)
    assert_same(weights_of(model), before)
    return str(error.value)


def test_a_missing_tensor_is_named():
    state = state_of("basic")
    del state["layer2.1.bn2.running_var"]
    message = refused(build("basic", classes=10), state)
    assert "'mapping' does not fit 'resnet18'." in message
    assert "In the file only (0): none." in message
    assert "In the model only (1): layer2_1_bn2/moving_variance (16,)." in message
    assert message.endswith("Other shape (0): none.")


def test_a_tensor_too_many_is_named():
    state = state_of("basic") | {"layer9.0.conv1.weight": np.zeros((1, 1, 3, 3), "float32")}
    # A leaf that its layer does not have is one too many as well.
    state["conv1.bias"] = np.zeros(64, "float32")
    message = refused(build("basic", classes=10), state)
    assert "In the file only (2): conv1.bias (64,), layer9.0.conv1.weight (1, 1, 3, 3)." in message
    assert "In the model only (0): none." in message


def test_a_tensor_of_another_shape_is_named_with_both():
    state = state_of("basic")
    # The last has the right number of values, so a careless reshape would take it.
    state["bn1.weight"] = np.zeros(63, "float32")
    state["layer1.0.conv1.weight"] = np.zeros((3, 3, 64, 8), "float32")
    message = refused(build("basic", classes=10), state)
    assert "In the model only (0): none." in message
    assert message.endswith(
        "Other shape (2): bn1.weight: (63,) -> (64,), "
        "layer1.0.conv1.weight: (64, 8, 3, 3) -> (3, 3, 64, 8)."
    )


def test_a_dense_layer_may_be_a_1x1_convolution_in_the_file():
    state = state_of("basic")
    model, other = (build("basic", classes=10) for _ in range(2))
    kr.load_weights(model, state)
    kr.load_weights(other, state | {"fc.weight": state["fc.weight"][:, :, None, None]})
    assert_same(weights_of(other), weights_of(model))


@pytest.mark.parametrize("shape", [(10, 32, 1, 2), (320,), (), (10, 32, 1)], ids=str)
def test_a_tensor_of_another_rank_is_named_like_one_of_another_shape(shape):
    state = state_of("basic") | {"fc.weight": np.zeros(shape, "float32")}
    message = refused(build("basic", classes=10), state)
    assert f"Other shape (1): fc.weight: {shape} -> (32, 10). " in message
    assert message.endswith(FRESH)


@pytest.mark.parametrize(
    "shape", [(64, 0, 7, 7), (64, 3, 7), (64, 4, 5, 5), (63, 1, 7, 7)], ids=str
)
def test_a_stem_that_differs_in_more_than_its_input_channels_is_refused(shape):
    state = state_of("basic") | {"conv1.weight": np.zeros(shape, "float32")}
    assert "Other shape (1): conv1.weight: (" in refused(build("basic", classes=10), state)


def test_all_that_does_not_fit_is_in_one_error_sorted():
    state = state_of("basic")
    for name in ("layer3.0.conv2.weight", "bn1.running_mean"):
        del state[name]
    state["zz.weight"] = state["aa.weight"] = np.zeros(3, "float32")
    state["layer4.0.bn1.bias"] = state["layer1.0.bn1.bias"] = np.zeros(5, "float32")
    message = refused(build("basic", classes=10), state)
    assert message == (
        "weights must fit the model: 'mapping' does not fit 'resnet18'. "
        "In the file only (2): aa.weight (3,), zz.weight (3,). "
        "In the model only (2): bn1/moving_mean (64,), layer3_0_conv2/kernel (3, 3, 24, 24). "
        "Other shape (2): layer1.0.bn1.bias: (5,) -> (8,), layer4.0.bn1.bias: (5,) -> (32,)."
    )


def test_the_checkpoint_of_another_network_is_refused_by_name(file_of):
    path = file_of("bottleneck")
    message = refused(build("basic", classes=10), path)
    assert "'bottleneck.safetensors' does not fit 'resnet18'." in message
    assert "layer1.0.bn3.bias (32,), " in message
    assert " more. In the model only (" in message, "long lists are cut"
    with pytest.raises(ValueError, match=r"'bottleneck\.safetensors' does not fit 'rexnet_100'"):
        build("rexnet", weights=path)


def test_the_weights_file_of_another_network_is_refused_by_name(tmp_path):
    path = str(tmp_path / "other.weights.h5")
    build("bottleneck", classes=10).save_weights(path)
    message = refused(build("basic", classes=10), path)
    assert "'other.weights.h5' does not fit 'resnet18'." in message
    assert "In the file only (" in message
    with pytest.raises(ValueError, match=r"'other\.weights\.h5' does not fit 'resnet18'"):
        build("basic", weights=path)


def test_a_head_of_other_classes_is_refused_with_the_way_out():
    message = refused(build("basic", classes=7), state_of("basic"))
    assert message.endswith(
        f"Other shape (2): fc.bias: (10,) -> (7,), fc.weight: (32, 10) -> (32, 7). {FRESH}"
    )


def test_a_file_without_a_head_is_refused_by_a_model_with_one():
    state = {k: v for k, v in state_of("basic").items() if not k.startswith("fc.")}
    message = refused(build("basic", classes=10), state)
    assert "In the model only (2): fc/bias (10,), fc/kernel (32, 10)." in message
    assert message.endswith(FRESH)


def test_pytorchs_counters_are_ignored_and_nothing_else():
    state = state_of("basic")
    norms = [name.removesuffix("running_mean") for name in state if name.endswith("running_mean")]
    counters = {f"{norm}num_batches_tracked": np.zeros((), "int64") for norm in norms}
    model = build("basic", classes=10)
    report = kr.load_weights(model, state | counters)
    assert len(report.loaded) == len(state)
    assert report.unexpected == ()
    message = refused(model, state_of("basic") | {"bn1.batches_tracked": np.zeros(())})
    assert "In the file only (1): bn1.batches_tracked ()." in message


# Not being strict ---------------------------------------------------------------------------------


def test_what_fits_is_loaded_and_the_rest_reported():
    state = state_of("basic")
    del state["bn1.running_mean"]
    state["zz.weight"] = state["aa.weight"] = np.zeros(3, "float32")
    state["layer4.0.bn1.bias"] = np.zeros(5, "float32")
    model = build("basic", classes=10, input_shape=(None, None, 1))
    before = weights_of(model)
    report = kr.load_weights(model, state, strict=False)
    assert not report.fits
    assert report.missing == ("bn1/moving_mean",)
    assert report.unexpected == ("aa.weight", "zz.weight")
    assert report.reshaped == ("layer4.0.bn1.bias: (5,) -> (32,)",)
    assert report.adapted == ("conv1.weight: (7, 7, 3, 64) -> (7, 7, 1, 64)",)
    assert report.skipped == ()
    untouched = {"bn1/moving_mean", "layer4_0_bn1/beta"}
    assert set(report.loaded) == set(before) - untouched
    assert list(report.loaded) == sorted(report.loaded)
    after = weights_of(model)
    for key, value in after.items():
        assert np.array_equal(value, before[key]) == (key in untouched), key


def test_a_report_prints_as_a_table():
    model = build("basic", classes=10)
    state = {k: v for k, v in state_of("basic").items() if k != "fc.bias"}
    lines = str(kr.load_weights(model, state, strict=False)).splitlines()
    assert lines[0].startswith("loaded         76  bn1/beta, bn1/gamma, ")
    assert lines[0].endswith(", ... 64 more")
    assert lines[1] == "missing         1  fc/bias"
    assert lines[2] == "unexpected      0  none"
    assert [line.split()[0] for line in lines[3:]] == ["reshaped", "adapted", "skipped"]


@pytest.mark.parametrize("classes", [7, 10])
def test_a_fresh_head_is_left_as_it_is(classes, file_of):
    model = build("basic", classes=classes)
    before = weights_of(model)
    report = kr.load_weights(model, file_of("basic"), head="fresh")
    assert report.fits
    assert report.skipped == ("fc.bias", "fc.weight")
    assert not any(name.startswith("fc/") for name in report.loaded)
    after = weights_of(model)
    for key in before:
        assert np.array_equal(before[key], after[key]) == key.startswith("fc/"), key


# Other models and sources -------------------------------------------------------------------------


def test_any_model_whose_layers_are_named_by_the_rule_can_be_loaded():
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, name="stem_conv"),
            layers.BatchNormalization(name="stem_bn"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, name="head_fc"),
        ]
    )
    shapes = {"stem.conv.weight": (4, 3, 3, 3), "stem.conv.bias": (4,), "head.fc.weight": (2, 4)}
    shapes |= {
        f"stem.bn.{leaf}": (4,) for leaf in ("weight", "bias", "running_mean", "running_var")
    }
    state = random_state({**shapes, "head.fc.bias": (2,)})
    report = kr.load_weights(model, {name: array.tolist() for name, array in state.items()})
    assert len(report.loaded) == 8
    loaded = weights_of(model)
    np.testing.assert_array_equal(
        loaded["stem_conv/kernel"], np.moveaxis(state["stem.conv.weight"], (2, 3, 1, 0), range(4))
    )
    np.testing.assert_array_equal(loaded["stem_bn/moving_variance"], state["stem.bn.running_var"])
    np.testing.assert_array_equal(loaded["head_fc/kernel"], state["head.fc.weight"].T)


@pytest.mark.parametrize("source", [None, 7, ["fc.weight"], b"file", {3: np.zeros(1)}], ids=repr)
def test_a_source_of_another_type_is_refused(source):
    with pytest.raises(TypeError, match="source must be a path or a mapping from names") as error:
        kr.load_weights(build("basic"), source)
    assert f"Received: source={type(source).__name__}" in str(error.value)


def test_a_model_and_a_file_in_the_wrong_order_are_refused():
    with pytest.raises(TypeError, match=r"model must be a keras\.Model\. Received: model=str"):
        kr.load_weights("file.safetensors", build("basic"))


@pytest.mark.parametrize("head", ["new", None, True])
def test_an_unknown_way_to_treat_the_head_is_refused(head):
    with pytest.raises(ValueError, match='head must be "load" or "fresh"') as error:
        kr.load_weights(build("basic"), {}, head=head)
    assert f"Received: head={head!r}" in str(error.value)


# Damaged files ------------------------------------------------------------------------------------


DAMAGED = {
    "empty": b"",
    "one byte": b"\0",
    "text": b"This is no checkpoint but a note that somebody left behind.\n" * 20,
    "noise": np.random.RandomState(0).bytes(5000),
    "absurd length": struct.pack("<Q", 2**62) + b"{}" + bytes(100),
    "length beyond the end": struct.pack("<Q", 5000) + b"{}",
    "no JSON": struct.pack("<Q", 8) + b"{{{{{{{{",
    "zip archive": b"PK\x03\x04" + bytes(100),
    "web page": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
}


@pytest.mark.parametrize("ending", ["safetensors", "weights.h5"])
@pytest.mark.parametrize("content", DAMAGED)
def test_a_file_that_is_something_else_is_refused(content, ending, tmp_path, nothing_built):
    path = tmp_path / f"broken.{ending}"
    path.write_bytes(DAMAGED[content])
    for load in (lambda: kr.ResNet50(weights=path), lambda: checkpoint.read(path)):
        with pytest.raises(ValueError, match="this one cannot be read") as error:
            load()
        kind = ".weights.h5" if ending == "weights.h5" and content != "no JSON" else "safetensors"
        assert str(error.value).startswith(f"weights must be a whole {kind} file; ")
        assert str(error.value).endswith(f"Received: {str(path)!r}")


@pytest.mark.parametrize("ending", ["safetensors", "weights.h5"])
def test_a_file_cut_anywhere_is_refused(ending, file_of, tmp_path, monkeypatch):
    path = file_of("basic")
    if ending == "weights.h5":
        model = build("basic", weights=path)
        path = str(tmp_path / "whole.weights.h5")
        model.save_weights(path)
    with open(path, "rb") as file:
        content = file.read()
    assert len(checkpoint.read(path).arrays) == 77
    cuts = [7, 8, 100, 2000, *np.linspace(3000, len(content) - 1, 25).astype(int)]
    monkeypatch.setattr(keras, "Input", None)  # A model cannot be built from here on.
    for cut in cuts:
        part = tmp_path / f"part.{ending}"
        part.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="this one cannot be read") as error:
            build("basic", weights=part)
        assert str(part) in str(error.value), cut


def test_a_type_too_short_for_weights_is_named(tmp_path):
    header = b'{"fc.bias":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}'
    path = tmp_path / "eight_bits.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(ValueError, match=r"16 bits or more; these are not: fc\.bias \(F8_E4M3\)"):
        kr.load_weights(build("basic", classes=10), path)


def test_a_keras_file_without_layer_names_is_refused(file_of, tmp_path):
    """Older versions of Keras numbered the layers by class and wrote no names."""
    import h5py

    path = str(tmp_path / "old.weights.h5")
    build("basic", weights=file_of("basic")).save_weights(path)
    with h5py.File(path, "r+") as file:
        del file["layers/conv2d/vars"].attrs["name"]
    with pytest.raises(ValueError, match="its layers have no names; save it again") as error:
        checkpoint.read(path)
    assert path in str(error.value)


@pytest.mark.parametrize("content", [name for name in DAMAGED if name != "no JSON"])
def test_a_file_of_no_format_and_no_ending_is_refused(content, tmp_path, nothing_built):
    path = tmp_path / "model.npz"
    path.write_bytes(DAMAGED[content])
    for load in (lambda: kr.ResNet50(weights=path), lambda: checkpoint.read(path)):
        with pytest.raises(ValueError, match="weights must be a file of safetensors, of") as error:
            load()
        assert str(error.value).endswith(f"none of them by its content. Received: {str(path)!r}")


@pytest.mark.parametrize("name", ["gone.safetensors", "gone.weights.h5"])
def test_a_missing_file_is_named(name, tmp_path, nothing_built):
    path = str(tmp_path / name)
    with pytest.raises(ValueError, match=r"weights must be None \(random\) or the path") as error:
        kr.ResNet50(weights=path)
    assert f"weights={path!r}" in str(error.value)
    with pytest.raises(FileNotFoundError, match=name):
        checkpoint.read(path)


@pytest.mark.parametrize("name", ["folder.safetensors", "folder.weights.h5"])
def test_a_folder_is_no_file(name, tmp_path, nothing_built):
    path = tmp_path / name
    os.mkdir(path)
    with pytest.raises(ValueError, match="weights must be a folder with model") as error:
        kr.ResNet50(weights=path)
    assert name in str(error.value)
    with pytest.raises(ValueError, match="this one cannot be read") as error:
        checkpoint.read(path)
    assert name in str(error.value)

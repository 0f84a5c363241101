"""What goes into a model: what is stated, what its layers say, what is asked for; int8's images."""

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from PIL import Image

import keras_resnets as kr
from keras_resnets.deploy.images import MOST_SAMPLES, representative
from keras_resnets.deploy.inputs import inputs_of
from keras_resnets.layers import Preprocessor
from keras_resnets.preparation import Preparation

ANY_SIZE = (None, None, None, 3)
BICUBIC_40 = Preparation(
    size=40, crop_pct=0.8, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)
)
RGB = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 3), "uint8")


def net(*front: layers.Layer, name: str | None = None, side: int | None = None) -> keras.Model:
    """A model with some layers in front of the first that has weights."""
    return keras.Sequential(
        [keras.Input((side, side, 3)), *front, layers.Conv2D(2, 3, name="conv")], name=name
    )


# What is stated (A1) -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stated",
    [
        BICUBIC_40,
        Preprocessor.of(BICUBIC_40),
        BICUBIC_40.as_metadata(),
        {"architecture": "resnet50", "pretrained_cfg": BICUBIC_40.as_metadata()},
    ],
    ids=["value", "layer", "metadata", "config of a hub"],
)
def test_a_statement_in_any_form_is_what_the_metadata_say(stated):
    metadata = inputs_of(net(), stated).at_shape(ANY_SIZE).as_metadata(ANY_SIZE)
    assert Preparation.stated_in(metadata) == BICUBIC_40
    assert metadata["dynamic"] is True


def test_a_checkpoints_name_states_its_preparation():
    stated = inputs_of(net(), "resnest50d.in1k").preparation
    assert stated == kr.preprocessor("resnest50d.in1k").preparation


def test_of_a_fixed_size_the_metadata_say_that_size_and_the_rest_as_stated():
    shape = (1, 96, 64, 3)
    inputs = inputs_of(net(), BICUBIC_40).at_shape(shape)
    metadata = inputs.as_metadata(shape)
    assert metadata["input_size"] == [3, 96, 64]
    assert metadata["dynamic"] is False
    assert metadata["crop_pct"] == 0.8


def test_a_larger_test_size_travels_along():
    stated = Preparation(size=224, test_size=288, test_crop_pct=1.0)
    assert Preparation.stated_in(inputs_of(net(), stated).as_metadata(ANY_SIZE)) == stated


def test_grey_images_are_said_to_be_grey():
    metadata = inputs_of(net(), BICUBIC_40).at_shape((None, 40, 40, 1)).as_metadata((0, 40, 40, 1))
    assert metadata["input_size"] == [1, 40, 40]


# What nobody states (A4) -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnest50d", "resnet50d", "resnet18.a1_in1k", "clip"])
def test_nothing_is_decided_by_the_name_of_a_model(name):
    inputs = inputs_of(net(name=name))
    assert inputs.preparation is None
    assert inputs.normalization is None
    assert inputs.as_metadata(ANY_SIZE) == {"dynamic": True}
    assert inputs.as_metadata((None, 8, 8, 3)) == {"input_size": [3, 8, 8], "dynamic": False}


ONNX = dict(path="m.onnx")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (ONNX | dict(include_preprocessing=True), "include_preprocessing normalises uint8"),
        (
            dict(path="m", signatures=("serve", "serve_bytes")),
            "the signature 'serve_bytes' resizes",
        ),
        (ONNX | dict(precision="int8", data=RGB), "uint8 images are normalised"),
        (ONNX | dict(data=(RGB, np.arange(16))), "images of a data set are resized"),
        (dict(path="m.tflite", side=None), "format 'litert' needs an image_size"),
    ],
    ids=["preprocessing", "serve_bytes", "uint8 data", "data set", "size"],
)
def test_what_nobody_states_is_asked_for_where_it_is_needed(arguments, reason, tmp_path):
    arguments = dict(arguments)
    path, model = tmp_path / arguments.pop("path"), net(side=arguments.pop("side", 8))
    with pytest.raises(ValueError, match=f"preprocessing must state .*: .*{reason}"):
        kr.export(model, path, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_statement_that_states_nothing_is_refused():
    with pytest.raises(ValueError, match="must state something about images"):
        inputs_of(net(), {"architecture": "resnet50"})


# What a model's own layers say (A4) --------------------------------------------------------------


def nested() -> keras.Model:
    return keras.Sequential([keras.Input((None, None, 3)), layers.Rescaling(1 / 255)])


@pytest.mark.parametrize(
    "front",
    [
        [layers.Rescaling(1 / 255)],
        [layers.Rescaling(1 / 127.5, offset=-1)],
        [layers.Rescaling([1.0] * 3, offset=[-123.7, -116.3, -103.5])],
        [layers.Normalization(mean=[123.7, 116.3, 103.5], variance=[3409.0, 3262, 3291])],
        [layers.RandomFlip(), layers.Rescaling(1 / 255), layers.Rescaling(4.0, offset=-2)],
        [nested()],
    ],
    ids=["0 to 1", "-1 to 1", "mean", "normalization", "behind augmentation", "nested"],
)
def test_layers_in_front_that_take_rgb_values_count(front):
    inputs = inputs_of(net(*front), BICUBIC_40)
    assert inputs.takes_rgb
    np.testing.assert_allclose(inputs.normalized(RGB), RGB, atol=1e-4)
    assert inputs.preparation == BICUBIC_40.without_normalization()
    assert inputs_of(net(*front)).as_metadata(ANY_SIZE) == {
        "mean": [0.0] * 3,
        "std": [1 / 255] * 3,
        "dynamic": True,
    }


def test_a_network_of_ours_with_preprocessing_takes_rgb_values():
    small = dict(weights=None, depths=(1,), planes=(8,), classes=2)
    assert inputs_of(kr.ResNet18(include_preprocessing=True, **small)).takes_rgb
    assert not inputs_of(kr.ResNet18(**small)).takes_rgb


@pytest.mark.parametrize(
    "layers_",
    [
        [layers.Rescaling(2.0, offset=-1)],
        [layers.Normalization(mean=[0.5] * 3, variance=[0.05] * 3)],
        [layers.Conv2D(3, 1), layers.Rescaling(1 / 255)],
    ],
    ids=["values 0 to 1", "normalized values 0 to 1", "behind weights"],
)
def test_layers_that_scale_something_else_do_not(layers_):
    assert not inputs_of(net(*layers_)).takes_rgb


def test_a_scaled_output_is_no_preprocessing():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, ops.sum(layers.Rescaling(1 / 255)(layers.Conv2D(2, 3)(image)), -1))
    assert not inputs_of(model).takes_rgb


def test_images_for_a_preprocessor_in_front_lose_nothing_that_it_would_have_seen():
    own = Preprocessor(32, crop_pct=0.8, interpolation="bicubic")
    inputs = inputs_of(net(own), "resnest50d.in1k")
    stated = inputs.preparation
    assert (stated.size, stated.crop_pct, stated.interpolation) == ((40, 40), 1.0, "bicubic")
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), "uint8")
    twice = own(Preprocessor.of(stated)(photo))
    np.testing.assert_allclose(twice, own(photo), atol=1e-5)


# Images for int8 (A11) ---------------------------------------------------------------------------


def samples(data, *, precision="int8", shape=(None, 8, 8, 3), uint8=True, stated=None):
    inputs = inputs_of(net(), stated or BICUBIC_40)
    return representative(data, precision=precision, shape=shape, uint8=uint8, inputs=inputs)


@pytest.mark.parametrize(("count", "batch", "compared"), [(2, None, 1), (16, 4, 4), (15, 6, 6)])
def test_int8_is_calibrated_with_some_images_and_compared_on_the_others(count, batch, compared):
    data = np.zeros((count, 8, 8, 3), "uint8")
    data[..., 0] = np.arange(count)[:, None, None]  # Which image it is.
    data[..., 1, :] = 255
    found = samples(data, shape=(batch, 8, 8, 3))
    numbers = [set(part[:, 0, 0, 0].tolist()) for part in (found.compared, found.calibration)]
    assert len(numbers[0]) == compared
    assert not numbers[0] & numbers[1]
    assert numbers[0] | numbers[1] == set(range(count))


def test_what_is_not_calibrated_is_compared_on_all_images():
    found = samples(RGB, precision="float32")
    np.testing.assert_array_equal(found.compared, RGB)
    assert found.calibration is None


def test_of_a_data_set_as_many_are_drawn_as_int8_needs():
    images = np.random.default_rng(0).integers(0, 256, (400, 8, 8), "uint8")
    found = samples((images, np.arange(400) % 2), stated=Preparation(size=8))
    assert len(found.calibration) == MOST_SAMPLES
    assert len(found.compared) == MOST_SAMPLES // 3


def folder_of(tmp_path: Path, damaged: int) -> str:
    """A data set of eight images, the first of which are damaged."""
    for number, pixels in enumerate(RGB[:8]):
        folder = tmp_path / f"class{number % 2}"
        folder.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        if number < damaged:
            file = folder / f"{number}.png"
            file.write_bytes(file.read_bytes()[:60])
    return f"folder:{tmp_path}"


def test_damaged_images_of_a_data_set_are_named_and_left_out(tmp_path):
    with pytest.warns(UserWarning, match=r"Skipped: .*0\.png"):
        found = samples(folder_of(tmp_path, damaged=1), stated=Preparation(size=8))
    # Two of eight are held out for validation.
    assert (len(found.compared), len(found.calibration)) == (1, 4)


def test_a_data_set_of_damaged_images_alone_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the data set must have readable images"):
        samples(folder_of(tmp_path, damaged=8), stated=Preparation(size=8))


@pytest.mark.parametrize(("data", "batch"), [(RGB[:1], None), (RGB[:7], 4), (RGB[:0], None)])
def test_too_few_images_for_both_are_refused(data, batch):
    with pytest.raises(ValueError, match=r"at least .* int8 is calibrated with some and compared"):
        samples(data, shape=(batch, 8, 8, 3))


GREY = np.zeros((16, 8, 8, 1), "float32")
CONSTANT = {
    "black": dict(data=RGB * 0),
    "white": dict(data=RGB * 0 + 255),
    "black to be normalised": dict(data=RGB * 0, uint8=False),
    "0 and 1 for 0 and 255": dict(data=RGB % 2),
    "one value": dict(data=np.full(RGB.shape, 0.3, "float32"), uint8=False),
    "grey": dict(data=GREY, uint8=False, shape=(None, 8, 8, 1)),
    "a black data set": dict(data=(RGB * 0, np.arange(16)), stated=Preparation(size=8)),
    "one image in black ones": dict(data=np.where(np.arange(16)[:, None, None, None] == 6, RGB, 0)),
}


@pytest.mark.parametrize("case", CONSTANT)
def test_images_without_contrast_are_refused(case):
    arguments = dict(CONSTANT[case])
    if case == "one image in black ones":  # Either part would be worth nothing.
        arguments["data"] = arguments["data"].astype("uint8")
    with pytest.raises(ValueError, match="not all the same"):
        samples(arguments.pop("data"), **arguments)

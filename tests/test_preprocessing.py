"""Images are prepared as timm prepares them, and predictions get the names of their classes."""

import json
import subprocess
import sys
from zlib import crc32

import keras
import numpy as np
import pytest
import tensorflow as tf
from deterministic import sample_positions
from goldens_io import FOLDER
from photographs import CONFIGS, PHOTOGRAPHS, SAMPLES, config_key, photograph
from PIL import Image
from processes import child_environment

import keras_resnets as kr
from keras_resnets import preparation
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.weights import published

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
LEVEL = 1 / 255 / STD  # One grey level of each channel, once normalised.


def values_of(layer, images) -> np.ndarray:
    return keras.ops.convert_to_numpy(layer(images))


def gradients(height: int, width: int) -> np.ndarray:
    """A smooth uint8 image that tells up from down and left from right."""
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)
    red, green = np.broadcast_arrays(rows, columns)
    return np.stack([red, green, 255 - red], -1).astype("uint8")


# The values of timm ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def goldens():
    return np.load(FOLDER / "preprocessing.npz")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_the_photographs_are_those_of_the_goldens(name, goldens):
    assert crc32(photograph(name).tobytes()) == goldens[name]


@pytest.mark.backend
@pytest.mark.parametrize("config", CONFIGS, ids=config_key)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_pil_gives_the_values_of_timm(name, config, goldens):
    values = values_of(Preprocessor(**config, backend="pil"), photograph(name))
    assert values.dtype == np.float32
    sampled = values.ravel()[sample_positions(values.shape, SAMPLES)]
    np.testing.assert_allclose(sampled, goldens[f"{name}/{config_key(config)}"], rtol=0, atol=1e-6)


@pytest.mark.backend
@pytest.mark.parametrize("config", CONFIGS, ids=config_key)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_keras_differs_from_pil_by_a_grey_level_here_and_there(name, config):
    """The numbers in the docstring of `Preprocessor`; `pytest -rP` prints what is measured."""
    image = photograph(name)
    ours = values_of(Preprocessor(**config), image)
    exact = values_of(Preprocessor(**config, backend="pil"), image)
    levels = np.abs(ours - exact) / LEVEL
    print(f"{keras.backend.backend()}, {name}, {config_key(config)}: at most {levels.max():.3f} "
          f"grey levels, in {100 * (levels > 0.5).mean():.3f} % of the values")  # fmt: skip
    assert levels.max() < 1.001
    assert (levels > 0.5).mean() <= 0.003


@pytest.mark.backend
@pytest.mark.parametrize("size", [32, (24, 40), (40, 24)])
@pytest.mark.parametrize("shape", [(33, 57), (57, 33), (31, 31), (1, 9), (100, 20), (7, 200)])
def test_odd_sizes_have_the_geometry_of_pil(shape, size):
    """Rows and columns are counted and cut alike, from images smaller than the crop too."""
    image = gradients(*shape)
    for interpolation in ("bilinear", "bicubic"):
        config = dict(size=size, crop_pct=0.875, interpolation=interpolation)
        ours = values_of(Preprocessor(**config), image)
        exact = values_of(Preprocessor(**config, backend="pil"), image)
        assert ours.shape == exact.shape
        assert np.abs((ours - exact) / LEVEL).max() < 1.001


@pytest.mark.parametrize(
    ("excess", "offset"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3), (7, 4)]
)
def test_the_crop_is_cut_where_torchvision_cuts_it(excess, offset):
    """Its `int(round(excess / 2.0))` takes halves to the nearest even number."""
    image = np.zeros((8, 8 + excess, 3), "uint8")
    image[:, offset] = 255
    values = values_of(Preprocessor(8, crop_pct=1.0), image)
    np.testing.assert_allclose(values[:, 0], np.tile((1 - MEAN) / STD, (8, 1)), atol=1e-6)


# The layer ---------------------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("backend", ["keras", "pil"])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int32"])
def test_images_and_batches_of_any_type_give_the_same_and_stay_as_they_are(dtype, backend):
    images = np.stack([photograph("chelsea"), photograph("chelsea")[::-1]])
    typed = images.astype(dtype)
    layer = Preprocessor(64, backend=backend)
    batch = values_of(layer, typed)
    assert batch.shape == (2, 64, 64, 3)
    assert batch.dtype == np.float32
    np.testing.assert_array_equal(batch, values_of(layer, images))
    np.testing.assert_allclose(values_of(layer, typed[1]), batch[1], atol=1e-5)
    np.testing.assert_array_equal(typed, images)


@pytest.mark.backend
def test_half_precision_models_get_images_in_full_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = Preprocessor(32)
    finally:
        keras.config.set_dtype_policy("float32")
    image = photograph("coffee")
    np.testing.assert_array_equal(values_of(layer, image), values_of(Preprocessor(32), image))


def test_the_way_back_gives_the_pixels():
    layer = Preprocessor(64, crop_pct=1.0, mean=(0.5, 0.4, 0.3), std=(0.5, 0.6, 0.7))
    image = photograph("astronaut")[:64, :64]
    np.testing.assert_array_equal(layer.to_rgb(layer(image)), image)


_RELOAD = """
import sys

import keras
import keras_resnets
import numpy as np

model = keras.models.load_model(sys.argv[1])
np.save(sys.argv[2], keras.ops.convert_to_numpy(model(np.load(sys.argv[3]))))
"""


@pytest.mark.backend
def test_a_model_that_begins_with_it_is_saved_whole(tmp_path):
    layer = Preprocessor((64, 96), 0.9, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    network = kr.ResNet18(weights=None, classes=3, depths=(1, 1), planes=(8, 16))
    model = keras.Sequential([keras.Input((None, None, 3), dtype="uint8"), layer, network])
    assert model.output_shape == (None, 3)
    image = photograph("coffee")[None]
    np.save(tmp_path / "image.npy", image)
    model.save(tmp_path / "model.keras")
    arguments = [tmp_path / name for name in ("model.keras", "out.npy", "image.npy")]
    child = subprocess.run(
        [sys.executable, "-c", _RELOAD, *map(str, arguments)],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), values_of(model, image))


@pytest.mark.backend
def test_a_compiled_model_takes_images_whose_size_shows_when_it_runs():
    layer = Preprocessor((48, 64), interpolation="bicubic")
    model = keras.Sequential([keras.Input((None, None, 3)), layer])
    for name in ("coffee", "chelsea"):
        image = photograph(name)[None]
        compiled = model.predict_on_batch(image.astype("float32"))
        # Another order of adding up can move a value across the middle of two grey levels.
        difference = np.abs(compiled - values_of(layer, image)) / LEVEL
        assert difference.max() < 1.001
        assert difference.mean() < 0.001


def test_its_configuration_is_complete_and_plain():
    layer = Preprocessor((8, 9), 0.5, "bicubic", (1, 2, 3), (4, 5, 6), "pil", name="prepare")
    config = json.loads(json.dumps(layer.get_config()))
    assert Preprocessor.from_config(config).get_config() == layer.get_config()
    assert config["size"] == [8, 9]
    assert layer.weights == []


@pytest.mark.parametrize(
    "arguments",
    [
        dict(size=0),
        dict(size=(224, 224, 3)),
        dict(size=224.0),
        dict(crop_pct=0),
        dict(crop_pct=1.1),
        dict(interpolation="lanczos"),
        dict(mean=0.5),
        dict(mean=(0.5, 0.5)),
        dict(std=(0, 1, 1)),
        dict(std=(float("nan"), 1, 1)),
        dict(backend="cv2"),
    ],
    ids=str,
)
def test_arguments_out_of_range_are_named(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=rf"{name} must be .*\. Received: {name}="):
        Preprocessor(**arguments)


@pytest.mark.parametrize("backend", ["keras", "pil"])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 4), (1, 1, 20, 30, 3)])
def test_images_that_are_not_rgb_are_refused(shape, backend):
    with pytest.raises(ValueError, match="images must be RGB"):
        Preprocessor(8, backend=backend)(np.zeros(shape, "uint8"))


def _decoded(file):
    return tf.io.decode_image(file)


def _from_python(file):
    return tf.py_function(lambda: np.zeros((30, 40, 3), "uint8"), [], tf.uint8)


def _of_any_channels(file):
    return tf.io.decode_png(file)


@pytest.mark.parametrize("make", [Preprocessor(8), kr.preprocess_input], ids=["layer", "function"])
@pytest.mark.parametrize("read", [_decoded, _from_python, _of_any_channels])
def test_a_tensor_of_unknown_rank_or_channels_is_told_how_to_say_them(read, make):
    files = tf.data.Dataset.from_tensors(tf.io.encode_png(np.zeros((30, 40, 3), "uint8")))
    ways_out = r"channels=3, expand_animations=False.*image\.set_shape\(\(None, None, 3\)\)"
    with pytest.raises(ValueError, match=rf"images must be RGB.*{ways_out}"):
        files.map(lambda file: make(read(file)))


def _stating(file):
    image = tf.io.decode_image(file, channels=3)
    image.set_shape((None, None, 3))
    return image


def _without_animations(file):
    return tf.io.decode_image(file, channels=3, expand_animations=False)


@pytest.mark.parametrize("read", [_stating, _without_animations])
def test_a_tensor_that_says_its_rank_goes_through(read):
    files = tf.data.Dataset.from_tensors(tf.io.encode_png(np.zeros((30, 40, 3), "uint8")))
    (image,) = files.map(lambda file: Preprocessor(8)(read(file)))
    assert image.shape == (8, 8, 3)


def test_pil_refuses_what_it_would_round():
    for images in (np.full((9, 9, 3), 0.5, "float32"), np.full((9, 9, 3), 256, "int32")):
        with pytest.raises(ValueError, match="images must be whole numbers from 0 to 255"):
            Preprocessor(8, backend="pil")(images)


def test_pil_is_refused_inside_a_model():
    with pytest.raises(ValueError, match="backend must be 'keras' inside a model"):
        Preprocessor(8, backend="pil")(keras.Input((None, None, 3)))


# Files -------------------------------------------------------------------------------------------


@pytest.fixture
def cat(tmp_path):
    """A function that writes a photograph in a mode and format of PIL's."""

    def write(file: str, mode: str = "RGB", **arguments) -> str:
        path = tmp_path / file
        Image.fromarray(photograph("chelsea")).convert(mode).save(path, **arguments)
        return str(path)

    return write


@pytest.mark.parametrize("backend", ["keras", "pil"])
def test_files_of_different_sizes_make_a_batch(cat, tmp_path, backend):
    wide, tall = cat("wide.png"), tmp_path / "tall.png"
    Image.fromarray(photograph("astronaut")[:, :200]).save(tall)
    layer = Preprocessor(64, backend=backend)
    batch = keras.ops.convert_to_numpy(layer.load([wide, tall]))
    assert batch.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(batch[0], values_of(layer, photograph("chelsea")))
    np.testing.assert_array_equal(batch[1], values_of(layer, photograph("astronaut")[:, :200]))
    one = keras.ops.convert_to_numpy(layer.load(tall))
    np.testing.assert_array_equal(one, batch[1:])


def test_files_that_are_no_images_are_named(cat, tmp_path):
    layer = Preprocessor(64)
    whole = cat("cat.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes((tmp_path / "cat.png").read_bytes()[:5000])
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    for path in (cut, tmp_path / "text.jpg", tmp_path / "empty.jpg", tmp_path):
        with pytest.raises(ValueError, match=r"paths must be image files.*Received: ") as caught:
            layer.load([whole, path])
        assert repr(str(path)) in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        layer.load(tmp_path / "missing.png")
    with pytest.raises(ValueError, match="paths must name at least one"):
        layer.load([])


# The preprocessing of published weights ----------------------------------------------------------


def described(layer: Preprocessor) -> tuple:
    return layer.size, layer.crop_pct, layer.interpolation, layer.mean, layer.std


def test_every_published_checkpoint_has_its_own():
    for architecture, tags in published.table().items():
        for tag, entry in tags.items():
            name = f"{architecture}.{tag}"
            usual = (entry.interpolation, entry.mean, entry.std)
            assert described(kr.preprocessor(name)) == (entry.input_size, entry.crop_pct, *usual)
            assert described(kr.preprocessor(name, test_size=True)) == (
                entry.test_input_size or entry.input_size,
                entry.test_crop_pct or entry.crop_pct,
                *usual,
            )


def test_without_a_tag_it_is_that_of_the_imagenet_weights_or_the_usual():
    assert described(kr.preprocessor("ResNeSt50")) == described(kr.preprocessor("resnest50d.in1k"))
    usual = ((224, 224), 0.875, "bilinear", preparation.IMAGENET_MEAN, preparation.IMAGENET_STD)
    assert described(kr.preprocessor("rexnet_lite_100")) == usual
    assert described(kr.preprocessor("resnet20")) == ((32, 32), *usual[1:])
    # Where nothing is meant by "imagenet", all the published weights agree.
    for architecture, tags in published.table().items():
        if not any(entry.imagenet for entry in tags.values()):
            common = described(kr.preprocessor(architecture))
            assert common == usual or architecture.endswith(("_clip", "_clip_gap"))
            for tag in tags:
                assert described(kr.preprocessor(f"{architecture}.{tag}")) == common
    assert kr.preprocessor("resnet50", backend="pil").backend == "pil"


def test_the_configuration_of_a_repository_counts():
    inner = dict(
        input_size=[3, 160, 192], test_input_size=[3, 256, 256], test_crop_pct=1.0, crop_pct=0.95,
        interpolation="bicubic", mean=[0.5, 0.5, 0.5], std=[0.4, 0.4, 0.4], crop_mode="center",
    )  # fmt: skip
    expected = ((160, 192), 0.95, "bicubic", (0.5,) * 3, (0.4,) * 3)
    for config in (inner, dict(architecture="resnet50", pretrained_cfg=inner)):
        assert described(kr.preprocessor(config)) == expected
        tested = kr.preprocessor(config, test_size=True)
        assert described(tested) == ((256, 256), 1.0, *expected[2:])
    assert described(kr.preprocessor(dict(input_size=(48, 64)))) == (
        (48, 64),
        *described(Preprocessor())[1:],
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnest55d", "Did you mean 'resnest50d'"),
        ("resnest50d.in2k", "Did you mean 'in1k'"),
        ({}, "name must be a mapping with an input_size"),
        (dict(input_size=[1, 28, 28]), r"input_size must be \(3, height, width\)"),
        (dict(input_size=[3, 28, 28], crop_mode="squash"), "crop_mode must be 'center'"),
        (dict(input_size=[3, 28, 28], interpolation="random"), "interpolation must be"),
        (dict(pretrained_cfg=[]), "pretrained_cfg must be a mapping"),
    ],
)
def test_unknown_names_and_odd_mappings_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        kr.preprocessor(name)


def test_a_name_must_be_text_or_a_mapping():
    with pytest.raises(TypeError, match="name must be a string"):
        kr.preprocessor(50)
    with pytest.raises(ValueError, match="test_size must be True or False"):
        kr.preprocessor("resnet50", test_size=288)


# The common case ---------------------------------------------------------------------------------


@pytest.mark.backend
@pytest.mark.parametrize("shape", [(3,), (5, 7, 3), (2, 5, 7, 3), (1, 2, 5, 7, 3)])
def test_preprocess_input_normalises_and_leaves_its_input_alone(shape):
    images = np.random.default_rng(0).integers(0, 256, shape)
    expected = (images / 255 - MEAN.astype("float64")) / STD
    for dtype in ("uint8", "float32", "float64"):
        given = images.astype(dtype)
        ours = kr.preprocess_input(given)
        assert isinstance(ours, np.ndarray)
        tensor = keras.ops.convert_to_tensor(given)
        from_tensor = kr.preprocess_input(tensor)
        assert keras.ops.is_tensor(from_tensor)
        for values in (ours, keras.ops.convert_to_numpy(from_tensor)):
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, expected, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(given, images)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(tensor), images)


def test_preprocess_input_takes_lists_pil_images_and_symbolic_tensors():
    image = photograph("chelsea")
    expected = kr.preprocess_input(image)
    np.testing.assert_array_equal(kr.preprocess_input(Image.fromarray(image)), expected)
    np.testing.assert_array_equal(kr.preprocess_input(image[:2].tolist()), expected[:2])
    symbolic = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(symbolic, kr.preprocess_input(symbolic))
    np.testing.assert_allclose(values_of(model, image[None])[0], expected, atol=1e-6)
    with pytest.raises(ValueError, match="images must be RGB"):
        kr.preprocess_input(np.zeros((8, 8)))


# Predictions -------------------------------------------------------------------------------------


def test_predictions_get_the_names_of_the_likeliest_classes():
    predictions = np.full((2, 1000), 0.0001, "float32")
    predictions[0, [285, 281, 0]] = 0.5, 0.25, 0.125
    predictions[1, 999] = 0.75
    decoded = kr.decode_predictions(predictions, top=3)
    assert [len(row) for row in decoded] == [3, 3]
    assert [(synset, value) for synset, _, value in decoded[0]] == [
        ("n02124075", 0.5), ("n02123045", 0.25), ("n01440764", 0.125),
    ]  # fmt: skip
    assert "Egyptian cat" in decoded[0][0][1]
    assert decoded[1][0][2] == 0.75
    # Of equals the first; five by default; tensors as well.
    assert decoded[1][1][0] == "n01440764"
    tensor = keras.ops.convert_to_tensor(predictions)
    assert [row[:3] for row in kr.decode_predictions(tensor)] == decoded
    assert len(kr.decode_predictions(predictions, top=1000)[0]) == 1000
    assert kr.decode_predictions(predictions[:0]) == []


@pytest.mark.parametrize(
    ("shape", "top", "message"),
    [
        ((1000,), 5, r"predictions must have the shape \(batch, 1000\)"),
        ((1, 10), 5, r"predictions must have the shape \(batch, 1000\)"),
        ((1, 1000), 0, "top must be an int from 1 to 1000"),
        ((1, 1000), 1001, "top must be an int from 1 to 1000"),
        ((1, 1000), 2.0, "top must be an int from 1 to 1000"),
    ],
)
def test_odd_predictions_are_refused(shape, top, message):
    with pytest.raises(ValueError, match=message):
        kr.decode_predictions(np.zeros(shape), top)


def test_predictions_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="predictions must be finite"):
        kr.decode_predictions(np.full((1, 1000), np.nan))

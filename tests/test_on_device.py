"""examples/on_device.py: with ai_edge_litert and NumPy alone, the Keras model's answers."""

import importlib.metadata
import importlib.util
import io
import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from photographs import CONFIGS, config_key, photograph
from PIL import Image

import keras_resnets as kr
from keras_resnets.layers.preprocessor import read_image
from keras_resnets.preparation import Preparation

EXAMPLE = Path(__file__).parent.parent / "examples" / "on_device.py"
SIZE = 64
LABELS = [f"sort {i}" for i in range(9)] + ["größte Sorte"]

spec = importlib.util.spec_from_file_location("on_device", EXAMPLE)
on_device = importlib.util.module_from_spec(spec)
spec.loader.exec_module(on_device)

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A small network whose random weights tell images apart."""
    keras.utils.set_random_seed(1)
    model = kr.create_model(
        "resnext50_32x4d",
        weights=None,
        classes=len(LABELS),
        input_shape=(SIZE, SIZE, 3),
        depths=(1, 1, 1, 1),
        planes=(32, 32, 32, 64),
        cardinality=4,
        base_width=32,
    )
    *_, classifier = model.layers
    classifier.kernel.assign(np.random.default_rng(2).normal(size=classifier.kernel.shape))
    return model


def exported(model: keras.Model, path: Path, **options) -> Path:
    options = dict(labels=LABELS, preprocessing=Preparation(size=SIZE)) | options
    kr.export(model, path, **options)
    return path


@pytest.fixture(scope="module")
def path(model, tmp_path_factory) -> Path:
    return exported(model, tmp_path_factory.mktemp("device") / "model.tflite")


@pytest.fixture(scope="module")
def device(tmp_path_factory) -> Path:
    """The Python of an environment with ai_edge_litert and NumPy, and what those two need."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    wanted = [f"{name}=={importlib.metadata.version(name)}" for name in ("ai-edge-litert", "numpy")]
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"pip could not make the environment:\n{done.stderr}"
    return python


def ppm(path: Path, image: np.ndarray) -> Path:
    """Writes a binary PPM file, with a comment in its header."""
    height, width = image.shape[:2]
    path.write_bytes(b"P6\n# a comment\n%d %d\n255\n" % (width, height) + image.tobytes())
    return path


def expected_top(model: keras.Model, image: np.ndarray, count: int) -> list[tuple[str, float]]:
    """Of the Keras model, prepared by the example: resizing is tested by itself."""
    crop = on_device.resized_crop(image, (SIZE, SIZE), 0.875, "bilinear")
    probabilities = model.predict(kr.preprocess_input(crop)[None], verbose=0)[0]
    best = np.argsort(-probabilities)[:count]
    return [(LABELS[i], float(probabilities[i])) for i in best]


def assert_same(found: list[tuple[str, float]], expected: list[tuple[str, float]], atol=1e-4):
    assert [label for label, _ in found] == [label for label, _ in expected]
    np.testing.assert_allclose([p for _, p in found], [p for _, p in expected], atol=atol)


# On a device that has nothing else ----------------------------------------------------------------


def test_python_with_litert_and_numpy_alone_names_what_is_in_an_image(
    model, path, device, tmp_path
):
    image = photograph("chelsea")
    np.save(tmp_path / "image.npy", image)
    code = f"""
import importlib.util, json, sys
sys.path.insert(0, {str(EXAMPLE.parent)!r})
import numpy, on_device
for name in "tensorflow tflite_runtime keras keras_resnets PIL jax torch".split():
    assert importlib.util.find_spec(name) is None, name
top = on_device.Classifier({str(path)!r}).top(numpy.load({str(tmp_path / "image.npy")!r}))
assert not any("tensorflow" in name.split(".") for name in sys.modules)
print(json.dumps(top))
"""
    done = subprocess.run([device, "-I", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same(json.loads(done.stdout), expected_top(model, image, 5))


def test_the_program_prints_the_labels_of_each_image(model, path, device, tmp_path):
    images = [photograph(name) for name in ("astronaut", "coffee")]
    files = [ppm(tmp_path / f"{i}.ppm", image) for i, image in enumerate(images)]
    command = [device, EXAMPLE, path, *files, "--top", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = []
    for file, image in zip(files, images, strict=True):
        lines.append(str(file))
        lines += [f"  {p:6.1%}  {label}" for label, p in expected_top(model, image, 3)]
    assert done.stdout.splitlines() == lines


def test_an_image_that_needs_pillow_is_refused_where_there_is_none(path, device, tmp_path):
    Image.fromarray(photograph("coffee")).save(tmp_path / "image.jpg")
    command = [device, EXAMPLE, path, tmp_path / "image.jpg"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert ".ppm, .pgm or .npy" in done.stderr
    assert "Traceback" not in done.stderr


# Preparing images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS, ids=config_key)
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_images_are_resized_and_cropped_as_by_pil(config, name):
    image = photograph(name)
    preprocess = kr.preprocessing.Preprocessor(**config, mean=(0,) * 3, std=(1,) * 3, backend="pil")
    expected = preprocess.to_rgb(preprocess(image)).astype(int)
    found = on_device.resized_crop(image, *(config[key] for key in
                                            ("size", "crop_pct", "interpolation")))  # fmt: skip
    assert found.dtype == np.uint8
    differences = np.abs(found - expected)
    assert differences.max() <= 2
    assert (differences > 0).mean() < 0.01


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 30, 3), (500, 20, 3), (64, 64), (70, 90, 1)])
def test_an_image_of_any_size_is_classified(path, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, "uint8")
    probabilities = on_device.Classifier(path).answer(image)
    assert probabilities.shape == (len(LABELS),)
    assert probabilities.sum() == pytest.approx(1, abs=1e-3)


def small() -> Image.Image:
    return Image.fromarray(photograph("chelsea")[:50, :71])


def deep(multiple: int = 251) -> Image.Image:
    """Grey of 16 bits."""
    return Image.fromarray(np.asarray(small().convert("L")).astype("uint16") * multiple)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: a quarter to the right.
    return exif


KINDS = {
    "rgb.png": lambda path: small().save(path),
    "rgb.ppm": lambda path: small().save(path),
    "grey.pgm": lambda path: small().convert("L").save(path),
    "deep.png": lambda path: deep().save(path),
    "deep.pgm": lambda path: deep().save(path),
    "deep.tiff": lambda path: deep().save(path),
    "deep_rgb.ppm": lambda path: path.write_bytes(
        b"P6 2 1 65535\n" + np.array([0, 128, 129, 65535, 32896, 700], ">u2").tobytes()
    ),
    "few_levels.ppm": lambda path: path.write_bytes(b"P6 2 1 5\n" + bytes([0, 1, 2, 3, 4, 5])),
    "palette.png": lambda path: small().quantize(30).save(path),
    "palette.bmp": lambda path: small().quantize(30).save(path),
    "transparent.png": lambda path: small().quantize(30).save(path, transparency=b"7"),
    "one_bit.png": lambda path: small().convert("1").save(path),
    "rgba.png": lambda path: small().convert("RGBA").save(path),
    "grey_alpha.png": lambda path: small().convert("LA").save(path),
    "cmyk.jpg": lambda path: small().convert("CMYK").save(path),
    "turned.jpg": lambda path: small().save(path, exif=turned()),
    "animated.gif": lambda path: small().save(path, save_all=True, append_images=[deep(9)]),
}


@pytest.mark.parametrize("name", KINDS)
def test_an_image_of_any_kind_is_read_as_by_the_library(name, tmp_path):
    KINDS[name](tmp_path / name)
    found = on_device.read_image(tmp_path / name)
    expected = read_image(tmp_path / name)
    np.testing.assert_array_equal(np.broadcast_to(found, expected.shape), expected)


def test_an_array_is_read_as_it_is(tmp_path):
    np.save(tmp_path / "a.npy", np.asarray(small()))
    np.testing.assert_array_equal(on_device.read_image(tmp_path / "a.npy"), np.asarray(small()))


@pytest.mark.parametrize("size", [(40, 40), (40, 56)])
def test_the_size_that_weights_were_evaluated_at_is_used_of_a_model_for_any(size, tmp_path):
    model = kr.ResNet18(weights=None, depths=(1,), planes=(8,), classes=3)
    stated = Preparation(size=size, crop_pct=0.9, interpolation="bicubic", std=(0.5,) * 3)
    path = exported(
        model, tmp_path / "any.tflite", labels=None, preprocessing=stated, image_size="dynamic"
    )
    classifier = on_device.Classifier(path)
    assert classifier.size == size
    photo = photograph("coffee")
    values = kr.layers.Preprocessor.of(stated, "pil")(photo)
    expected = keras.ops.convert_to_numpy(model(values[None]))[0]
    np.testing.assert_allclose(classifier.answer(photo), expected, atol=1e-3)


# Types of tensors ---------------------------------------------------------------------------------


def test_quantized_inputs_and_outputs_are_translated(model, path, tmp_path):
    import tensorflow as tf

    images = [photograph(name) for name in ("astronaut", "coffee", "chelsea")]
    crops = [on_device.resized_crop(image, (SIZE, SIZE), 0.875, "bilinear") for image in images]
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([kr.preprocess_input(crop)[None]] for crop in crops)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    file = tmp_path / "int8.tflite"
    file.write_bytes(converter.convert())
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("metadata.json", json.dumps(on_device.Classifier(path).metadata))

    classifier = on_device.Classifier(file)

    assert classifier._input["dtype"] == classifier._output["dtype"] == np.int8
    for image in images:
        expected = dict(expected_top(model, image, len(LABELS)))
        found = dict(classifier.top(image, len(LABELS)))
        assert max(found, key=found.get) == max(expected, key=expected.get)
        assert max(abs(found[label] - expected[label]) for label in LABELS) < 0.1


def test_a_model_that_prepares_images_itself_gets_grey_levels(model, tmp_path):
    classifier = on_device.Classifier(
        exported(model, tmp_path / "whole.tflite", include_preprocessing=True)
    )
    assert classifier._input["dtype"] == np.uint8
    photo = photograph("coffee")
    assert_same(classifier.top(photo), expected_top(model, photo, 5))


# Probabilities and values -------------------------------------------------------------------------


def ending_in(tmp_path: Path, units: int, activation: str | None) -> tuple[keras.Model, Path]:
    """A small model that ends so, and its file."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(units, activation, kernel_initializer="glorot_normal"),
        ]
    )
    path = exported(model, tmp_path / "m.tflite", labels=None, preprocessing=Preparation(size=8))
    return model, path


@pytest.mark.parametrize(
    ("units", "activation", "are_probabilities", "makes"),
    [
        (3, None, True, keras.ops.softmax),
        (3, "log_softmax", True, keras.ops.exp),
        (3, "sigmoid", True, None),
        (1, None, False, None),
        (1, "relu", False, None),
    ],
)
def test_outputs_become_probabilities_only_where_they_are_those_of_classes(
    units, activation, are_probabilities, makes, tmp_path
):
    model, path = ending_in(tmp_path, units, activation)
    classifier = on_device.Classifier(path)
    assert classifier.gives_probabilities is are_probabilities
    photo = photograph("coffee")
    image = on_device.resized_crop(photo, (8, 8), 0.875, "bilinear")
    expected = model(kr.preprocess_input(image)[None])
    expected = keras.ops.convert_to_numpy(makes(expected) if makes else expected)[0]
    np.testing.assert_allclose(classifier.answer(photo), expected, atol=1e-5)
    name = "class" if are_probabilities else "output"
    assert classifier.top(photo, 1)[0][0] == f"{name} {expected.argmax()}"


def test_the_program_prints_a_number_as_a_number(tmp_path, monkeypatch, capsys):
    model, path = ending_in(tmp_path, 1, None)
    model.layers[-1].bias.assign([1234.5678])
    exported(model, path, labels=["weight"], preprocessing=Preparation(size=8), overwrite=True)
    file = ppm(tmp_path / "grey.ppm", np.full((8, 8, 3), 116, "uint8"))
    monkeypatch.setattr(sys, "argv", ["on_device.py", str(path), str(file)])
    on_device.main()
    printed, label = capsys.readouterr().out.splitlines()[1].split()
    assert label == "weight"
    assert float(printed) == pytest.approx(1234.5678, rel=1e-3)


# Bad input ----------------------------------------------------------------------------------------


def tiff(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "TIFF")
    return file.getvalue()


FLOATS = tiff(np.zeros((4, 4), "float32"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.ppm", None, "No such file"),
        ("text.ppm", b"no image", "not a binary PPM"),
        ("zero.ppm", b"P6 1 1 0\n123", "must be from 1 to 65535, and is 0"),
        ("32bits.tiff", FLOATS, "32 bits and no known range"),
        ("short.ppm", b"P6 4 4 255\n123", "4x4 pixels announced, 3 bytes found"),
        ("text.npy", b"no array", "IMAGE must be readable"),
        ("text.jpg", b"no image", "IMAGE must be readable"),
    ],
)
def test_a_file_that_is_no_image_is_refused(
    path, name, content, reason, tmp_path, monkeypatch, capsys
):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["on_device.py", str(path), str(tmp_path / name)])
    with pytest.raises(SystemExit) as caught:
        on_device.main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert reason in message
    assert name in message


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3)), np.zeros((8, 8, 4), "uint8"), np.zeros(9, "uint8")],
    ids=["floats", "rgba", "a line"],
)
def test_an_array_that_is_no_image_is_refused(path, image):
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        on_device.Classifier(path).answer(image)


def test_a_file_without_metadata_is_refused(path, tmp_path):
    with zipfile.ZipFile(path) as archive:
        start = min(entry.header_offset for entry in archive.infolist())
    (tmp_path / "bare.tflite").write_bytes(path.read_bytes()[:start])
    with pytest.raises(ValueError, match="must be written by keras_resnets"):
        on_device.Classifier(tmp_path / "bare.tflite")
    with pytest.raises(FileNotFoundError):
        on_device.Classifier(tmp_path / "none.tflite")


def test_a_file_that_does_not_say_how_images_are_prepared_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
    path = exported(model, tmp_path / "m.tflite", labels=None, preprocessing=None)
    with pytest.raises(ValueError, match="lacks crop_pct, interpolation, mean, std: export the"):
        on_device.Classifier(path)

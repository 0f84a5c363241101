"""int8: as right as float on trained networks, calibrated on what it should be, and explained."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.datasets import load_digits

import keras_resnets as kr
from keras_resnets.deploy import images as images_module
from keras_resnets.deploy import int8
from keras_resnets.deploy.formats import FORMATS
from keras_resnets.deploy.quantize import sensitivity

pytest.importorskip("tensorflow")
for module in ("ai_edge_litert", "onnx", "onnxruntime", "openvino", "tf2onnx"):
    pytest.importorskip(module)

SMALL = dict(depths=(1, 1), planes=(16, 16))
FAMILIES = {
    "resnet": ("resnet50", SMALL),
    "resnext": ("resnext50_32x4d", SMALL | dict(cardinality=4, base_width=32)),
    "resnest": ("resnest50d", SMALL | dict(stem_width=16)),
    "res2net": ("res2net50_26w_4s", SMALL | dict(base_width=64)),
    "rexnet": ("rexnet_100", dict(depth=0.3, initial_channels=16, final_channels=48)),
}
TRAINING_IMAGES = 1437
OPENVINO_TOO = {("openvino", family) for family in FAMILIES if family != "resnest"}

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def digits():
    """scikit-learn's digits, 16x16 uint8 RGB, and labels; the first 1,437 are for training."""
    found = load_digits()
    images = (found.images * 15.9).astype("uint8").repeat(2, 1).repeat(2, 2)
    return images[..., None].repeat(3, -1), found.target


@pytest.fixture(scope="module")
def trained(digits):
    """A small network of each family, trained when it is asked for first; uint8 to logits."""
    images, labels = (values[:TRAINING_IMAGES] for values in digits)
    made = {}

    def get(family: str) -> keras.Model:
        if family not in made:
            keras.utils.set_random_seed(0)
            name, changes = FAMILIES[family]
            model = kr.create_model(
                name,
                weights=None,
                classes=10,
                classifier_activation=None,
                include_preprocessing=True,
                dropout=0.0,
                **changes,
            )
            schedule = keras.optimizers.schedules.CosineDecay(4e-3, 4 * 45)
            model.compile(
                keras.optimizers.AdamW(schedule, weight_decay=0.01),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=False,  # Compiling would take longer than training.
            )
            model.fit(images.astype("float32"), labels, batch_size=32, epochs=4, verbose=0)
            made[family] = model
        return made[family]

    return get


def outputs(report, images: np.ndarray) -> np.ndarray:
    """What an exported file of batch 1 or any says of images."""
    if report.format == "litert":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=report.path)
        interpreter.allocate_tensors()
        (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
        rows = []
        for image in images:
            interpreter.set_tensor(source["index"], image[None])
            interpreter.invoke()
            rows.append(interpreter.get_tensor(target["index"])[0])
        return np.stack(rows)
    if report.format == "onnx":
        import onnxruntime

        return onnxruntime.InferenceSession(report.path).run(None, {"image": images})[0]
    import openvino

    return openvino.Core().compile_model(report.path, "CPU")(images)[0]


@pytest.mark.parametrize(
    ("family", "format"),
    [
        # OpenVINO has its int8 of the same quantizer as ONNX.
        pytest.param(
            family,
            format,
            marks=[pytest.mark.exhaustive] if (format, family) in OPENVINO_TOO else [],
        )
        for family in FAMILIES
        for format in ("litert", "onnx", "openvino")
    ],
)
def test_int8_is_as_right_as_float(family, format, trained, digits, tmp_path):
    model, (images, labels) = trained(family), digits
    test_images, test_labels = images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:]
    report = kr.export(
        model,
        tmp_path / f"m{FORMATS[format].suffix}",
        format=format,
        precision="int8",
        image_size=16,
        include_preprocessing=True,
        data=images[:64],
    )

    def top1(scores) -> float:
        return float((np.argmax(scores, 1) == test_labels).mean())

    before = top1(model.predict(test_images.astype("float32"), verbose=0))
    assert before > 0.85
    assert top1(outputs(report, test_images)) >= before - (0.03 if family == "rexnet" else 0.01)
    assert (report.images, report.calibrated) == (16, 48)
    assert report.top1_agreement > 0.9


@pytest.mark.parametrize("format", ["litert", "onnx"])
def test_layers_that_are_kept_compute_in_float(format, trained, digits, tmp_path):
    path = tmp_path / f"m{FORMATS[format].suffix}"
    arguments = dict(format=format, precision="int8", image_size=16, data=digits[0][:32])
    whole = kr.export(trained("resnet"), path, **arguments)
    kept = kr.export(trained("resnet"), path, **arguments, keep_float=["layer2_0*"], overwrite=True)
    if format == "litert":  # Out of int8 in front of the block, and into it behind.
        assert kept.operators["DEQUANTIZE"] > whole.operators["DEQUANTIZE"]
    else:
        assert kept.operators["QuantizeLinear"] < whole.operators["QuantizeLinear"]
    assert kept.size > whole.size
    one = {"layer1_0_conv2", "layer1_0_act2"}  # A file has them as one operator.
    others = [layer.name for layer in trained("resnet").layers if layer.name not in one]
    only_one = kr.export(
        trained("resnet"), path, **arguments, keep_float=others, overwrite=True
    ).operators
    if format == "litert":
        assert (only_one["QUANTIZE"], only_one["DEQUANTIZE"]) == (1, 1)
    else:  # Of what goes in and what comes out.
        assert only_one["QuantizeLinear"] == 2


def test_rexnet_keeps_its_first_blocks_and_the_others_nothing(trained):
    kept = int8.default_keep_float(trained("rexnet"))
    assert {name.split("_conv")[0] for name in kept if "conv_dw" in name} <= {
        "features_0",
        "features_1",
    }
    assert "stem_conv" in kept
    assert not [name for name in kept if name.startswith("features_10")]
    assert int8.default_keep_float(trained("resnest")) == ()


def test_data_sets_give_representative_images_of_all_classes(trained, digits, tmp_path):
    images, labels = digits
    report = kr.export(
        trained("resnet"),
        tmp_path / "m.onnx",
        format="onnx",
        precision="int8",
        image_size=16,
        preprocessing={"input_size": (3, 16, 16)},
        data=(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES]),
    )
    assert report.calibrated == images_module.MOST_SAMPLES
    assert report.images == images_module.MOST_SAMPLES // 3
    assert report.top1_agreement > 0.95


def test_sensitivity_says_which_layers_lose_most(trained, digits, tmp_path):
    model = trained("resnet")
    found = sensitivity(model, digits[0][:32])
    assert found.images == 8  # The others are calibrated with.
    losses = [loss.mean_difference for loss in found.layers]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 0
    names = {loss.layer for loss in found.layers}
    assert {"conv1", "layer1_0_conv2", "fc"} <= names <= {layer.name for layer in model.layers}
    assert "normalize" not in names
    assert found.worst(2) == [found.layers[0].layer, found.layers[1].layer]
    assert found.layers[0].layer in str(found).splitlines()[1]
    found.plot(tmp_path / "losses.png")
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


# What is refused ---------------------------------------------------------------------------------


def plain_net() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3, name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5),
        ]
    )


RGB = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(data=None), "data must be representative images for int8"),
        (dict(data=RGB[:0]), r"data must be images \(images, 8, 8, 3\)"),
        (dict(data=RGB[0]), r"data must be images \(images, 8, 8, 3\)"),
        (dict(data=RGB[:, :6]), r"data must be images \(images, 8, 8, 3\)"),
        (dict(data=RGB[..., :1]), r"data must be images \(images, 8, 8, 3\)"),
        (dict(data=RGB, batch=8), "at least 16 of them"),
        (dict(data=RGB.astype("int64")), "data must be uint8 or float"),
        (dict(data=RGB.astype("float32")), "data must be in the model's range, -2.12 to 2.64"),
        (dict(data=np.zeros((4, 8, 8, 3))), "and not all the same"),
        (
            dict(data=np.arange(4.0)[:, None, None, None] * np.ones((1, 8, 8, 3)) * 1e-3),
            "not all the same",
        ),
        (dict(data=np.repeat(RGB[:1], 8, 0)), "data must be different images"),
        (dict(data=np.repeat(RGB[:1], 2, 0)), "data must be different images"),
        (dict(data=np.full((4, 8, 8, 3), np.nan)), "data must be finite"),
        (dict(data=RGB / 255, include_preprocessing=True), "data must be uint8 RGB"),
        (dict(data=RGB, keep_float="conv"), "keep_float must be a list"),
        (dict(data=RGB, keep_float=["*"]), "must leave a layer with weights to int8"),
        (dict(data=RGB, keep_float=["conv2"]), "keep_float must name layers of the model"),
        (dict(data="floder:x"), "floder"),
    ],
)
def test_wrong_data_and_layers_are_refused_before_anything_is_made(changes, message, tmp_path):
    stated = {"input_size": (3, 8, 8)}
    arguments = dict(format="onnx", precision="int8", preprocessing=stated) | changes
    with pytest.raises(ValueError, match=message):
        kr.export(plain_net(), tmp_path / "m.onnx", **arguments)
    assert list(tmp_path.iterdir()) == []


# Keras' own quantization -------------------------------------------------------------------------


def test_keras_quantizes_the_classifier_and_leaves_the_convolutions(trained, digits, tmp_path):
    """`model.quantize("int8")` works on our models, but only dense layers have it in Keras."""
    model = kr.fold_batch_norms(trained("resnet"))
    images = digits[0][TRAINING_IMAGES:].astype("float32")
    before = model.predict(images, verbose=0)
    with pytest.warns(UserWarning, match="does not have a `quantize` method"):
        model.quantize("int8")
    quantized = [layer.name for layer in model.layers if getattr(layer, "quantization_mode", None)]
    assert quantized == ["fc"]
    after = model.predict(images, verbose=0)
    assert 0 < np.abs(after - before).max() / np.abs(before).max() < 0.02
    model.save(tmp_path / "m.keras")
    np.testing.assert_allclose(
        keras.saving.load_model(tmp_path / "m.keras").predict(images, verbose=0), after, atol=1e-5
    )
    report = kr.export(model, tmp_path / "m.onnx", format="onnx", image_size=16)
    assert report.max_difference < 1e-4
    # LiteRT's converter does not take the int8 products that Keras makes of it.
    with pytest.raises(ValueError, match=r"quantized by Keras.*precision='int8'"):
        kr.export(model, tmp_path / "m.tflite", format="litert", image_size=16)

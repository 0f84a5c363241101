"""export: every family in every format, what is in the files, and what never leaves one behind."""

import ast
import dataclasses
import io
import json
import os
import re
import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from goldens_io import relative_error
from keras import layers
from nets import CASES, Case
from PIL import Image
from typer.testing import CliRunner

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.commands.app import app
from keras_resnets.deploy import compare, place, verify
from keras_resnets.deploy import export as exporting
from keras_resnets.deploy.formats import FORMATS
from keras_resnets.deploy.formats import format as formats
from keras_resnets.deploy.formats.onnx import OPSET
from keras_resnets.graph.walk import flat_layers
from keras_resnets.layers import Preprocessor
from keras_resnets.preparation import Preparation
from tools.compatibility_matrix import oldest_runtimes

pytest.importorskip("tensorflow")
for module in ("ai_edge_litert", "onnx", "onnxruntime", "openvino", "tf2onnx"):
    pytest.importorskip(module)

SMALL = dict(depths=(1, 1), planes=(16, 16))
FAMILIES = {
    "resnet": Case("resnet50d", "resnet50d", SMALL),
    "resnext": Case(
        "seresnext50_32x4d", "seresnext50_32x4d", SMALL | dict(cardinality=4, base_width=16)
    ),
    "resnest": Case("resnest50d", "resnest50d", SMALL | dict(cardinality=2, base_width=48)),
    "res2net": Case("res2next50", "res2next50", SMALL | dict(cardinality=2, base_width=16)),
    "rexnet": Case(
        "rexnet_100", "rexnet_100", dict(depth=0.3, initial_channels=8, final_channels=40)
    ),
}
BASIC = Case("basic", "resnet18", dict(depths=(1, 1), planes=(8, 8)))
ALL = "all families"
# Every other precision in every format that has it; int8 is in test_quantize.py.
LOWER = [
    ("saved_model", "float16"),
    ("saved_model", "bfloat16"),
    ("litert", "float16"),
    ("litert", "int8-dynamic"),
    ("onnx", "float16"),
    ("onnx", "int8-dynamic"),
    ("openvino", "float16"),
]


def small_net(case: Case) -> keras.Model:
    """A net whose batch norms have statistics and factors of their own."""
    # Of its own, or ONNX's converter would merge what nets have in common.
    keras.utils.set_random_seed(zlib.crc32(case.name.encode()))
    model = kr.create_model(
        case.variant,
        weights=None,
        name=case.name.replace("-", "_"),
        classifier_activation=None,
        **dict(classes=10) | case.build | case.changes,
    )
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def side_by_side(nets: list[keras.Model]) -> keras.Model:
    """Nets as one model, for the price of one export.

    Their outputs are scaled alike, so that none hides the differences of another.
    """
    image = keras.Input((48, 48, 3), name="image")
    probe = np.random.default_rng(1).normal(size=(2, *image.shape[1:])).astype("float32")
    scaled = [
        layers.Rescaling(1 / np.abs(net(probe)).max(), name=f"{net.name}_scaled")(net(image))
        for net in nets
    ]
    return keras.Model(image, layers.Concatenate()(scaled), name="side_by_side")


@pytest.fixture(scope="module")
def networks():
    """A tiny filled network of each family, or of all, built when it is asked for first; logits."""
    made = {}

    def get(family: str) -> keras.Model:
        if family not in made:
            if family == ALL:
                made[family] = side_by_side([get(name) for name in FAMILIES])
            else:
                made[family] = small_net(BASIC if family == "basic" else FAMILIES[family])
        return made[family]

    return get


@pytest.fixture(scope="module")
def exported(networks, tmp_path_factory):
    """Exports of all families side by side, each made once: (report, model)."""
    made = {}

    def get(format: str, precision: str = "float32"):
        key = (format, precision)
        if key not in made:
            path = tmp_path_factory.mktemp("exported") / f"all{FORMATS[format].suffix}"
            made[key] = kr.export(networks(ALL), path, format=format, precision=precision)
        return made[key], networks(ALL)

    return get


def dense_net(
    *front: layers.Layer, side: int | None = 8, filters: int = 4, units: int = 5, **last
) -> keras.Model:
    """Somebody else's model, that takes no time."""
    return keras.Sequential(
        [
            keras.Input((side, side, 3)),
            *front,
            layers.Conv2D(filters, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(units, **last),
        ],
        name="dense_net",
    )


def left_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


# Every branch in every format, every family in every precision -----------------------------------


# One network of each family, and one for each other function: blocks, stems, shortcuts, dilation.
FAMILY_CASES = ("bottleneck-d", "resnext-t-se", "resnest-2s2x", "res2next", "rexnet")
BRANCH_CASES = (
    "basic-t", "se-bottleneck", "resnet50-stride8", "resnet50d-small", "resnet18-no-shortcuts",
    "resnext", "resnest-0s2x-first", "resnest-1s2x-first", "resnest-4s1x", "resnest50d-stride8",
    "res2net-1s", "res2net-8s", "res2net-same-width", "res2net50_26w_4s-stride8", "rexnet-no-se",
    "rexnet_100-stride8", "rexnet_100-no-shortcuts",
)  # fmt: skip
# Those that only the papers have.
CIFAR = Case("cifar", "resnet20", dict(depths=(1, 1, 1)))
CIFAR_RESNEXT = Case("cifar-resnext", "resnext29_8x64d", dict(depths=(1, 1), planes=(8, 16)))
LITE = Case("lite", "rexnet_lite_100")
WIDE = Case("wide", "wide_resnet28_10", dict(depths=(1, 2), planes=(16, 32)))
FLOAT32 = {"saved_model": 1e-5, "litert": 1e-3, "onnx": 1e-4, "openvino": 1e-4}


def shallow(case: Case) -> Case:
    """A case cut down to what it is about: two stages, or a third that is dilated."""
    if case.variant.startswith("rexnet"):
        cut = dict(depth=0.5 if case.build.get("output_stride") else 0.3)
    elif "output_stride" in case.build:
        cut = dict(depths=(1, 1, 2), planes=case.changes["planes"][:3])
    else:
        cut = dict(depths=(1, 2), planes=case.changes["planes"][:2])
    return dataclasses.replace(case, changes={**case.changes, **cut})


def branches() -> list[Case]:
    names = (*FAMILY_CASES, *BRANCH_CASES)
    return [*(shallow(CASES[name]) for name in names), CIFAR, CIFAR_RESNEXT, LITE]


CONVOLUTIONS = {
    "saved_model": ("Conv2D", "DepthwiseConv2dNative"),
    "litert": ("CONV_2D", "DEPTHWISE_CONV_2D"),
    "onnx": ("Conv",),
    "openvino": ("Convolution", "GroupConvolution"),
}


def assert_exact_with_one_operator_a_convolution(report, model: keras.Model) -> None:
    assert report.tolerance == FLOAT32[report.format]
    assert 0 <= report.mean_difference <= report.max_difference <= report.tolerance
    assert report.top1_agreement == 1
    assert report.unfolded is None
    assert report.size > 10_000
    assert report.latency > 0
    convolutions = [layer for layer in flat_layers(model) if isinstance(layer, layers.Conv2D)]
    found = sum(report.operators.get(kind, 0) for kind in CONVOLUTIONS[report.format])
    assert found == len(convolutions)
    # Folded, no operator that only TensorFlow has, and none that another would have to run.
    assert not {"CUSTOM", "FusedBatchNormV3", "BatchNormalization", "XlaCallModule"} & set(
        report.operators
    )
    assert not [kind for kind in report.operators if kind.startswith("FLEX")]


@pytest.mark.long
@pytest.mark.parametrize("format", FORMATS)
def test_every_familys_outputs_come_by_one_operator_a_convolution(format, exported):
    assert_exact_with_one_operator_a_convolution(*exported(format))


@pytest.mark.exhaustive
@pytest.mark.parametrize("case", branches(), ids=lambda case: case.name)
def test_every_branch_gives_its_outputs_by_one_operator_a_convolution(case, tmp_path):
    model = small_net(case)
    for format in FORMATS:
        path = tmp_path / f"m{FORMATS[format].suffix}"
        report = kr.export(model, path, format=format, image_size=48)
        assert_exact_with_one_operator_a_convolution(report, model)


@pytest.mark.exhaustive
@pytest.mark.parametrize("format", FLOAT32)
def test_a_norm_in_front_of_its_convolution_is_exported_as_it_is(format, tmp_path):
    path = tmp_path / f"m{FORMATS[format].suffix}"
    with pytest.warns(UserWarning, match="Exported with batch norms"):
        report = kr.export(small_net(WIDE), path, format=format, image_size=32)
    assert report.max_difference <= report.tolerance == FLOAT32[format]
    assert "layer1_0_bn1" in report.unfolded


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Exports of a small model with many weights, each made once: (report, bytes of weights)."""
    made = {}

    def get(format: str, precision: str):
        if (format, precision) not in made:
            model = dense_net(filters=64, units=500)
            path = tmp_path_factory.mktemp("wide") / f"m{FORMATS[format].suffix}"
            report = kr.export(model, path, format=format, precision=precision)
            made[format, precision] = report, 4 * model.count_params()
        return made[format, precision]

    return get


def assert_nearly_the_same(report) -> None:
    tolerance = {"float16": 1e-2, "bfloat16": 5e-2, "int8-dynamic": 0.5}[report.precision]
    assert report.tolerance == tolerance
    assert 0 < report.max_difference <= tolerance


@pytest.mark.parametrize(("format", "precision"), LOWER)
def test_a_file_of_lower_precision_is_smaller_and_nearly_the_same(format, precision, wide):
    report, weights = wide(format, precision)
    assert_nearly_the_same(report)
    if format != "saved_model":  # Half of which is its graph.
        assert report.size < 0.8 * weights


@pytest.mark.exhaustive
@pytest.mark.parametrize(("format", "precision"), LOWER)
def test_every_family_is_nearly_the_same_in_lower_precision(format, precision, exported):
    assert_nearly_the_same(exported(format, precision)[0])


def test_every_precision_of_every_format_is_produced():
    assert set(LOWER) == {
        (format, precision)
        for format, each in FORMATS.items()
        for precision in each.precisions
        if precision not in ("float32", "int8")
    }


def test_the_page_of_formats_claims_what_is_tested():
    page = Path(__file__).parent.parent.joinpath("docs", "compatibility.md").read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    claimed = {
        section.partition("\n")[0].lower(): re.findall(
            r"^\| (\w+) \| ([\w-]+) \| \d", section, re.M
        )
        for section in sections[:-2]  # The last two are about runtimes and what there is not.
    }
    there_are = [(format, each) for format in FORMATS for each in FORMATS[format].precisions]
    families = [family.lower() for family in catalog.FAMILIES]
    assert claimed == dict.fromkeys(families, there_are)


def test_a_grouped_layer_is_one_grouped_node(exported):
    import onnx

    report, model = exported("onnx")
    nodes = [node for node in onnx.load(report.path).graph.node if node.op_type == "Conv"]
    groups = [onnx.helper.get_node_attr_value(node, "group") for node in nodes]
    grouped = [layer for layer in flat_layers(model) if isinstance(layer, kr.layers.GroupedConv2D)]
    assert len(grouped) > 8
    assert sorted(n for n in groups if n > 1) == sorted(layer.groups for layer in grouped)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8-dynamic"])
def test_an_onnx_file_needs_no_newer_runtime_than_the_page_of_formats_says(precision, wide):
    """Each runtime knows opsets and IR versions up to some; for int8 weights ConvInteger is new."""
    import onnx

    model = onnx.load(wide("onnx", precision)[0].path)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == OPSET == 17
    assert model.ir_version == onnx.helper.find_min_ir_version_for(list(model.opset_import)) == 8
    weights = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "ConvInteger"]
    kinds = {weights[node.input[1]] for node in convolutions}
    new = onnx.TensorProto.INT8 in kinds
    assert new == (precision == "int8-dynamic")
    assert FORMATS["onnx"].oldest_runtimes[precision] == ("1.24" if new else "1.15")


def test_the_page_of_formats_names_the_oldest_runtimes():
    page = Path(__file__).parent.parent.joinpath("docs", "compatibility.md").read_text()
    assert "\n".join(oldest_runtimes()) in page


def test_no_convolution_is_in_a_function_of_its_own(exported):
    import tensorflow as tf

    report, _ = exported("saved_model")
    graph = tf.saved_model.load(report.path).signatures["serve"].graph.as_graph_def()
    with_convolutions = [
        function
        for function in graph.library.function
        if any(node.op == "Conv2D" for node in function.node_def)
    ]
    (body,) = with_convolutions
    assert not {"PartitionedCall", "StatefulPartitionedCall"} & {node.op for node in body.node_def}


@pytest.mark.parametrize("format", ["litert", "onnx", "openvino"])
def test_any_batch_and_any_size_go_in_where_they_are_dynamic(format, networks, tmp_path):
    report = kr.export(
        networks("resnest"),
        tmp_path / f"m{FORMATS[format].suffix}",
        batch="dynamic",
        image_size="dynamic",
        preprocessing={"input_size": (3, 40, 56)},
    )
    assert report.input_shape == (None, None, None, 3)
    assert report.images == 9  # A batch of 1, of 7, and one of another size.
    assert (report.metadata["input_size"], report.metadata["dynamic"]) == ([3, 40, 56], True)


def test_any_size_goes_into_a_saved_model(served):
    report, loaded = served
    assert report.input_shape == (None, None, None, 3)
    assert report.images == 9 + 2  # And two photographs.
    assert loaded.serve(np.zeros((2, 40, 72, 3), "uint8")).shape == (2, 10)


def test_a_file_of_a_fixed_batch_takes_no_other(tmp_path):
    import onnxruntime

    report = kr.export(dense_net(), tmp_path / "m.onnx", format="onnx", batch=2)
    assert report.input_shape == (2, 8, 8, 3)
    assert report.latency_batch == 2
    session = onnxruntime.InferenceSession(report.path)
    assert session.run(None, {"image": np.zeros((2, 8, 8, 3), "float32")})[0].shape == (2, 5)
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument):
        session.run(None, {"image": np.zeros((3, 8, 8, 3), "float32")})


# Metadata, preprocessing, signatures -------------------------------------------------------------


PREPARATION = Preparation(
    size=20, crop_pct=0.8, interpolation="bicubic", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3)
)
FIVE = [f"sort {number}" for number in range(5)]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model for any size, exported to each format once, over what was there before."""
    made = {}

    def get(format: str):
        if format not in made:
            path = tmp_path_factory.mktemp("small") / f"m{FORMATS[format].suffix}"
            fake_write(None, None, path, None)
            made[format] = kr.export(
                dense_net(side=None),
                path,
                format=format,
                preprocessing=PREPARATION,
                labels=FIVE,
                architecture="five_sorts",
                licence="mit",
                overwrite=True,
            )
        return made[format]

    return get


def metadata_in(report) -> dict:
    """What a file says about itself, read the way that users read it."""
    path = Path(report.path)
    if report.format == "saved_model":
        return json.loads((path / "assets.extra" / "metadata.json").read_text())
    if report.format == "litert":
        with zipfile.ZipFile(path) as archive:
            assert archive.read("labels.txt").decode().splitlines() == FIVE
            return json.loads(archive.read("metadata.json"))
    if report.format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        texts = session.get_modelmeta().custom_metadata_map
        return {key: json.loads(text) for key, text in texts.items()}
    import openvino

    model = openvino.Core().read_model(path)
    return {
        key: json.loads(model.get_rt_info(["keras_resnets", key]).astype(str))
        for key in report.metadata
    }


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_says_what_goes_in_and_what_comes_out(format, small):
    report = small(format)
    metadata = metadata_in(report)
    assert Preparation.stated_in(metadata) == PREPARATION
    assert (
        metadata
        == report.metadata
        == PREPARATION.as_metadata()
        | {
            "architecture": "five_sorts",
            "labels": FIVE,
            "dynamic": format != "litert",
            "include_preprocessing": False,
            "activation": "linear",
            "licence": "mit",
            "precision": "float32",
        }
    )


def test_litert_is_fixed_to_one_image_of_the_size_of_the_weights(small):
    assert small("litert").input_shape == (1, 20, 20, 3)
    assert small("onnx").input_shape == (None, None, None, 3)


def test_an_openvino_file_knows_its_layout(small):
    """Without it nothing that speaks of channels can be put in front of the model."""
    import openvino

    core = openvino.Core()
    model = core.read_model(small("openvino").path)
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 3), "float32")
    expected = core.compile_model(model, "CPU")(images)[0]
    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().preprocess().reverse_channels()
    found = core.compile_model(steps.build(), "CPU")(images[..., ::-1].copy())[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_published_checkpoint_brings_its_preparation_name_and_licence(tmp_path):
    report = kr.export(dense_net(), tmp_path / "m.onnx", preprocessing="resnest50d.in1k")
    assert report.metadata["crop_pct"] == kr.preprocessor("resnest50d.in1k").crop_pct
    assert report.metadata["architecture"] == "resnest50d"
    assert report.metadata["licence"] == kr.model_info("resnest50d.in1k").pretrained[0].license


SIZE_48 = kr.preprocessor({"input_size": (3, 48, 48)})


@pytest.fixture(scope="module")
def served(networks, tmp_path_factory):
    """A SavedModel with all signatures that takes uint8 of any size and returns probabilities."""
    import tensorflow as tf

    path = tmp_path_factory.mktemp("served") / "model"
    report = kr.export(
        networks("basic"),
        path,
        fold=False,
        image_size="dynamic",
        preprocessing=SIZE_48,
        include_preprocessing=True,
        activation="softmax",
        signatures=("serve", "features", "serve_bytes"),
    )
    return report, tf.saved_model.load(path)


def test_batch_norms_stay_if_they_are_to(served):
    operators = served[0].operators
    assert operators.get("Rsqrt", 0) + operators.get("FusedBatchNormV3", 0) > 5
    assert served[0].unfolded is None


def test_uint8_goes_in_and_probabilities_come_out(served, networks):
    report, loaded = served
    assert report.metadata["activation"] == "softmax"
    rgb = np.random.default_rng(1).integers(0, 256, (3, 48, 48, 3), "uint8")
    logits = networks("basic")(kr.preprocess_input(rgb))
    assert relative_error(loaded.serve(rgb), keras.ops.softmax(logits)) < 1e-5


def test_features_are_what_the_classifier_reads(served, networks):
    rgb = np.random.default_rng(2).integers(0, 256, (2, 48, 48, 3), "uint8")
    model = networks("basic")
    kernel, bias = model.layers[-1].get_weights()
    features = served[1].features(rgb).numpy()
    assert relative_error(features @ kernel + bias, model(kr.preprocess_input(rgb))) < 1e-5


def picture(size: tuple[int, int]) -> Image.Image:
    noise = np.random.default_rng(sum(size)).integers(0, 256, (7, 9, 3), "uint8")
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **({"lossless": True} if kind == "webp" else {}))
    return file.getvalue()


SERVED = {
    "photographs of two sizes": [("jpeg", picture((90, 70))), ("jpeg", picture((60, 64)))],
    "grey and cmyk": [("jpeg", picture((60, 64)).convert(mode)) for mode in ("L", "CMYK")],
    "palette and alpha": [("png", picture((60, 64)).convert(mode)) for mode in ("P", "RGBA")],
    "16 bits": [
        ("png", Image.fromarray(np.asarray(picture((60, 64)).convert("L")).astype("uint16") * 250))
    ],
    "gif and webp": [(kind, picture((60, 64)).quantize(40)) for kind in ("gif", "webp")],
}


@pytest.mark.parametrize("case", SERVED)
def test_encoded_images_are_served_as_the_package_reads_them(case, served, networks):
    files = [encoded(image, kind) for kind, image in SERVED[case]]
    expected = keras.ops.softmax(networks("basic")(SIZE_48.load(map(io.BytesIO, files))))
    found = served[1].serve_bytes(np.array(files, object))
    assert relative_error(found, expected) < 1e-5


NOT_SERVED = {
    "bmp": [encoded(picture((60, 64)), "bmp")],
    "tiff": [encoded(picture((60, 64)), "tiff")],
    "text": [b"no image"],
    "nothing": [b""],
}


@pytest.mark.parametrize("case", NOT_SERVED)
def test_what_is_no_image_to_serve_is_refused_in_our_words(case, served):
    with pytest.raises(Exception, match="must get whole JPEG, PNG, GIF or WebP files; convert"):
        served[1].serve_bytes(np.array(NOT_SERVED[case], object))


def test_an_empty_batch_of_files_is_refused_in_our_words(served):
    with pytest.raises(Exception, match="serve_bytes must get at least one file"):
        served[1].serve_bytes(np.array([], object))


def test_a_model_that_normalises_by_itself_says_that_values_go_in_as_they_are(tmp_path):
    model = kr.ResNet18(
        weights=None, include_preprocessing=True, depths=(1, 1), planes=(16, 16), classes=4
    )
    report = kr.export(model, tmp_path / "m.onnx", format="onnx", image_size=32)
    rgb = np.arange(256)[:, None] * np.ones(3)
    metadata = report.metadata
    values = (rgb / 255 - metadata["mean"]) / metadata["std"]
    np.testing.assert_allclose(values, rgb, atol=1e-9)
    # Then there is nothing to do but to take uint8.
    report = kr.export(
        model,
        tmp_path / "u.onnx",
        format="onnx",
        image_size=32,
        include_preprocessing=True,
    )
    assert report.operators["Mul"] == 1


# Models of others --------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_layers_that_only_train_are_no_hindrance(format, tmp_path):
    """ONNX and LiteRT have no operators for what Keras' augmentation is made of."""
    front = [
        layers.RandomFlip(),
        layers.RandomRotation(0.1),
        layers.RandomContrast(0.2),
        layers.Rescaling(1 / 255),
        layers.GaussianNoise(0.1),
    ]
    report = kr.export(
        dense_net(*front),
        tmp_path / f"m{FORMATS[format].suffix}",
        format=format,
        include_preprocessing=True,
    )
    assert report.max_difference <= FLOAT32[format]


def test_a_preprocessor_in_front_is_refused_where_nothing_can_resize(tmp_path):
    model = dense_net(Preprocessor(8), side=None)
    for suffix in (".tflite", ".onnx", ".xml"):
        with pytest.raises(ValueError, match="take the Preprocessor off the model and pass it as"):
            kr.export(model, tmp_path / f"m{suffix}", image_size=32)
    assert left_in(tmp_path) == []
    assert kr.export(model, tmp_path / "m").metadata["input_size"] == [3, 9, 9]


def test_a_model_of_others_is_exported(tmp_path):
    report = kr.export(dense_net(activation="softmax"), tmp_path / "m.tflite", format="litert")
    assert report.metadata["activation"] == "softmax"
    assert report.metadata["labels"] == []


def test_logits_instead_of_probabilities(tmp_path):
    import onnxruntime

    model = dense_net(activation="softmax")
    report = kr.export(model, tmp_path / "m.onnx", format="onnx", activation="linear")
    images = np.random.default_rng(0).standard_normal((4, 8, 8, 3), "float32")
    logits = onnxruntime.InferenceSession(report.path).run(None, {"image": images})[0]
    assert relative_error(keras.ops.softmax(logits), model(images)) < 1e-5
    assert abs(logits.sum(1) - 1).min() > 1e-3
    assert model.layers[-1].activation is keras.activations.softmax  # It stays as it was.


def test_norms_that_cannot_be_folded_are_exported_with_a_warning(tmp_path):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.BatchNormalization(name="norm")(layers.ReLU()(image)))
    with pytest.warns(UserWarning, match="Exported with batch norms: .*'norm'"):
        report = kr.export(model, tmp_path / "m.onnx", format="onnx")
    assert report.unfolded
    assert report.top1_agreement is None
    assert "not folded" in str(report)


def test_a_mixed_precision_model_is_exported_in_full_precision(tmp_path):
    model = dense_net()
    half = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": "mixed_bfloat16"}
        ),
    )
    assert kr.export(half, tmp_path / "m.onnx", format="onnx").max_difference < 1e-5


# Arguments ---------------------------------------------------------------------------------------


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def two_inputs() -> keras.Model:
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], a + b)


ONNX = dict(path="m.onnx", format="onnx")
LITERT = dict(path="m.tflite", format="litert")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(path="m", format="coreml"), "format must be one of 'saved_model', 'litert'"),
        (dict(path="m", precision="int4"), "precision must be one of 'float32'"),
        (dict(path="m", precision="int8"), "use litert, onnx or openvino"),
        (dict(path="m", precision="int8-dynamic"), "use litert or onnx"),
        (LITERT | dict(precision="bfloat16"), "use float16"),
        (ONNX | dict(precision="bfloat16"), "use float16"),
        (dict(path="m.xml", format="openvino", precision="bfloat16"), "INFERENCE_PRECISION_HINT"),
        (dict(path="m.xml", format="openvino", precision="int8-dynamic"), "use int8, or onnx"),
        (dict(path="m.tflite", format="onnx"), r"path must end in \.onnx"),
        (dict(path="m.onnx", format="saved_model"), "path must be a folder's"),
        (dict(path="m.onx"), r"where no format is given.* Did you mean '\.onnx'\?"),
        (dict(path="m.TFLITE"), r"Did you mean '\.tflite'\?"),
        (dict(path="m.xlm"), r"Did you mean '\.xml'\?"),
        (dict(path="m.v2"), "for another name, pass the format"),
        (dict(path="nowhere/m.onnx", format="onnx"), "in a folder that exists"),
        (ONNX | dict(overwrite=1), "overwrite must be True or False"),
        (ONNX | dict(model=None), "model must be a functional or a built sequential"),
        (ONNX | dict(model=Subclassed()), r"keras.Model\(x, model\(x\)\)"),
        (ONNX | dict(model=two_inputs()), "one image input"),
        (ONNX | dict(fold="yes"), "fold must be True or False"),
        (ONNX | dict(include_preprocessing=None), "include_preprocessing must be True or False"),
        (ONNX | dict(batch=0), 'batch must be a positive int or "dynamic"'),
        (ONNX | dict(image_size="large"), "image_size must be a side"),
        (ONNX | dict(image_size=(8, 8, 3)), "image_size must be a side"),
        (ONNX | dict(image_size=16), "must be the model's where it has fixed ones"),
        (ONNX | dict(image_size="dynamic"), "must be the model's where it has fixed ones"),
        (LITERT | dict(precision="int8", batch="dynamic"), "needs a fixed batch and image_size"),
        (ONNX | dict(activation="sofmax"), "activation must be the name"),
        (ONNX | dict(activation=None), "activation must be the name"),
        (ONNX | dict(signatures=("serve", "features")), "several need the format 'saved_model'"),
        (dict(path="m", signatures=("features",)), "signatures must be 'serve' and others"),
        (dict(path="m", signatures=("serve", "train")), "signatures must be 'serve' and others"),
        (ONNX | dict(labels=["a", "b"]), "a name of one line for each of the 5 outputs"),
        (ONNX | dict(labels=["a\nb", *"cdef"]), "a name of one line for each of the 5 outputs"),
        (ONNX | dict(tolerance=0), "tolerance must be a positive number"),
        (ONNX | dict(preprocessing="resnet51"), "name must be one of list_models"),
        (ONNX | dict(keep_float=["fc"]), "keep_float is for the precision 'int8'"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(map(str, value))[:60],
)
def test_an_argument_out_of_range_is_refused_before_anything_is_made(
    arguments, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "prepare", lambda *args, **kwargs: pytest.fail("work began"))
    arguments = dict(model=dense_net()) | arguments
    with pytest.raises(ValueError, match=message):
        kr.export(arguments.pop("model"), arguments.pop("path"), **arguments)
    assert left_in(tmp_path) == []


def test_preprocessing_needs_rgb(tmp_path):
    gray = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ValueError, match="3 input channels"):
        kr.export(gray, tmp_path / "m", include_preprocessing=True)
    with pytest.raises(ValueError, match="3 input channels"):
        kr.export(gray, tmp_path / "m", signatures=("serve", "serve_bytes"))
    assert kr.export(gray, tmp_path / "m.onnx").metadata["input_size"] == [1, 8, 8]


def test_what_has_no_classifier_has_no_features_to_serve(tmp_path):
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, layers.ReLU()(image))
    with pytest.raises(ValueError, match="ends in a Dense layer"):
        kr.export(model, tmp_path / "m", signatures=("serve", "features"))
    with pytest.raises(ValueError, match="activation can be changed where"):
        kr.export(model, tmp_path / "m", activation="softmax")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize(
    ("format", "precision", "missing"),
    [
        ("litert", "float32", "ai_edge_litert"),
        ("onnx", "float32", "tf2onnx"),
        ("openvino", "float32", "openvino"),
        ("openvino", "int8", "onnxruntime"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    format, precision, missing, tmp_path, monkeypatch
):
    found = formats.importlib.util.find_spec
    monkeypatch.setattr(
        formats.importlib.util, "find_spec", lambda name: None if name == missing else found(name)
    )
    path = tmp_path / f"m{FORMATS[format].suffix}"
    name = missing.replace("_", "-")
    with pytest.raises(ImportError, match=rf"{name}: pip install 'keras-resnets\[export\]'"):
        kr.export(dense_net(), path, format=format, precision=precision)


# Files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_exists_is_replaced_only_if_asked(format, small):
    path = Path(small(format).path)
    with pytest.raises(ValueError, match="path must not exist yet; overwrite=True"):
        kr.export(dense_net(), path, format=format)
    beside = [path.with_suffix(".bin").name] if format == "openvino" else []
    # Of what `fake_write` had put there, a file that is not the format's stays.
    assert set(left_in(path.parent)) - {"m.bin"} == {path.name}
    assert set(beside) <= set(left_in(path.parent))
    file = path / "saved_model.pb" if format == "saved_model" else path
    assert file.read_bytes() != b"no model"


def test_an_unknown_end_is_a_folder_of_that_name_if_the_format_says_so(tmp_path):
    for name in ("m.v2", "resnet50-1.0", "m.onx"):
        assert place.check_target(tmp_path / name, FORMATS["saved_model"]).name == name


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.filterwarnings("ignore:TensorFlow loads no SavedModel from a path")
def test_a_path_that_reads_as_a_pattern_or_an_address_is_taken_as_it_is(format, tmp_path):
    folder = tmp_path / "a [x] b%20c" / "{ü,*}"
    folder.mkdir(parents=True)
    path = folder / f"m [0]%2F?{FORMATS[format].suffix}"
    kr.export(dense_net(), path, format=format)
    assert path.exists()
    moved = path.rename(tmp_path / f"m{FORMATS[format].suffix}")
    for beside in folder.iterdir():
        beside.rename(tmp_path / f"m{beside.suffix}")
    run, _ = FORMATS[format].load(str(moved))
    assert run("serve", np.zeros((1, 8, 8, 3), "float32")).shape == (1, 5)


def test_a_path_that_tensorflow_cannot_load_from_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "run_afresh", lambda *args: pytest.fail("stop here"))
    with (
        pytest.warns(UserWarning, match=r"TensorFlow loads no SavedModel .* move the folder first"),
        pytest.raises(pytest.fail.Exception, match="stop here"),
    ):
        kr.export(dense_net(), tmp_path / "m[1]")


def test_somebodys_folder_is_not_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(ValueError, match="must be a SavedModel's or empty"):
        kr.export(dense_net(), tmp_path / "photos", overwrite=True)
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(ValueError, match="must be of the same kind"):
        kr.export(dense_net(), tmp_path / "m.onnx", format="onnx", overwrite=True)


def fake_write(graph, request, path: Path, metadata) -> None:
    """What looks like an export."""
    if not path.suffix:
        path.mkdir()
        path = path / "saved_model.pb"
    path.write_text("no model")
    path.with_suffix(".bin").write_text("no weights")


def replace_writer(monkeypatch, format: str) -> None:
    monkeypatch.setitem(FORMATS, format, dataclasses.replace(FORMATS[format], write=fake_write))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_export_leaves_what_was_there(format, error, tmp_path, monkeypatch):
    path = tmp_path / f"m{FORMATS[format].suffix}"
    fake_write(None, None, path, None)
    before = left_in(tmp_path)
    replace_writer(monkeypatch, format)

    def interrupted(*args):
        raise error

    monkeypatch.setattr(compare, "run_afresh", interrupted)
    with pytest.raises(error):
        kr.export(dense_net(), path, format=format, overwrite=True)
    with pytest.raises(error):
        kr.export(dense_net(), tmp_path / f"n{FORMATS[format].suffix}", format=format)
    assert left_in(tmp_path) == before


@pytest.mark.parametrize("format", ["litert", "openvino"])
def test_a_file_that_cannot_be_run_is_not_left(format, tmp_path, monkeypatch):
    replace_writer(monkeypatch, format)
    with pytest.raises(RuntimeError, match="the exported file must run in a fresh process"):
        kr.export(dense_net(), tmp_path / f"m{FORMATS[format].suffix}", format=format)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_file_that_differs_too_much_is_not_left(format, tmp_path):
    path = tmp_path / f"m{FORMATS[format].suffix}"
    with pytest.raises(ValueError, match="must give the model's outputs to 1e-12") as error:
        kr.export(dense_net(filters=64, units=500), path, format=format, tolerance=1e-12)
    assert "max_difference=" in str(error.value)
    assert left_in(tmp_path) == []


def test_outputs_that_are_not_those_of_the_model_are_noticed(tmp_path, monkeypatch):
    """The comparison would be worth nothing if it compared a file with itself."""
    original = FORMATS["onnx"].write

    def other_weights(graph, request, path, metadata):
        *_, bias = graph.network.weights
        bias.assign_add([0, 0, 0.5, 0, 0])
        original(graph, request, path, metadata)

    monkeypatch.setitem(FORMATS, "onnx", dataclasses.replace(FORMATS["onnx"], write=other_weights))
    with pytest.raises(ValueError, match="must give the model's outputs"):
        kr.export(dense_net(), tmp_path / "m.onnx", format="onnx")
    assert left_in(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_named_before_work_begins(tmp_path, monkeypatch):
    def refused(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(exporting, "prepare", lambda *args, **kwargs: pytest.fail("work began"))
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(OSError, match=r"path must be writable.*Permission denied.*m\.onnx"):
        kr.export(dense_net(), tmp_path / "m.onnx", format="onnx")


def test_two_files_are_replaced_together_or_not_at_all(tmp_path, monkeypatch):
    new = tmp_path / "new"
    new.mkdir()
    for folder, text in ((tmp_path, "old"), (new, "new")):
        (folder / "m.xml").write_text(text)
        (folder / "m.bin").write_text(text)
    rename = os.rename

    def fails_once(source, target):
        if Path(source) == new / "m.bin":
            raise OSError("no")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails_once)
    with pytest.raises(OSError, match="no"):
        place.put_in_place([new / "m.xml", new / "m.bin"], [tmp_path / "m.xml", tmp_path / "m.bin"])
    assert [(tmp_path / name).read_text() for name in ("m.xml", "m.bin")] == ["old", "old"]


# The fresh process, the report, the command ------------------------------------------------------


def test_what_a_format_is_like_stands_in_its_file_alone():
    """Whoever adds a format adds a file, and looks for nothing elsewhere."""
    package = Path(kr.__file__).parent
    asked = re.compile(r"\bformat\s*(==|!=|(not )?in [\[({])")
    files = [*package.joinpath("deploy").glob("*.py"), package / "commands" / "export.py"]
    assert len(files) > 10
    assert [file.name for file in files if asked.search(file.read_text())] == []


def test_the_fresh_process_knows_nothing_of_keras():
    tree = ast.parse(Path(verify.__file__).read_text())
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
    }
    assert not {"keras", "keras_resnets"} & imported
    assert {"tensorflow", "onnxruntime", "openvino", "ai_edge_litert"} <= imported


def test_the_report_prints_as_a_table_and_as_json(small):
    report = small("litert")
    text = str(report)
    for words in ("litert, float32", "CONV_2D", "1 x 20 x 20 x 3", "tolerance 0.001", " ms for 1"):
        assert words in text
    assert f"{report.size / 1e6:.2f} MB" in text
    assert report.size == os.path.getsize(report.path)
    assert json.loads(json.dumps(report.as_dict()))["top1_agreement"] == 1.0


@pytest.fixture
def saved(tmp_path) -> Path:
    model = kr.ResNet18(
        weights=None, include_preprocessing=True, depths=(1, 1), planes=(16, 16), classes=10
    )
    model.save(tmp_path / "net.keras")
    return tmp_path / "net.keras"


def test_the_command_exports_a_saved_model_of_keras(saved, tmp_path):
    arguments = ["export", str(tmp_path / "net.onnx"), "--model", str(saved), "--image-size", "32"]
    result = CliRunner().invoke(app, [*arguments, "--include-preprocessing", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["format"] == "onnx"
    assert report["input_shape"] == [None, 32, 32, 3]
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1
    assert "path must not exist yet" in again.stderr


def test_the_command_refuses_an_unknown_end_with_the_nearest(tmp_path):
    result = CliRunner().invoke(app, ["export", str(tmp_path / "m.onx"), "--model", "resnet18"])
    assert result.exit_code == 1
    assert "Did you mean '.onnx'?" in result.stderr
    assert left_in(tmp_path) == []


def test_the_command_names_the_extra_before_a_model_is_loaded(tmp_path, monkeypatch):
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    arguments = ["export", str(tmp_path / "net.onnx"), "--model", "no-such-model"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "keras-resnets[tensorflow,export]" in result.stderr

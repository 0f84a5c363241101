"""Files as others write them: every layout of names, every format, and what must not be trusted.

The layouts are generated here from descriptions of the authors' modules, independently of the
rules that read them.
"""

import json
import os
import pickle
import random
import struct
import time
import zipfile

import keras
import numpy as np
import pytest
from checkpoint_files import assert_same, build, import_timm, save_torch, state_of, weights_of
from deterministic import random_state
from goldens_io import architectures, zeros_for_initial_weights
from safetensors import safe_open
from safetensors.numpy import save, save_file

import keras_resnets as kr
from keras_resnets.names import keras_name
from keras_resnets.preparation import Preparation
from keras_resnets.weights import checkpoint

pytestmark = pytest.mark.with_torch

Shapes = dict[str, tuple[int, ...]]


# The layouts of torchvision and of the papers' authors --------------------------------------------


def conv(name: str, outputs: int, inputs: int, size: int, bias: bool = False) -> Shapes:
    biases = {f"{name}.bias": (outputs,)} if bias else {}
    return {f"{name}.weight": (outputs, inputs, size, size)} | biases


def norm(name: str, channels: int) -> Shapes:
    leaves = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{leaf}": (channels,) for leaf in leaves} | {f"{name}.num_batches_tracked": ()}


def torchvision_block(name: str, inputs: int, planes: int, groups: int, base: int) -> Shapes:
    """`torchvision.models.resnet.Bottleneck`."""
    width = planes * base // 64 * groups
    return (
        conv(f"{name}.conv1", width, inputs, 1)
        | norm(f"{name}.bn1", width)
        | conv(f"{name}.conv2", width, width // groups, 3)
        | norm(f"{name}.bn2", width)
        | conv(f"{name}.conv3", 4 * planes, width, 1)
        | norm(f"{name}.bn3", 4 * planes)
    )


def resnest_block(name: str, inputs: int, planes: int) -> Shapes:
    """`Bottleneck` with `SplAtConv2d` of radix 2, of the authors' resnest/torch."""
    attention = max(planes * 2 // 4, 32)
    return (
        conv(f"{name}.conv1", planes, inputs, 1)
        | norm(f"{name}.bn1", planes)
        | conv(f"{name}.conv2.conv", 2 * planes, planes // 2, 3)
        | norm(f"{name}.conv2.bn0", 2 * planes)
        | conv(f"{name}.conv2.fc1", attention, planes, 1, bias=True)
        | norm(f"{name}.conv2.bn1", attention)
        | conv(f"{name}.conv2.fc2", 2 * planes, attention, 1, bias=True)
        | conv(f"{name}.conv3", 4 * planes, planes, 1)
        | norm(f"{name}.bn3", 4 * planes)
    )


def res2net_block(name: str, inputs: int, planes: int) -> Shapes:
    """`Bottle2neck` of scale 4 and base width 26, of the authors' res2net.py."""
    width = planes * 26 // 64
    shapes = conv(f"{name}.conv1", 4 * width, inputs, 1) | norm(f"{name}.bn1", 4 * width)
    for i in range(3):
        shapes |= conv(f"{name}.convs.{i}", width, width, 3) | norm(f"{name}.bns.{i}", width)
    return (
        shapes | conv(f"{name}.conv3", 4 * planes, 4 * width, 1) | norm(f"{name}.bn3", 4 * planes)
    )


def residual_network(block, planes, deep: bool) -> Shapes:
    """The network around the blocks, which all of them share; `deep` is the form C or D."""
    if deep:
        shapes = conv("conv1.0", 32, 3, 3) | norm("conv1.1", 32) | conv("conv1.3", 32, 32, 3)
        shapes |= norm("conv1.4", 32) | conv("conv1.6", 64, 32, 3)
    else:
        shapes = conv("conv1", 64, 3, 7)
    shapes |= norm("bn1", 64)
    inputs = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        for i in range(depth):
            name = f"layer{stage + 1}.{i}"
            shapes |= block(name, inputs, planes[stage])
            if i == 0:
                # An average stands in front of the deep forms' projection.
                shapes |= conv(f"{name}.downsample.{int(deep)}", 4 * planes[stage], inputs, 1)
                shapes |= norm(f"{name}.downsample.{int(deep) + 1}", 4 * planes[stage])
            inputs = 4 * planes[stage]
    return shapes | {"fc.weight": (10, inputs), "fc.bias": (10,)}


def round_to_8(value: int) -> int:
    rounded = max(8, (value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def clovaai_rexnet(lite: bool) -> Shapes:
    """`ReXNetV1(classes=10)` and `ReXNetV1_lite(classes=10)`, module by module."""
    growth = 164 / 15 if lite else 180 / 16
    widths = [round(16 + growth * i) for i in range(16)]
    if lite:
        widths = [round_to_8(width) for width in widths]
    shapes = conv("features.0", 32, 3, 3) | norm("features.1", 32)  # 2: activation
    inputs = 32
    for block, outputs in enumerate(widths):
        name, place, inner = f"features.{3 + block}.out", 0, inputs
        if block > 0:
            inner = 6 * inputs
            shapes |= conv(f"{name}.0", inner, inputs, 1) | norm(f"{name}.1", inner)
            place = 3  # 2: activation
        shapes |= conv(f"{name}.{place}", inner, 1, 3) | norm(f"{name}.{place + 1}", inner)
        place += 2
        if block >= 3 and not lite:
            shapes |= conv(f"{name}.{place}.fc.0", inner // 12, inner, 1, bias=True)
            shapes |= norm(f"{name}.{place}.fc.1", inner // 12)
            shapes |= conv(f"{name}.{place}.fc.3", inner, inner // 12, 1, bias=True)
            place += 1
        place += 1  # ReLU6
        shapes |= conv(f"{name}.{place}", outputs, inner, 1) | norm(f"{name}.{place + 1}", outputs)
        inputs = outputs
    shapes |= conv("features.19", 1280, inputs, 1) | norm("features.20", 1280)
    if not lite:
        return shapes | conv("output.1", 10, 1280, 1, bias=True)
    shapes |= conv("output.0", 1024, 1280, 1, bias=True) | norm("output.1", 1024)
    return shapes | conv("output.4", 10, 1024, 1, bias=True)


THIN = (8, 16, 24, 128)
THIN_GROUPED = (32, 48, 64, 80)
OFFICIAL = {
    "torchvision resnet50": (
        residual_network(lambda *a: torchvision_block(*a, groups=1, base=64), THIN, deep=False),
        ("resnet50", dict(planes=THIN)),
    ),
    "torchvision resnext50_32x4d": (
        residual_network(
            lambda *a: torchvision_block(*a, groups=32, base=4), THIN_GROUPED, deep=False
        ),
        ("resnext50_32x4d", dict(planes=THIN_GROUPED)),
    ),
    "torchvision wide_resnet50_2": (
        residual_network(lambda *a: torchvision_block(*a, groups=1, base=128), THIN, deep=False),
        ("wide_resnet50_2", dict(planes=THIN)),
    ),
    "ResNeSt-50": (
        residual_network(resnest_block, THIN, deep=True),
        ("resnest50d", dict(planes=THIN)),
    ),
    "Res2Net-50": (
        residual_network(res2net_block, THIN, deep=False),
        ("res2net50_26w_4s", dict(planes=THIN)),
    ),
    "Res2Net-50 v1b": (
        residual_network(res2net_block, THIN, deep=True),
        ("res2net50d", dict(planes=THIN)),
    ),
    "ReXNet 1.0": (clovaai_rexnet(lite=False), ("rexnet_100", {})),
    "ReXNet-lite 1.0": (clovaai_rexnet(lite=True), ("rexnet_lite_100", {})),
}


def official_model(layout: str, **arguments) -> keras.Model:
    variant, changes = OFFICIAL[layout][1]
    with zeros_for_initial_weights():
        return kr.create_model(variant, **{"weights": None, "classes": 10}, **changes, **arguments)


def as_keras(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor in Keras' axis order; a classifier that was a 1x1 convolution as a matrix."""
    if array.ndim == 4 and len(shape) == 2:
        array = array[:, :, 0, 0]
    return array.transpose({4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim, (0,)))


@pytest.mark.parametrize("layout", OFFICIAL)
def test_an_official_layout_loads_with_every_value_in_its_place(layout):
    shapes = OFFICIAL[layout][0]
    state = random_state(shapes)
    counters = {name: np.zeros(shape, "int64") for name, shape in shapes.items() if shape == ()}
    model = official_model(layout)
    assert kr.load_weights(model, state | counters).fits
    if layout.startswith("ReXNet"):
        # A chain: modules stand in the order in which they run, in the file as in our graph.
        modules = list(dict.fromkeys(name.rpartition(".")[0] for name in state))
        layers = [layer for layer in model.layers if layer.weights]
        owner = dict(zip([layer.name for layer in layers], modules, strict=True))
    else:
        owner = {keras_name(m): m for m in {name.rpartition(".")[0] for name in state}}
    leaves = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
    leaves |= {"moving_mean": "running_mean", "moving_variance": "running_var"}
    seen = set()
    for key, value in weights_of(model).items():
        layer, variable = key.split("/")
        name = f"{owner[layer]}.{leaves[variable]}"
        np.testing.assert_array_equal(value, as_keras(state[name], value.shape), err_msg=key)
        seen.add(name)
    assert seen == state.keys()


@pytest.mark.parametrize("layout", ["ReXNet 1.0", "ReXNet-lite 1.0"])
def test_a_renamed_layout_loads_wherever_the_usual_one_does(layout, tmp_path):
    path = str(tmp_path / "official.safetensors")
    save_file(random_state(OFFICIAL[layout][0]), path)
    variant = OFFICIAL[layout][1][0]
    whole = kr.create_model(variant, weights=path)
    assert whole.output_shape == (None, 10), "the classes are the file's"
    backbone = kr.create_model(variant, weights=path, include_top=False, prefix="b_")
    ours = weights_of(whole)
    assert all(np.array_equal(v, ours[k[2:]]) for k, v in weights_of(backbone).items())
    with pytest.warns(UserWarning, match="classes=7 differs from the 10 classes"):
        kr.create_model(variant, weights=path, classes=7)


def test_what_no_rule_knows_keeps_its_name_and_is_listed():
    state = random_state(OFFICIAL["ReXNet 1.0"][0])
    state["features.3.out.9.weight"] = state["features.99.weight"] = np.zeros(3, "float32")
    state["output.7.weight"] = state["features.6.out.2.fc.9.bias"] = np.zeros(3, "float32")
    with pytest.raises(ValueError, match="weights must fit the model") as error:
        kr.load_weights(official_model("ReXNet 1.0"), state)
    assert (
        "In the file only (4): features.3.out.9.weight (3,), features.6.out.2.fc.9.bias (3,), "
        "features.99.weight (3,), output.7.weight (3,)."
    ) in str(error.value)


# Names that are written differently --------------------------------------------------------------


def transformers_name(name: str) -> str:
    """Our name of a tensor, as `ResNetForImageClassification` of transformers has it."""
    *modules, leaf = name.split(".")
    kinds = {"conv": "convolution", "bn": "normalization", "0": "convolution", "1": "normalization"}
    if modules == ["fc"]:
        return f"classifier.1.{leaf}"
    if len(modules) == 1:
        return f"resnet.embedder.embedder.{kinds[modules[0][:-1]]}.{leaf}"
    stage, block, module, *inner = modules
    place = f"resnet.encoder.stages.{int(stage[-1]) - 1}.layers.{block}"
    if module == "downsample":
        return f"{place}.shortcut.{kinds[inner[0]]}.{leaf}"
    return f"{place}.layer.{int(module[-1]) - 1}.{kinds[module[:-1]]}.{leaf}"


def openmmlab_name(name: str) -> str:
    """Our name of a tensor, as mmpretrain's `ImageClassifier` has it."""
    module, _, leaf = name.rpartition(".")
    if module == "fc":
        return f"head.fc.{leaf}"
    module = module.replace(".se.fc", ".se_layer.conv")
    return f"backbone.{module}{'.conv' if '.se_layer.' in module else ''}.{leaf}"


def openmmlab_deep_name(name: str) -> str:
    """The same where the stem is deep, and its last batch norm a part of it."""
    stem = {"conv1.0": "0.conv", "conv1.1": "0.bn", "conv1.3": "1.conv", "conv1.4": "1.bn"}
    stem |= {"conv1.6": "2.conv", "bn1": "2.bn"}
    module, _, leaf = name.rpartition(".")
    return f"backbone.stem.{stem[module]}.{leaf}" if module in stem else openmmlab_name(name)


def openmmlab_d_name(name: str) -> str:
    """The same of the form D, which leaves the average pool without stride out."""
    renumbered = {"downsample.1": "downsample.0", "downsample.2": "downsample.1"}
    for ours, theirs in renumbered.items():
        if name.startswith(f"layer1.0.{ours}."):
            return f"backbone.{name.replace(ours, theirs)}"
    return openmmlab_deep_name(name)


RENAMED = {
    "transformers, basic": ("basic", transformers_name),
    "transformers, bottleneck": ("bottleneck", transformers_name),
    "transformers, behind a prefix": ("basic", lambda name: "net." + transformers_name(name)),
    "transformers, without its wrapper": (
        "bottleneck",
        lambda name: transformers_name(name).removeprefix("resnet."),
    ),
    "mmpretrain, ResNet": ("bottleneck", openmmlab_name),
    "mmpretrain, ResNeXt": ("resnext", openmmlab_name),
    "mmpretrain, SEResNet": ("se-bottleneck", openmmlab_name),
    "mmpretrain, ResNetV1c": ("bottleneck-c", openmmlab_deep_name),
    "mmpretrain, ResNetV1d": ("bottleneck-d", openmmlab_d_name),
    "mmpretrain, ResNeSt": ("resnest-2s1x", openmmlab_d_name),
    "mmpretrain, Res2Net": ("res2net-d", openmmlab_deep_name),
}


@pytest.mark.parametrize("layout", RENAMED)
def test_a_layout_of_other_names_loads_with_every_value_in_its_place(layout):
    case, theirs = RENAMED[layout]
    state = state_of(case)
    renamed = {theirs(name): array for name, array in state.items()}
    assert len(renamed) == len(state)
    model = build(case, classes=10)
    kr.load_weights(model, state)
    expected = weights_of(model)
    kr.load_weights(model, {name: array * 2 for name, array in state.items()})
    meta = {"meta": {"epoch": 3}, "message_hub": {"runtime_info": {}}}
    assert kr.load_weights(model, {"state_dict": renamed, **meta}).fits
    assert_same(weights_of(model), expected)


def test_a_head_of_more_than_a_classifier_is_not_taken_for_one():
    state = {f"backbone.{name}": array for name, array in state_of("basic").items()}
    state = {name: array for name, array in state.items() if ".fc." not in name}
    state |= {"head.fc.weight": np.zeros((10, 32)), "head.norm.weight": np.zeros(32)}
    with pytest.raises(ValueError, match=r"In the model only \(2\): fc/bias"):
        kr.load_weights(build("basic", classes=10), state)


# PyTorch's own files ------------------------------------------------------------------------------


class Command:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("form", ["zip", "pickle", "beside tensors"])
def test_a_malicious_pickle_does_not_run(form, tmp_path):
    torch = pytest.importorskip("torch")
    marker, path = tmp_path / "marker", str(tmp_path / "model.pth")
    command = Command(f"touch {marker}")
    if form == "pickle":
        with open(path, "wb") as file:
            pickle.dump(command, file)
    else:
        content = {"fc.weight": torch.zeros(1), "x": command} if form != "zip" else command
        torch.save(content, path)
    with pytest.raises(ValueError, match="code in a file is never run") as error:
        kr.ResNet18(weights=path)
    assert str(error.value).endswith(f"Received: {path!r}")
    assert not marker.exists()
    # The file would have done it.
    with zipfile.ZipFile(path) if form != "pickle" else open(path, "rb") as file:
        content = file.read("model/data.pkl") if form != "pickle" else file.read()
    assert f"touch {marker}".encode() in content


@pytest.mark.parametrize(
    "content",
    [[1, 2], {}, {"epoch": 1}, {"fc.weight": 3.0}, {"state_dict": {"fc.weight": "text"}}, None],
    ids=repr,
)
def test_a_file_of_pytorch_without_tensors_is_refused(content, tmp_path):
    path = save_torch(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"whole PyTorch file; .*\(it holds ") as error:
        checkpoint.read(path)
    assert path in str(error.value)


def test_a_file_of_pytorch_cut_anywhere_is_refused(tmp_path):
    path = save_torch(state_of("basic"), tmp_path / "model.pth")
    with open(path, "rb") as file:
        content = file.read()
    for cut in (0, 1, 7, 100, 2000, *np.linspace(3000, len(content) - 1, 8).astype(int)):
        part = tmp_path / "part.pth"
        part.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="whole PyTorch file; this one cannot be read"):
            checkpoint.read(part)


@pytest.mark.parametrize("ending", [".pth", ".keras", ".safetensors"])
def test_what_cannot_be_opened_is_refused(ending, tmp_path):
    folder = tmp_path / f"folder{ending}"
    folder.mkdir()
    with pytest.raises(ValueError, match="this one cannot be read"):
        checkpoint.read(folder)
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / f"gone{ending}")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
@pytest.mark.parametrize("ending", [".pth", ".keras", ".safetensors", ".weights.h5"])
def test_an_unreadable_file_is_refused(ending, tmp_path):
    path = tmp_path / f"secret{ending}"
    path.write_bytes(b"secret")
    path.chmod(0)
    with pytest.raises(ValueError, match="this one cannot be read"):
        checkpoint.read(path)


def test_without_pytorch_its_files_are_refused_with_the_way_out(tmp_path, monkeypatch):
    import sys

    path = tmp_path / "model.pth"
    path.write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)  # Importing it fails.
    with pytest.raises(ValueError, match=r'pip install "keras-resnets\[torch\]"'):
        checkpoint.read(path)


# A saved model of Keras ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["basic", "resnest-2s2x"])
def test_the_weights_of_a_saved_model_load(name, tmp_path):
    path = str(tmp_path / "model.keras")
    model = build(name, classes=10)
    model.compile("sgd", "mse")
    model.save(path)
    assert_same(weights_of(build(name, weights=path)), weights_of(model))


@pytest.mark.parametrize("content", ["text", "no weights", "damaged weights", "cut"])
def test_a_damaged_saved_model_is_refused(content, tmp_path):
    path = tmp_path / "model.keras"
    if content == "text":
        path.write_bytes(b"This is no model.")
    elif content == "cut":
        build("basic").save(path)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("config.json", "{}")
            if content == "damaged weights":
                archive.writestr("model.weights.h5", b"damaged")
    with pytest.raises(ValueError, match=r"weights must be a whole \.keras file; this one cannot"):
        checkpoint.read(path)


# Numbers ------------------------------------------------------------------------------------------


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper half of each float32, as integers."""
    return (np.ascontiguousarray(array).view(np.uint32) >> 16).astype("<u2")


def save_bfloat16(state: dict[str, np.ndarray], path) -> None:
    """A safetensors file with a type that NumPy, and so its library there, lacks."""
    content, header = b"", {}
    for name, array in state.items():
        data = to_bfloat16(array).tobytes()
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": "BF16", "shape": array.shape, "data_offsets": offsets}
        content += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def test_half_precision_becomes_float32(tmp_path):
    state = state_of("basic")
    save_bfloat16(state, tmp_path / "brain.safetensors")
    brain = checkpoint.read(tmp_path / "brain.safetensors").arrays
    halves = {name: array.astype("float16") for name, array in state.items()}
    save_file(halves, str(tmp_path / "half.safetensors"))
    half = checkpoint.read(tmp_path / "half.safetensors").arrays
    doubles = {name: array.astype("float64") for name, array in state.items()}
    save_file(doubles, str(tmp_path / "double.safetensors"))
    assert_same(dict(checkpoint.read(tmp_path / "double.safetensors").arrays), state)
    for name, array in state.items():
        assert brain[name].dtype == half[name].dtype == np.float32
        np.testing.assert_array_equal(half[name], halves[name].astype("float32"))
        expected = (to_bfloat16(array).astype("uint32") << 16).view("float32")
        np.testing.assert_array_equal(brain[name], expected)
        np.testing.assert_allclose(brain[name], array, rtol=2**-7)
    assert build("basic", weights=tmp_path / "brain.safetensors").output_shape == (None, 10)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_of_pytorch_becomes_float32(precision, tmp_path):
    torch = pytest.importorskip("torch")
    state = state_of("basic")
    tensors = {n: torch.from_numpy(a).to(getattr(torch, precision)) for n, a in state.items()}
    torch.save(tensors, tmp_path / "model.pth")
    expected = {name: tensor.to(torch.float32).numpy() for name, tensor in tensors.items()}
    assert_same(dict(checkpoint.read(tmp_path / "model.pth").arrays), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_listed(value, tmp_path):
    state = state_of("basic")
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = state["bn1.bias"][3] = value
    path = tmp_path / "broken.safetensors"
    save_file(state, str(path))
    model = build("basic", classes=10)
    before = weights_of(model)
    for source in (path, state):
        with pytest.raises(ValueError, match="weights must be finite") as error:
            kr.load_weights(model, source)
        assert "NaN or infinity: bn1.bias, layer1.0.conv1.weight. " in str(error.value)
    assert_same(weights_of(model), before)


def test_integers_are_no_weights():
    state = state_of("basic") | {"bn1.bias": np.zeros(64, "int8")}
    with pytest.raises(ValueError, match=r"these are not: bn1\.bias \(int8\)"):
        kr.load_weights(build("basic", classes=10), state)


# And back -----------------------------------------------------------------------------------------


ONE_OF_EACH = ("resnet18d", "resnext50_32x4d", "resnest14d", "res2net50_26w_4s", "rexnet_100")


@pytest.mark.parametrize("variant", ONE_OF_EACH)
def test_a_saved_file_has_exactly_the_names_and_shapes_of_its_source(variant, tmp_path):
    path = str(tmp_path / "model.safetensors")
    with zeros_for_initial_weights():
        kr.save_safetensors(kr.create_model(variant, weights=None), path, tag="mine")
    with safe_open(path, framework="np") as file:
        metadata = file.metadata()
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        types = {name: file.get_slice(name).get_dtype() for name in shapes}
    norms = [n.removesuffix("running_mean") for n in shapes if n.endswith("running_mean")]
    counters = {f"{norm}num_batches_tracked" for norm in norms}
    assert shapes == architectures()[variant]["state"] | {counter: [] for counter in counters}
    assert all(types[name] == ("I64" if name in counters else "F32") for name in types)
    assert metadata == {"format": "pt", "architecture": variant, "tag": "mine"}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("basic-d", {"include_top": False}),
        ("basic-d", {"prefix": "net_"}),
        ("resnext-se", {}),
        ("resnest-2s2x", {}),
        ("res2next", {}),
        ("rexnet-shallow", {}),
    ],
    ids=str,
)
def test_a_round_trip_changes_no_bit(name, arguments, tmp_path):
    path = tmp_path / "model.safetensors"
    model = build(name, classes=10, **arguments)
    stream = np.random.RandomState(0)
    for variable in model.weights:
        variable.assign(stream.standard_normal(variable.shape))
    kr.save_safetensors(model, path, prefix=arguments.get("prefix", ""))
    assert_same(weights_of(build(name, weights=path, **arguments)), weights_of(model))
    # A model that came out of a file has the same names.
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    again = tmp_path / "again.safetensors"
    kr.save_safetensors(loaded, again, prefix=arguments.get("prefix", ""))
    assert_same(dict(checkpoint.read(again).arrays), dict(checkpoint.read(path).arrays))


def metadata_of(path) -> dict[str, str]:
    with safe_open(path, framework="np") as file:
        return file.metadata()


def test_metadata_says_what_the_weights_are(tmp_path):
    path = str(tmp_path / "model.safetensors")
    model = build("basic", classes=10)
    kr.save_safetensors(model, path, architecture="resnet18", metadata={"epochs": 3, "by": "me"})
    assert metadata_of(path) == dict(format="pt", architecture="resnet18", epochs="3", by="me")
    # A published tag brings along how its images are prepared.
    kr.save_safetensors(model, path, architecture="resnet18", tag="tv_in1k")
    metadata = metadata_of(path)
    assert json.loads(metadata["mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(metadata["input_size"]) == [3, 224, 224]
    assert metadata["interpolation"] == "bilinear"
    assert metadata["license"] == "bsd-3-clause"


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    import safetensors.numpy

    model = build("basic", classes=10)
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"the old file")

    def disk_full(tensors, path, metadata=None):
        with open(path, "wb") as file:
            file.write(b"a part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", disk_full)
    with pytest.raises(OSError, match=r"nothing was written \(the disk is full"):
        kr.save_safetensors(model, path)
    assert os.listdir(tmp_path) == ["model.safetensors"]
    assert path.read_bytes() == b"the old file"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes all")
def test_an_unwritable_folder_stays_as_it_is(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    with pytest.raises(OSError, match="path must be writable"):
        kr.save_safetensors(build("basic"), folder / "model.safetensors")
    assert os.listdir(folder) == []


@pytest.mark.parametrize("path", ["model.pth", "model", "gone/model.safetensors"])
def test_a_path_that_is_none_is_refused(path, tmp_path):
    with pytest.raises(ValueError, match="path must be"):
        kr.save_safetensors(build("basic"), tmp_path / path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("own", ["scaling", "preprocessor"])
def test_what_the_models_own_layers_do_to_images_is_written(own, tmp_path):
    changes = dict(weights=None, depths=(1,), planes=(8,), stem_width=8)
    stated = Preparation(size=(48, 64), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.125))
    if own == "scaling":
        model = kr.ResNet18(**changes, include_preprocessing=True)
        stated = Preparation()
    else:
        image = keras.Input((80, 90, 3))
        prepared = kr.layers.Preprocessor.of(stated)(image)
        model = kr.ResNet18(**changes, input_tensor=prepared)
    kr.save_safetensors(model, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        found = Preparation.stated_in(file.metadata())
    assert found.mean == pytest.approx(stated.mean, abs=1e-6)
    assert found.std == pytest.approx(stated.std, abs=1e-6)
    assert own == "scaling" or found.size == stated.size


def test_what_pytorch_has_no_name_for_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Normalization(name="scale")])
    with pytest.raises(ValueError, match="model must have the variables of PyTorch") as error:
        kr.save_safetensors(model, tmp_path / "model.safetensors")
    assert "scale/" in str(error.value)
    with pytest.raises(TypeError, match=r"model must be a keras\.Model"):
        kr.save_safetensors({}, tmp_path / "model.safetensors")
    assert os.listdir(tmp_path) == []


def clip_names(depths: tuple[int, ...]) -> dict[str, str]:
    """The modules of CLIP's `ModifiedResNet`, as its code names them, and ours."""
    names = {}
    for i in (1, 2, 3):
        names |= {f"conv{i}": f"stem.conv{i}.conv", f"bn{i}": f"stem.conv{i}.bn"}
    for stage, depth in enumerate(depths):
        for block in range(depth):
            theirs, ours = f"layer{stage + 1}.{block}", f"stages.{stage}.{block}"
            for i, conv in enumerate(("conv1_1x1", "conv2_kxk", "conv3_1x1"), start=1):
                names[f"{theirs}.conv{i}"] = f"{ours}.{conv}.conv"
                names[f"{theirs}.bn{i}"] = f"{ours}.{conv}.bn"
            if block == 0:  # Before the convolution "0" stands the average "-1".
                names[f"{theirs}.downsample.0"] = f"{ours}.shortcut.conv.conv"
                names[f"{theirs}.downsample.1"] = f"{ours}.shortcut.conv.bn"
    return names | {f"attnpool.{a}_proj": f"head.{b}" for a, b in ("qq", "kk", "vv", ("c", "proj"))}


@pytest.mark.parametrize("around", ["visual.", "module.visual.", ""])
@pytest.mark.parametrize("tower", ["resnet50_clip", "resnet50_clip_gap"])
def test_the_image_tower_of_clip_is_found_beside_the_texts(around, tower):
    changes = dict(weights=None, depths=(1, 2), planes=(8, 16), grid=2)
    kept = kr.create_model("resnet50_clip", **changes)
    shapes = {
        f"{theirs}.{leaf}": shape
        for theirs, ours in clip_names((1, 2)).items()
        for leaf, shape in pytorch_leaves(kept.get_layer(keras_name(ours))).items()
    }
    shapes["attnpool.positional_embedding"] = (5, 64)
    arrays = {
        name: np.random.default_rng(i).normal(size=shape).astype("float32")
        for i, (name, shape) in enumerate(shapes.items())
    }
    texts = {"logit_scale": np.float32([1]), "transformer.resblocks.0.ln_1.weight": np.ones(8)}
    texts = texts if around else {}  # A tower by itself.
    model = kr.create_model(tower, **changes)
    kr.load_weights(model, {f"{around}{name}": a for name, a in arrays.items()} | texts)
    for theirs, ours in clip_names((1, 2)).items():
        if tower.endswith("gap") and ours.startswith("head"):
            continue
        kernel = arrays[f"{theirs}.weight"]
        order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[kernel.ndim]
        loaded = model.get_layer(keras_name(ours)).get_weights()[0]
        np.testing.assert_array_equal(loaded, kernel.transpose(order))
    if not tower.endswith("gap"):
        table = model.get_layer("head").get_weights()[0]
        np.testing.assert_array_equal(table, arrays["attnpool.positional_embedding"])


def pytorch_leaves(layer: keras.layers.Layer) -> Shapes:
    """Shapes of a layer's tensors under PyTorch's names."""
    leaves = dict(kernel="weight", gamma="weight", bias="bias", beta="bias")
    leaves |= dict(moving_mean="running_mean", moving_variance="running_var")
    return {leaves[v.name]: tuple(v.shape)[::-1] for v in layer.weights}


@pytest.mark.parametrize(
    "variant", ["resnet18", "resnest14d", "rexnet_100", "resnetv2_18d", "skresnet18", "resnet51q"]
)
def test_timm_loads_a_saved_file_strictly_and_computes_the_same(variant, tmp_path):
    torch = pytest.importorskip("torch")
    timm = import_timm(torch)
    safetensors_torch = pytest.importorskip("safetensors.torch")
    path = str(tmp_path / "model.safetensors")
    model = kr.create_model(variant, weights=None, classes=10, classifier_activation=None)
    state = random_state({k: tuple(s) for k, s in architectures()[variant]["state"].items()})
    kr.load_weights(model, state, head="fresh")
    kr.save_safetensors(model, path)
    other = timm.create_model(variant, num_classes=10).eval()
    other.load_state_dict(safetensors_torch.load_file(path), strict=True)
    images = np.random.RandomState(0).uniform(-2, 2, (2, 64, 64, 3)).astype("float32")
    with torch.no_grad():
        expected = other(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    ours = model(keras.ops.convert_to_tensor(images), training=False)
    ours = keras.ops.convert_to_numpy(ours)
    assert np.abs(ours - expected).max() <= 1e-4 * np.abs(expected).max()


# Bytes that were changed on the way ---------------------------------------------------------------


def test_whatever_happens_to_a_files_bytes_it_loads_whole_or_not_at_all(tmp_path):
    """2,500 damaged copies: an error, or the same tensors with other values."""
    stream = random.Random(0)
    shapes = {"conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "bn1.bias": (4,)}
    shapes |= {"bn1.running_mean": (4,), "bn1.running_var": (4,)}
    shapes |= {"fc.weight": (2, 4), "fc.bias": (2,)}
    state = random_state(shapes)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, use_bias=False, name="conv1"),
            keras.layers.BatchNormalization(name="bn1"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, name="fc"),
        ]
    )
    whole = save(state)
    header_end = 8 + int.from_bytes(whole[:8], "little")
    path = tmp_path / "damaged.safetensors"
    loads = refusals = 0
    started = time.monotonic()
    for attempt in range(2500):
        content = bytearray(whole)
        # The header is small beside the values of real files; here half of the damage is in it.
        end = header_end if attempt % 2 else len(content)
        for _ in range(stream.choice((1, 1, 2, 8))):
            content[stream.randrange(end)] ^= stream.randrange(1, 256)
        if attempt % 5 == 0:
            content = content[: stream.randrange(len(content))]
        path.write_bytes(content)
        try:
            arrays = checkpoint.read(path).arrays
        except ValueError:
            refusals += 1
            continue
        loads += 1
        if {name: array.shape for name, array in arrays.items()} != shapes:
            # Names or shapes were hit and are well-formed: then the model refuses them.
            with pytest.raises(ValueError, match="weights must fit the model"):
                kr.load_weights(model, arrays)
        elif bytes(content[:header_end]) == whole[:header_end]:
            assert len(content) == len(whole)
    assert loads > 100
    assert refusals > 1000
    assert time.monotonic() - started < 60

"""Other people's files: the model's tensors are found wherever a training script put them."""

import argparse
import collections
import datetime
import os
import pathlib
import sys
import types
import warnings

import keras
import numpy as np
import pytest
from checkpoint_files import assert_same, build, save_torch, state_of, weights_of
from safetensors.numpy import save_file

import keras_resnets as kr
from keras_resnets.weights import checkpoint

pytestmark = pytest.mark.with_torch

STATE = state_of("basic")
OTHER = {name: array + 1 for name, array in STATE.items()}
BACKBONE = {name: array for name, array in STATE.items() if not name.startswith("fc.")}


def under(prefix: str, state=STATE) -> dict[str, np.ndarray]:
    return {prefix + name: array for name, array in state.items()}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return build("basic", classes=10)


@pytest.fixture(scope="module")
def expected(model):
    kr.load_weights(model, STATE)
    return weights_of(model)


@pytest.fixture
def loaded(model, expected):
    """Loads a source into a network of other weights, and compares it with what is right."""

    def load(source, right=STATE, **arguments):
        kr.load_weights(model, OTHER)
        report = kr.load_weights(model, source, **arguments)
        ours = weights_of(model)
        if right is not STATE:
            kr.load_weights(model, right)
        assert_same(ours, expected if right is STATE else weights_of(model))
        return report

    return load


# Under a key or a prefix --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (STATE, ""),
        ({"epoch": 3, "loss": 0.5, **STATE}, ""),
        ({"state_dict": STATE, "optimizer": {"state": {0: {"exp_avg": np.ones(3)}}}}, "state_dict"),
        ({"model": {"state_dict": STATE}}, "model.state_dict"),
        ({"net": STATE, "acc": 91.0}, "net"),
        ({"teacher": STATE, "head": {"weight": np.ones((3, 3))}}, "teacher"),
        ({"student": under("module.")}, "student.module"),
        (under("module._orig_mod."), "module._orig_mod"),
        ({"state_dict": under("model.") | {"criterion.weight": np.ones(9)}}, "state_dict.model"),
        (under("timm_model.") | {"queue_ptr": np.zeros(1, "int64")}, "timm_model"),
        ({"model_ema": STATE, "steps": 7}, "model_ema"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_weights_are_found_under_any_key_and_prefix(content, key, loaded):
    assert loaded(content).key == key


def test_a_builder_finds_them_too_with_their_classes(tmp_path, expected):
    path = tmp_path / "model.safetensors"
    save_file(under("encoder.") | {"queue_ptr": np.zeros(1, "int64")}, path)
    model = build("basic", weights=path)
    assert model.output_shape == (None, 10)
    assert_same(weights_of(model), expected)
    side = build("basic", weights=path, prefix="left_", include_top=False)
    assert_same(
        weights_of(side), {f"left_{k}": v for k, v in expected.items() if not k.startswith("fc/")}
    )


TWICE = {
    "flat": under("encoder_q.") | under("encoder_k.", OTHER),
    "nested": {"encoder_q": STATE, "encoder_k": under("module.", OTHER)},
    "deep": {"state_dict": under("module.encoder_q.") | under("module.encoder_k.", OTHER)},
}


@pytest.mark.parametrize("form", TWICE)
def test_weights_that_are_there_twice_are_named_and_a_key_chooses(form, loaded, model):
    for strict in (True, False):
        with pytest.raises(ValueError, match="weights must be clear: the model's names") as error:
            kr.load_weights(model, TWICE[form], strict=strict)
        for name in ("encoder_q", "encoder_k"):
            assert f"{name}'" in str(error.value) or f"{name}.module'" in str(error.value)
        assert "load_weights(model, source, key=...)" in str(error.value)
    assert "encoder_q" in loaded(TWICE[form], key="encoder_q").key
    assert "encoder_k" in loaded(TWICE[form], OTHER, key="encoder_k.").key
    for key in ("encoder", "q", ""):
        with pytest.raises(ValueError, match="key must be one under which 'mapping' has") as error:
            kr.load_weights(model, TWICE[form], key=key)
        assert "encoder_q" in str(error.value)
        assert f"Received: key={key!r}" in str(error.value)


@pytest.mark.parametrize(
    ("content", "averaged"),
    [
        ({"state_dict": STATE, "state_dict_ema": OTHER}, "state_dict_ema"),
        ({"ema": under("module.", OTHER) | {"n": np.int64(3)}, "model": under("module.")}, "ema"),
        ({"state_dict": under("net.") | under("model_ema.module.", OTHER)}, "model_ema"),
        ({"averaged_model": OTHER, "weights": STATE, "swa": OTHER}, "averaged_model"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_of_plain_and_averaged_weights_the_plain_are_taken_and_that_is_said(
    content, averaged, loaded
):
    with pytest.warns(UserWarning, match="has averaged weights") as caught:
        report = loaded(content)
    [message] = [str(warning.message) for warning in caught if "averaged" in str(warning.message)]
    assert f"plain ones under {report.key!r}" in message
    assert averaged in message
    assert "load_weights(model, source, key=...)" in message
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*averaged")
        loaded(content, OTHER, key=averaged)


def test_a_key_is_for_pytorchs_names(model, tmp_path):
    path = tmp_path / "x.weights.h5"
    model.save_weights(path)
    with pytest.raises(ValueError, match="key must be left out for files of Keras"):
        kr.load_weights(model, path, key="fc")
    with pytest.raises(ValueError, match="key must be a string or None"):
        kr.load_weights(model, STATE, key=3)


# What is beside them ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "extra",
    [
        {"queue": np.ones((3, 4), "float32"), "queue_ptr": np.zeros(1, "int64")},
        {"projector.0.weight": np.ones((4, 4), "float32"), "step": np.array(3, "uint8")},
        {"scale": np.array([np.nan], "float32"), "mask": np.ones(3, bool)},
    ],
    ids=", ".join,
)
def test_foreign_tensors_may_be_anything_and_are_left_out_on_request(extra, loaded, model):
    with pytest.raises(ValueError, match=r"In the file only \(2\)") as error:
        kr.load_weights(model, STATE | extra)
    assert str(error.value).endswith("Pass strict=False to load_weights to leave them out.")
    report = loaded(STATE | extra, strict=False)
    assert report.unexpected == tuple(sorted(extra))


@pytest.mark.parametrize("kind", ["int8", "bool", "complex64"])
def test_only_what_the_model_wants_must_be_floating_point(kind, model):
    state = STATE | {"bn1.bias": np.zeros(64, kind), "zz": np.zeros(3, kind)}
    with pytest.raises(ValueError, match=rf"these are not: bn1\.bias \({kind}\)\. Received"):
        kr.load_weights(model, state, strict=False)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"encoder.layer.0.attention.weight": np.ones((4, 4))},
        under("", state_of("rexnet")),
        {"conv1.weight": np.ones((1, 2, 3, 4))},
    ],
    ids=["nothing", "a transformer", "another family", "a name with another shape"],
)
def test_what_fits_nowhere_is_an_error_strict_or_not(state, model):
    before = weights_of(model)
    for strict in (True, False):
        with pytest.raises(ValueError, match="weights must fit the model: 'mapping' does not fit"):
            kr.load_weights(model, state, strict=strict)
    assert_same(weights_of(model), before)


@pytest.mark.parametrize("form", ["plain", "in a wrapper", "with another head"])
def test_a_headless_file_gets_a_fresh_head_where_classes_are_asked_for(form, tmp_path):
    state = BACKBONE if form != "in a wrapper" else under("module.backbone.", BACKBONE)
    if form == "with another head":
        state = state | {"fc.0.weight": np.ones((4, 32), "float32")}
    path = tmp_path / "backbone.safetensors"
    save_file(state, path)
    with pytest.warns(UserWarning, match="classes=7 is no part of .*starts from random weights"):
        model = build("basic", weights=path, classes=7)
    expected = weights_of(build("basic", weights=path, include_top=False))
    ours = weights_of(model)
    assert {key.split("/")[0] for key in ours.keys() - expected.keys()} == {"fc"}
    assert_same({key: ours[key] for key in expected}, expected)
    with pytest.raises(ValueError, match="weights must fit the model") as error:
        build("basic", weights=path)
    assert 'Pass head="fresh" to load_weights, or classes to the builder' in str(error.value)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_network_of_known_names_and_other_shortcuts_is_no_match(prefix, tmp_path):
    """A much used ResNet-20 for CIFAR-10: every shape fits, and its shortcuts pad elsewhere."""
    state = {
        prefix + name.replace("fc.", "linear."): array
        for name, array in state_of("full-resnet20").items()
    }
    path = tmp_path / "resnet20.safetensors"
    save_file(state, path)
    for arguments in ({}, {"classes": 7}, {"include_top": False}):
        with pytest.raises(ValueError, match=r"In the file only \(2\): linear\.bias"):
            build("full-resnet20", weights=path, **arguments)


# Tensors of other libraries -----------------------------------------------------------------------


def test_a_mapping_of_torchs_parameters_loads_like_a_file(loaded):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array.copy()) for name, array in STATE.items()}
    loaded({name: torch.nn.Parameter(tensor) for name, tensor in tensors.items()})
    loaded({"module." + name: tensor.double() for name, tensor in tensors.items()})
    halves = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    loaded(halves, {name: tensor.float().numpy() for name, tensor in halves.items()})
    quantised = torch.quantize_per_tensor(torch.ones(64), 0.1, 0, torch.quint8)
    for bias in (quantised, torch.ones(64).to(torch.float8_e4m3fn)):
        with pytest.raises(ValueError, match=r"these are not: bn1\.bias \("):
            loaded(tensors | {"bn1.bias": bias})


@pytest.mark.parametrize("form", ["tensors of the backend", "variables", "bfloat16", "lists"])
def test_a_mapping_of_any_arrays_loads_like_a_file(form, loaded):
    import ml_dtypes

    made = {
        "tensors of the backend": keras.ops.convert_to_tensor,
        "variables": keras.Variable,
        "bfloat16": lambda array: array.astype(ml_dtypes.bfloat16),
        "lists": lambda array: array.tolist(),
    }[form]
    state = {name: made(array) for name, array in STATE.items()}
    rounded = {name: array.astype(ml_dtypes.bfloat16) for name, array in STATE.items()}
    loaded(state, rounded if form == "bfloat16" else STATE)


# Content, not ending ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.pth.tar", "last.ckpt", "weights", "model.safetensors"])
def test_a_file_of_pytorch_is_known_by_its_content(name, tmp_path, expected):
    path = save_torch({"state_dict": under("model.")}, tmp_path / name)
    assert_same(weights_of(build("basic", weights=path)), expected)


@pytest.mark.parametrize("name", ["a.bin", "a.keras", "weights", "b.ckpt"])
def test_a_file_of_safetensors_or_keras_is_known_by_its_content(name, tmp_path, loaded, model):
    save_file(STATE, tmp_path / name)
    loaded(tmp_path / name)
    for ending in (".weights.h5", ".keras"):
        path = tmp_path / f"model{ending}"
        (model.save if ending == ".keras" else model.save_weights)(path)
        loaded(path.rename(tmp_path / f"{name}.{ending[-2:]}"))


def test_a_file_of_keras_2_is_named(tmp_path):
    import h5py

    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(ValueError, match=r"\(it is of Keras 2; save its model again as \.keras\)"):
        checkpoint.read(tmp_path / "old.h5")


@pytest.mark.parametrize("name", [b"caf\xe9.pth", "poids-é.pth".encode()])
def test_the_name_of_a_file_may_have_any_bytes(name, tmp_path, loaded, model):
    path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
    os.rename(save_torch(STATE, tmp_path / "plain.pth"), path)
    loaded(path)
    for write in (
        lambda: save_file(STATE, path),
        lambda: build("basic").save(tmp_path / "k.keras"),
    ):
        write()
    os.replace(tmp_path / "k.keras", path + ".keras")
    assert len(checkpoint.read(path).arrays) == len(checkpoint.read(path + ".keras").arrays)


# Data beside the weights, and never code ----------------------------------------------------------


class Unknown:
    """A class that a training script could have."""


@pytest.fixture
def omegaconf():
    """The class of a library that is not installed where the file is read."""
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = type("DictConfig", (), {"__module__": module.__name__})
    package = types.ModuleType("omegaconf")
    package.dictconfig = module
    sys.modules |= {"omegaconf": package, "omegaconf.dictconfig": module}
    yield module.DictConfig
    del sys.modules["omegaconf"], sys.modules["omegaconf.dictconfig"]


def test_plain_data_beside_the_weights_is_passed_over(tmp_path, loaded, omegaconf):
    config = omegaconf()
    config.lr = 0.1
    beside = {
        "args": argparse.Namespace(model="resnet18", output=pathlib.Path("runs")),
        "out": pathlib.PureWindowsPath("c:/runs"),
        "metric": np.float64(91.25),
        "history": np.arange(3.0),
        "best": {"top1": np.float32(1)},
        "counts": collections.defaultdict(list, {"a": [1]}),
        "started": datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        "config": config,
        "types": [int, slice(3), frozenset({1})],
    }
    path = save_torch({"state_dict": STATE, "epoch": 3, **beside}, tmp_path / "last.pth.tar")
    for name in ("omegaconf", "omegaconf.dictconfig"):
        sys.modules[name] = None  # Importing it fails.
    loaded(path)


@pytest.mark.parametrize("where", ["beside", "alone", "as a type"])
def test_a_class_that_is_no_plain_data_is_named_with_the_way_out(where, tmp_path):
    content = {
        "beside": {"state_dict": STATE, "model": Unknown()},
        "alone": Unknown(),
        "as a type": {"state_dict": STATE, "class": Unknown},
    }[where]
    path = save_torch(content, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=r"a test_keys\.Unknown, and code in a file") as error:
        checkpoint.read(path)
    assert "torch.save(torch.load(path, weights_only=False)['state_dict']" in str(error.value)


def test_a_program_of_torchscript_is_refused_with_the_way_out(tmp_path):
    torch = pytest.importorskip("torch")
    path = str(tmp_path / "scripted.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(ValueError, match="it is a program of TorchScript") as error:
        checkpoint.read(path)
    assert "torch.jit.load(path).state_dict()" in str(error.value)


def test_strides_that_only_the_training_knew_of_are_not_taken_for_ours(tmp_path):
    meta = {"config": "model = dict(backbone=dict(type='ResNet', depth=18, style='caffe'))"}
    path = save_torch({"meta": meta, "state_dict": under("backbone.")}, tmp_path / "det.pth")
    with pytest.raises(ValueError, match="style='caffe', with strides where ours has none"):
        checkpoint.read(path)
    meta["config"] = meta["config"].replace("caffe", "pytorch")
    save_torch({"meta": meta, "state_dict": under("backbone.")}, path)
    assert len(checkpoint.read(path).arrays) == len(STATE)

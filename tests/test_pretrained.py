"""Folders for others and for the hub: what was there is what is read back, by timm too."""

import json
import shutil

import keras
import numpy as np
import pytest
import version_io
from checkpoint_files import import_timm
from goldens_io import TOLERANCES, computing_in, relative_error
from loopback_hub import Repository, client, endpoint, serving
from tiny_nets import fill, tiny_net

import keras_resnets as kr
from keras_resnets import loading
from keras_resnets.preparation import Preparation
from keras_resnets.sharing import pretrained

pytestmark = pytest.mark.with_torch

FILES = {"README.md", "config.json", "model.safetensors"}
TINY = dict(depths=(1, 1, 1, 1), planes=(8, 16, 24, 32))
OWN = Preparation(size=64, crop_pct=0.9, interpolation="bicubic", mean=(0.5,) * 3, std=(0.2,) * 3)


def tiny(**arguments) -> keras.Model:
    arguments = dict(weights=None, classes=3, classifier_activation=None) | TINY | arguments
    return fill(kr.ResNet18(**arguments))


def outputs(model, channels: int = 3) -> np.ndarray:
    images = np.random.RandomState(0).uniform(-2, 2, (2, 64, 64, channels)).astype("float32")
    return keras.ops.convert_to_numpy(model(keras.ops.convert_to_tensor(images), training=False))


def config_of(folder) -> dict:
    return json.loads((folder / "config.json").read_text())


# timm --------------------------------------------------------------------------------------------

# Plain, one channel, avd, a stem of another name, no classifier.
NETWORKS = {
    "resnet18": dict(),
    "resnet10t": dict(classes=5, input_shape=(None, None, 1)),
    "resnest14d": dict(classes=7),
    "rexnet_100": dict(classes=7),
    "resnetv2_18d": dict(include_top=False, pooling="avg"),
}
# Learned positions, no classes, a 1x1 convolution for a classifier, ...
LONG = {
    "res2net50_26w_4s": dict(),
    "skresnet18": dict(classes=7),
    "resnet51q": dict(),
    "resnet50_mlp": dict(classes=7),
    "resnetv2_50x1_bit": dict(classes=7),
    "resnet50_clip": dict(classes=5),
    "resnet50_clip_gap": dict(),
}


@pytest.mark.parametrize(
    "variant", [*NETWORKS, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]
)
def test_timm_reads_a_folder_strictly_and_computes_the_same(variant, tmp_path):
    torch = pytest.importorskip("torch")
    timm = import_timm(torch)
    arguments = dict(weights=None, classifier_activation=None) | {**NETWORKS, **LONG}[variant]
    model = fill(kr.create_model(variant, **arguments))
    names = [f"class {i}" for i in range(arguments.get("classes", 0))] or None
    channels = model.input_shape[-1]
    folder = kr.save_pretrained(
        model,
        tmp_path / "mine",
        class_names=names,
        preparation=Preparation(size=96, channels=channels, mean=(0.5,) * 3),
        licence="mit",
    )
    other = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    state = loading.source.checkpoint.read(folder / "model.safetensors").arrays
    assert state.keys() == other.state_dict().keys()
    for name, tensor in other.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), state[name], err_msg=name)
    assert list(other.pretrained_cfg["input_size"]) == [channels, 96, 96]
    assert other.pretrained_cfg["license"] == "mit"
    assert other.pretrained_cfg.get("label_names") == names
    # Keras' own norms compute float64 in float32 on other backends.
    dtype = "float64" if keras.backend.backend() == "tensorflow" else "float32"
    images = np.random.RandomState(0).uniform(-2, 2, (2, 64, 64, channels)).astype(dtype)
    with torch.no_grad():
        tensor = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
        expected = other.to(tensor.dtype)(tensor).numpy()
    with computing_in(dtype):
        ours = kr.create_model(folder, classifier_activation=None)
        found = keras.ops.convert_to_numpy(ours(images, training=False))
    assert relative_error(found, expected) <= TOLERANCES[dtype]
    again = kr.create_model(folder, classifier_activation=None)
    np.testing.assert_array_equal(outputs(again, channels), outputs(model, channels))


def test_timm_takes_a_folder_for_other_classes(tmp_path):
    torch = pytest.importorskip("torch")
    timm = import_timm(torch)
    folder = kr.save_pretrained(
        fill(kr.create_model("resnet10t", weights=None, classes=3)), tmp_path / "mine"
    )
    other = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5)
    state = loading.source.checkpoint.read(folder / "model.safetensors").arrays
    np.testing.assert_array_equal(other.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert other.fc.weight.shape == (5, 512)


OURS = {
    "no name in timm": lambda: (tiny_net("cifar"), {"depths": (1, 2), "planes": (24, 32)}),
    "other fields": lambda: (tiny(), TINY),
    "dilated": lambda: (tiny(output_stride=8), TINY),
    "pooled by the maximum": lambda: (tiny(pooling="max"), TINY),
}


@pytest.mark.parametrize("kind", OURS)
def test_what_timm_would_build_otherwise_is_ours_and_read_back(kind, tmp_path):
    model, changes = OURS[kind]()
    if kind == "no name in timm":
        changes |= {"stem_width": 16}
    folder = kr.save_pretrained(model, tmp_path / "mine", config_changes=changes)
    assert config_of(folder)["architecture"].startswith("keras-resnets/")
    ours = kr.create_model(folder, classifier_activation=None)
    np.testing.assert_array_equal(outputs(ours), outputs(model))
    card = (folder / "README.md").read_text()
    assert "timm" not in card
    assert "library_name: keras-resnets" in card
    weights = kr.create_model(folder / "model.safetensors", classifier_activation=None)
    np.testing.assert_array_equal(outputs(weights), outputs(model))
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError, match=r"Unknown model \(keras-resnets/resnet"):
        import_timm(torch).create_model(f"local-dir:{folder}", pretrained=True)


# What is read back -------------------------------------------------------------------------------


def test_a_folder_says_how_its_images_are_prepared_and_what_its_classes_are(tmp_path):
    folder = kr.save_pretrained(
        tiny(classifier_activation="sigmoid"),
        tmp_path / "mine",
        config_changes=TINY,
        preparation=kr.layers.Preprocessor(64, 0.9, "bicubic", (0.5,) * 3, (0.2,) * 3),
        class_names=[("n1", "daisy"), ("n2", "rose"), "tulip"],
        threshold=0.25,
        licence="cc-by-nc-4.0",
    )
    assert {path.name for path in folder.iterdir()} == FILES
    located = loading.locate(folder)
    assert located.preparation == OWN
    assert kr.preprocessor(folder).preparation == OWN
    assert located.class_names == (("n1", "daisy"), ("n2", "rose"), ("tulip", "tulip"))
    assert located.threshold == 0.25
    assert located.licence == "cc-by-nc-4.0"
    assert loading.locate(folder / "model.safetensors").preparation == OWN
    again = kr.save_pretrained(folder, tmp_path / "again")
    assert config_of(again) == config_of(folder)
    assert (again / "README.md").read_text().replace("again", "mine") == (
        folder / "README.md"
    ).read_text()


def test_what_stands_around_a_network_is_not_a_part_of_it(tmp_path):
    """Augmentation, normalisation, dropout, probabilities: what a fine-tuned model has."""
    net = tiny(include_preprocessing=True, dropout=0.5, drop_path=0.1, drop_block=0.1)
    images = keras.Input((64, 64, 3))
    x = net(keras.layers.RandomFlip()(images))
    model = keras.Model(images, keras.layers.Activation("softmax")(x))
    folder = kr.save_pretrained(
        model, tmp_path / "mine", architecture="resnet18", config_changes=TINY
    )
    assert config_of(folder)["pretrained_cfg"]["input_size"] == [3, 64, 64]
    inside = kr.create_model(folder, include_preprocessing=True, classifier_activation=None)
    np.testing.assert_allclose(outputs(inside), outputs(net), rtol=1e-5)


def test_a_backbone_is_read_back_as_its_features(tmp_path):
    model = tiny(include_top=False, classes=None)
    folder = kr.save_pretrained(model, tmp_path / "mine", config_changes=TINY)
    expected = outputs(model)
    np.testing.assert_allclose(outputs(kr.create_model(folder)), expected.mean((1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(outputs(kr.create_model(folder, include_top=False)), expected)
    assert kr.create_model(folder, classes=5).output_shape == (None, 5)


def test_an_earlier_run_becomes_a_folder_with_what_it_measured(tmp_path):
    version_io.unpack(version_io.FOLDER / "version_0_1" / "runs.tar.xz", tmp_path)
    run = tmp_path / "stopped"
    shutil.copy(tmp_path / "finished" / "evaluation.json", run)
    folder = kr.save_pretrained(run, tmp_path / "digits", licence="apache-2.0")
    config = config_of(folder)
    measured = json.loads((run / "evaluation.json").read_text())
    assert config["label_names"] == json.loads((run / "classes.json").read_text())
    metric = config["keras_resnets"]["metrics"][0]
    assert metric["value"] == measured["top1"]
    assert metric["command"] == "keras-resnets evaluate --model stopped --data digits"
    assert str(tmp_path) not in json.dumps(config)
    whole = keras.models.load_model(run / "best.keras")
    images = np.random.RandomState(0).uniform(0, 255, (2, 32, 32, 3)).astype("float32")
    ours = kr.create_model(folder, include_preprocessing=True)
    np.testing.assert_allclose(ours.predict(images), whole.predict(images), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="folder must be another than the run's"):
        kr.save_pretrained(tiny(), run, config_changes=TINY, overwrite=True)


# Refusals ----------------------------------------------------------------------------------------

WRONG = {
    "another network": (lambda: tiny(), {}, "only_in_the_architecture='layer1_1_conv1"),
    "another activation": (
        lambda: tiny(act="silu"),
        {"config_changes": TINY},
        "act1: activation='silu', not 'relu'",
    ),
    "no such field": (lambda: tiny(), {"config_changes": {"deep": 1}}, "'deep' is neither"),
    "a function": (
        lambda: tiny(),
        {"config_changes": {"norm": np.mean}},
        "config_changes must be what JSON holds",
    ),
    "a layer of one's own": (
        lambda: keras.Sequential([tiny(include_top=False), keras.layers.Conv2D(1, 1, name="mine")]),
        {"architecture": "resnet18", "config_changes": TINY},
        "only_in_the_model='mine'",
    ),
    "a name that is none": (lambda: tiny(name="mine"), {}, "architecture must be named"),
    "no model": (lambda: 3, {}, "model must be a keras.Model, or what names one"),
    "too few names": (
        lambda: tiny(),
        {"config_changes": TINY, "class_names": ["a"]},
        "class_names must be as many as the model's classes, 3",
    ),
    "names twice": (lambda: tiny(), {"class_names": ["a", "b", "a"]}, "must be different names"),
    "one channel too few": (
        lambda: tiny(input_shape=(None, None, 4)),
        {"config_changes": TINY, "preparation": OWN},
        "preparation must have the channels of the model, 4",
    ),
    "a metric without a value": (
        lambda: tiny(),
        {"metrics": [{"name": "top-1"}]},
        "metrics must be a list of mappings with name and value",
    ),
    "an unknown fact": (lambda: tiny(), {"license": "mit"}, "'license' is no fact of a model. Did"),
    "a named architecture": (
        lambda: "runs/mine",
        {"architecture": "resnet18"},
        "must be left out where the model is named",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_contradicts_itself_is_refused_and_nothing_is_written(what, tmp_path):
    model, arguments, message = WRONG[what]
    with pytest.raises((ValueError, TypeError)) as error:
        kr.save_pretrained(model(), tmp_path / "mine", **arguments)
    assert message in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_replaced_only_if_asked_for_and_wholly_or_not_at_all(tmp_path, monkeypatch):
    folder = kr.save_pretrained(tiny(), tmp_path / "mine", config_changes=TINY)
    (folder / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    other = tiny(classes=4)
    with pytest.raises(ValueError, match="overwrite=True replaces it"):
        kr.save_pretrained(other, folder, config_changes=TINY)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pretrained.card, "text_of", full)
        with pytest.raises(OSError, match="the disk is full"):
            kr.save_pretrained(other, folder, config_changes=TINY, overwrite=True)
        with pytest.raises(OSError, match="the disk is full"):
            kr.save_pretrained(other, tmp_path / "new", config_changes=TINY)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    kr.save_pretrained(other, folder, config_changes=TINY, overwrite=True)
    assert kr.create_model(folder).output_shape == (None, 4)
    assert (folder / "notes.txt").read_text() == "mine"


# The hub -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_what_is_pushed_is_what_is_read(tmp_path):
    repositories = {"me/cards": Repository({"README.md": b"Written by hand."})}
    script = """
CHANGES = dict(depths=(1, 1, 1, 1), planes=(8, 16, 24, 32))
model = kr.ResNet18(weights=None, classes=3, **CHANGES)
facts = dict(config_changes=CHANGES, class_names=["a", "b", "c"], licence="mit")
os.environ.pop("HF_TOKEN", None)
attempt("no token", lambda: kr.push_to_hub(model, "me/flowers", **facts))
os.environ["HF_TOKEN"] = "hf_good"
attempt("no repository", lambda: kr.push_to_hub(model, "flowers", **facts))
attempt("no name", lambda: kr.push_to_hub(model, "me/flo--wers", **facts))
attempt("another network", lambda: kr.push_to_hub(model, "me/flowers"))
results["sent"] = "nothing"
attempt("pushed", lambda: kr.push_to_hub(model, "me/flowers", private=True, **facts))
attempt("same", lambda: described(kr.create_model("hf://me/flowers")))
attempt("model", lambda: described(model))
attempt("again", lambda: kr.push_to_hub(model, "me/flowers", **facts))
attempt("a card that is there", lambda: kr.push_to_hub(model, "me/cards", **facts))
attempt("a wrong token", lambda: kr.push_to_hub(model, "me/flowers", token="hf_bad", **facts))
attempt("somebody else's", lambda: kr.push_to_hub(model, "you/flowers", **facts))
"""
    with serving(repositories) as server:
        # The client's newer way to send large files needs a store of its own.
        found = client(script, endpoint(server), tmp_path, HF_HUB_DISABLE_XET="1", HF_TOKEN="")
        asked = server.requests
    first = next(i for i, request in enumerate(asked) if request[0] == "POST")
    assert asked[:first] == [], "nothing is sent before all is checked"
    assert "log in with `hf auth login`" in found["no token"][1]
    assert "repo_id must be 'owner/repository'" in found["no repository"][1]
    assert "Cannot have -- or .." in found["no name"][1]
    assert "only_in_the_architecture" in found["another network"][1]
    assert found["pushed"] == found["again"] == "hf://me/flowers"
    assert found["same"][1:] == found["model"][1:]
    assert set(repositories["me/flowers"].files) == FILES
    card = repositories["me/flowers"].files["README.md"].decode()
    assert 'kr.create_model("hf://me/flowers")' in card
    assert repositories["me/flowers"].private
    assert repositories["me/cards"].files["README.md"] == b"Written by hand."
    assert "model.safetensors" in repositories["me/cards"].files
    assert "the hub does not know the token" in found["a wrong token"][1]
    assert "hf_bad" not in found["a wrong token"][1]
    assert "the token may not write there" in found["somebody else's"][1]

"""Files from the hub: its real client against a small server on loopback that speaks its endpoints.

The client reads `HF_ENDPOINT`, `HF_HOME` and the rest when it is imported, so it runs in processes
of its own; each does several things, because starting Keras takes longer than all of them.
"""

import json
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from checkpoint_files import assert_same, build, state_of, weights_of
from loopback_hub import CHANGES, COMMIT, Repository, client, endpoint, serving
from safetensors.numpy import save, save_file

import keras_resnets as kr
from keras_resnets.weights import hub, source

pytestmark = pytest.mark.with_torch

WEIGHTS = save(state_of("basic"))
CONFIG = {"architecture": "resnet18", "num_classes": 10, "pretrained_cfg": {"license": "mit"}}


def described(model) -> list:
    total = sum(float(np.abs(w).astype("float64").sum()) for w in model.get_weights())
    return [model.name, list(model.output_shape), pytest.approx(total, rel=1e-6)]


def files(**others: bytes) -> dict[str, bytes]:
    return {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": WEIGHTS} | others


@pytest.fixture(scope="module")
def expected():
    model = build("basic", classes=10)
    kr.load_weights(model, state_of("basic"))
    return described(model)


def test_downloads(tmp_path, expected):
    """Everything that can happen while the server is up."""
    gated = {"license": "cc-by-nc-4.0", **CONFIG}
    repositories = {
        "me/whole": Repository(files()),
        # The client writes 10 MiB at a time, so that much must have come for it to go on there.
        "me/cut": Repository({"model.safetensors": bytes(24 * 2**20)}, cut=True),
        "me/damaged": Repository(files(), damage=1),
        "me/empty": Repository({"README.md": b"nothing"}),
        "me/no-config": Repository({"model.safetensors": WEIGHTS}),
        "me/gated": Repository(files(), status=403),
        "me/broken-config": Repository(files() | {"config.json": b"[1, 2"}),
        "timm/resnet18.tv_in1k": Repository(files()),
        "timm/resnet18.fb_ssl_yfcc100m_ft_in1k": Repository(files()),
        "me/licence": Repository(files() | {"config.json": json.dumps(gated).encode()}),
    }
    script = """
attempt("whole", lambda: fetched("hf://me/whole"))
attempt("again", lambda: fetched("hf://me/whole"))
attempt("revision", lambda: fetched("hf://me/whole@COMMIT"))
attempt("unknown revision", lambda: fetched("hf://me/whole@v7"))
attempt("model", lambda: described(kr.create_model("hf://me/whole", **CHANGES)))
attempt("cut", lambda: fetched("hf://me/cut"))
attempt("damaged", lambda: fetched("hf://me/damaged"))
results["kept"] = os.listdir(os.path.join(hub_folder("me/damaged"), "blobs"))
attempt("damaged again", lambda: described(kr.ResNet18(weights="hf://me/damaged", **CHANGES)))
attempt("empty", lambda: fetched("hf://me/empty"))
attempt("no config", lambda: fetched("hf://me/no-config"))
attempt("no architecture", lambda: kr.create_model("hf://me/no-config"))
attempt("broken config", lambda: kr.create_model("hf://me/broken-config"))
attempt("private", lambda: kr.ResNet18(weights="hf://me/private"))
attempt("gated", lambda: kr.ResNet18(weights="hf://me/gated"))
attempt("other", lambda: kr.ResNet50(weights="hf://me/whole"))
attempt("tag", lambda: described(kr.ResNet18(weights="tv_in1k", **CHANGES)))
for name in ("non-commercial", "non-commercial again"):
    attempt(name, lambda: described(
        kr.ResNet18(weights="fb_ssl_yfcc100m_ft_in1k", **CHANGES)))
attempt("by config", lambda: described(kr.ResNet18(weights="hf://me/licence", **CHANGES)))
model = kr.ResNet18(weights=None, classes=10, **CHANGES)
attempt("load_weights", lambda: kr.load_weights(model, "hf://me/whole").fits)
results["left"] = [f for _, _, fs in os.walk(os.environ["HF_HOME"]) for f in fs if "incomp" in f]
""".replace("COMMIT", COMMIT)
    with serving(repositories) as server:
        found = client(script, endpoint(server), tmp_path)
        asked = server.requests

    def refused(name: str, *parts: str) -> None:
        kind, message = found[name]
        assert kind == "ValueError", message
        assert message.startswith("weights must be those of a repository that can be read: ")
        assert str(tmp_path) in message, "the cache is named"
        for part in parts:
            assert part in message, name

    whole = ["model.safetensors", len(WEIGHTS), CONFIG]
    assert found["whole"] == found["again"] == found["revision"] == whole
    assert found["model"] == found["damaged again"] == found["tag"] == expected
    assert found["cut"] == ["model.safetensors", 24 * 2**20, None]
    gets = [request for request in asked if request[:2] == ("GET", "me/whole")]
    assert len(gets) == 2, "weights and config come once, for all that asked"
    ranges = [r[4] for r in asked if r[:2] == ("GET", "me/cut") and r[3] == "model.safetensors"]
    assert ranges == [None, "bytes=10485760-"], "the second goes on where it was cut"
    refused("unknown revision", "'me/whole' at 'v7'", "it has no revision 'v7'")
    refused("damaged", "model.safetensors differs from its SHA-256", "trying again downloads it")
    assert found["kept"] == []
    refused("empty", "it has neither model.safetensors nor pytorch_model.bin")
    assert found["no config"] == ["model.safetensors", len(WEIGHTS), None]
    assert "config.json must name the architecture" in found["no architecture"][1]
    assert "config.json must be a JSON object" in found["broken config"][1]
    refused("private", "'me/private' from ", "there is no such repository, or it is private")
    refused("private", "HF_TOKEN")
    refused("gated", "access must be granted: accept its terms", "HF_TOKEN")
    assert found["other"][1] == (
        "weights must be those of 'resnet50'; the config.json of 'hf://me/whole' says 'resnet18'. "
        "Build that with create_model('hf://me/whole'), or pass the file itself to load it "
        "regardless. Received: weights='hf://me/whole'"
    )
    assert found["tag warnings"] == []
    assert found["non-commercial"] == expected
    assert found["non-commercial warnings"] == [
        "The weights 'resnet18.fb_ssl_yfcc100m_ft_in1k' have the licence 'cc-by-nc-4.0', which "
        "forbids commercial use."
    ]
    assert found["non-commercial again warnings"] == [], "once is enough"
    assert len(found["by config warnings"]) == 1
    assert found["load_weights"] is True
    assert found["left"] == []


def test_without_the_server_what_is_cached_still_loads(tmp_path, expected):
    pytest.importorskip("torch")
    import torch

    torch.save({k: torch.from_numpy(a) for k, a in state_of("basic").items()}, tmp_path / "w.bin")
    pickled = {"pytorch_model.bin": (tmp_path / "w.bin").read_bytes()}
    config = {"config.json": json.dumps(CONFIG).encode()}
    repositories = {
        "me/whole": Repository(files()),
        "me/bin": Repository(pickled | config),
        "me/bin-alone": Repository(pickled),
    }
    home = tmp_path / "home"
    script = """
for name in os.environ["NAMES"].split():
    attempt(name, lambda: described(kr.ResNet18(weights=f"hf://me/{name}", **CHANGES)))
"""
    with serving(repositories) as server:
        address = endpoint(server)
        first = client(script, address, home, NAMES="whole bin bin-alone")
        methods = {(r[0], r[3]) for r in server.requests if r[1] == "me/bin"}
    names = ("whole", "bin", "bin-alone")
    assert [first[name] for name in names] == [expected] * 3
    assert ("GET", "pytorch_model.bin") in methods
    assert ("GET", "model.safetensors") not in methods

    # The server is down from here on. The client tries for some 20 seconds each time.
    assert client(script, address, home, NAMES="whole")["whole"] == expected
    script += 'attempt("gone", lambda: kr.ResNet18(weights="hf://me/gone", **CHANGES))'
    found = client(script, address, home, NAMES=" ".join(names), HF_HUB_OFFLINE="1")
    assert [found[name] for name in names] == [expected] * 3
    kind, message = found["gone"]
    assert kind == "ValueError"
    for part in ("'me/gone'", address, str(home), "unset the `HF_HUB_OFFLINE` environment"):
        assert part in message


# Names and folders, without a server --------------------------------------------------------------


@pytest.mark.parametrize("source", ["hf://", "hf://me", "hf://me/a/b", "hf://me/a@", "hf://me a/b"])
def test_an_address_that_is_none_is_refused(source):
    for load in (lambda: kr.ResNet18(weights=source), lambda: kr.create_model(source)):
        with pytest.raises(ValueError, match="weights on the hub must be named 'hf://owner/repo"):
            load()


@pytest.fixture
def folder(tmp_path):
    """A fine-tuned checkpoint in a folder like a repository."""
    path = tmp_path / "mine"
    path.mkdir()
    save_file(state_of("basic"), str(path / "model.safetensors"))
    (path / "config.json").write_text(json.dumps(CONFIG))
    return path


def rewrite(folder: Path, **changes) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))


def test_a_folder_builds_the_architecture_that_its_config_names(folder, expected):
    assert described(kr.create_model(str(folder), **CHANGES)) == expected
    assert described(kr.create_model(folder, **CHANGES)) == expected
    assert described(kr.ResNet18(weights=folder, **CHANGES)) == expected
    model = build("basic", classes=10)
    assert kr.load_weights(model, folder).fits
    assert_same(weights_of(model), weights_of(kr.create_model(folder, **CHANGES)))
    with pytest.raises(ValueError, match="its own"):
        kr.create_model(folder, weights=None)


def test_a_folder_of_a_models_name_needs_its_path(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    folder.rename(folder.parent / "resnet18")
    assert kr.create_model("./resnet18", **CHANGES).output_shape == (None, 10)
    assert kr.create_model("resnet18", weights=None, **CHANGES).output_shape == (None, 1000)


def test_the_channels_are_those_of_the_config(folder):
    state = state_of("basic")
    state["conv1.weight"] = state["conv1.weight"][:, :1].copy()
    save_file(state, str(folder / "model.safetensors"))
    rewrite(folder, model_args={"in_chans": 1})
    model = kr.create_model(folder, **CHANGES)
    assert model.input_shape == (None, None, None, 1)
    rewrite(folder, pretrained_cfg={"input_size": [1, 28, 28]})
    assert kr.create_model(folder, **CHANGES).input_shape == (None, None, None, 1)
    assert kr.create_model(folder, input_shape=(32, 32, 3), **CHANGES).input_shape[-1] == 3


def test_a_config_that_contradicts_its_weights_is_refused(folder):
    rewrite(folder, num_classes=12)
    with pytest.raises(ValueError, match=r"whose classifier has 10 classes.*num_classes=12"):
        kr.create_model(folder, **CHANGES)
    rewrite(folder, architecture="resnet_of_mine")
    with pytest.raises(ValueError, match="name must be one of list_models"):
        kr.create_model(folder)
    with pytest.raises(ValueError, match=r"must be those of 'resnet18'; the config\.json of"):
        kr.ResNet18(weights=folder)
    rewrite(folder, model_args={"output_stride": 8, "drop_rate": 0.1})
    with pytest.raises(ValueError, match="has model_args that change it: output_stride"):
        kr.create_model(folder, **CHANGES)


def test_preprocessing_inside_the_model_has_the_mean_of_the_weights(folder):
    images = np.random.RandomState(0).randint(0, 256, (1, 64, 64, 3)).astype("float32")
    mean, std = np.array([0.5, 0.4, 0.3]), np.array([0.5, 0.25, 0.2])
    rewrite(folder, pretrained_cfg={"mean": mean.tolist(), "std": std.tolist()})
    inside = kr.create_model(folder, include_preprocessing=True, **CHANGES)
    outside = kr.create_model(folder, **CHANGES)
    expected = keras.ops.convert_to_numpy(outside((images / 255 - mean) / std))
    ours = keras.ops.convert_to_numpy(inside(images))
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


@pytest.mark.parametrize("found", [[], ["a.safetensors", "b.pth"], ["notes.txt"]], ids=str)
def test_a_folder_without_one_file_of_weights_is_refused(found, tmp_path):
    for name in found:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"weights must be a folder with model\.safetensors or"):
        hub.fetch(tmp_path)


def test_a_single_file_of_another_name_will_do(folder, expected):
    (folder / "model.safetensors").rename(folder / "best.safetensors")
    assert described(kr.create_model(folder, **CHANGES)) == expected


def test_a_licence_is_mentioned_once(folder):
    source._warn_of_licence.cache_clear()
    rewrite(folder, pretrained_cfg={"license": "unknown"})
    with pytest.warns(UserWarning, match="'unknown', which is not known to allow any use"):
        kr.create_model(folder, **CHANGES)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*licence")
        kr.create_model(folder, **CHANGES)
        rewrite(folder)  # MIT
        kr.create_model(folder, **CHANGES)


def test_a_variant_without_published_weights_says_so():
    with pytest.raises(ValueError, match="no checkpoint of 'resnet20' is published"):
        kr.ResNet20()
    with pytest.raises(
        ValueError, match="weights must be a published tag of 'resnet18': "
    ) as error:
        kr.ResNet18(weights="tv_in2k")
    assert "Did you mean 'tv_in1k'?" in str(error.value)

"""Write files as this version of the package saves them, for later versions to read.

    pip install -e ".[test]"
    python tools/make_version_fixtures.py

The files go to `tests/fixtures/version_X_Y`, X.Y being the version, and are never written again
once it is out: `tests/test_version_fixtures.py` reads those of every version.

    networks.json
        {name: {"variant": name, "arguments": those of the builder besides `weights`,
                "takes": "rgb" (0 to 255) or "normalised" images, "formats": [ending, ...],
                "levels": {"P1": [stride, channels], ...}, "registered": [class of ours, ...]}}
    networks.tar.xz
        NAME.keras, NAME.weights.h5 and NAME.safetensors, as far as the formats say so
    outputs.npz
        "images": uint8 (2, 48, 32, 3), and under each name what the network makes of them
    runs.tar.xz
        stopped/: a run on digits that was told to stop in its last epoch, all that it wrote.
        finished/: the same run, not stopped: what resuming the other has to lead to. Its text
        files only; left out are curves.png, confusion.png and worst.png, which are large, and the
        weights and checkpoints, which nobody compares with.

The archives are packed because HDF5 and Keras' configuration take ten times the room of weights as
few as these.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# The package beside this file, whichever is installed: it is its version that is written down.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import keras  # noqa: E402
import numpy as np  # noqa: E402
from deterministic import random_images  # noqa: E402
from test_training import fill  # noqa: E402
from version_io import FOLDER, build, command, inputs, pack  # noqa: E402

import keras_resnets as kr  # noqa: E402

FORMATS = ("keras", "weights.h5", "safetensors")


def _net(variant: str, formats=FORMATS, takes: str = "normalised", **arguments) -> dict[str, Any]:
    if not variant.startswith("rexnet"):
        arguments = dict(depths=[1, 2], planes=[8, 16], stem_width=8) | arguments
    if arguments.get("include_top", True):
        arguments = dict(classes=10, classifier_activation=None) | arguments
    return dict(variant=variant, takes=takes, formats=list(formats), arguments=arguments)


_REXNET = dict(initial_channels=8, final_channels=80, depth=0.2)

# One of each family and form, and what changes the layers of any of them.
NETS = {
    "resnet-basic": _net("resnet18"),
    "resnet-d-se": _net("seresnet152d"),
    "resnet-cifar": _net("resnet20", depths=[1, 1, 2], planes=[8, 12, 16]),
    "resnet-wide": _net("wide_resnet28_10", include_top=False, pooling="avg"),
    "resnext-t-se": _net("seresnext26t_32x4d", cardinality=2, base_width=32),
    "resnest": _net("resnest50d", cardinality=2, base_width=64),
    "resnest-fast": _net("resnest50d_1s4x24d", cardinality=2, base_width=64),
    "res2net": _net("res2net50_26w_4s"),
    "rexnet": _net("rexnet_100", width=0.1, **_REXNET),
    # Its head is 1280 and 1024 wide whatever the configuration says: see `fill_coarsely`.
    "rexnet-lite": _net("rexnet_lite_100", **_REXNET),
    "remat": _net("resnext50_32x4d", cardinality=2, base_width=32, remat=True, prefix="left."),
    "drops": _net(
        "resnet50d",
        takes="rgb",
        include_preprocessing=True,
        classifier_activation="softmax",
        drop_path=0.2,
        drop_block=0.1,
        dropout=0.3,
    ),
    # The preprocessing stands in front of the network, so it is no argument of the builder.
    "preprocessor": _net("resnet18", ["keras"], "rgb", include_top=False),
}
# The images' shorter side is what is resized to, so this crops: resizing rounds to whole grey
# levels, which may come out otherwise on another machine.
PREPROCESSING = dict(
    input_size=[3, 24, 24], crop_pct=0.75, interpolation="bicubic", mean=[0.5] * 3, std=[0.25] * 3
)

TRAIN = """
    train --data digits --recipe quick --model seresnet18 --epochs 6 --image-size 16
    --set depths=1,1 --set planes=8,16 --set stem_width=8 --set small_inputs=true
    --set drop_path=0.05 --set drop_block=0.02 --set ramp_drop_block=true --set dropout=0.05
    --set ema=0.97 --batch-size 32 --learning-rate 0.2 --seed 2 --checkpoint-every 11 --keep 1 --out
""".split()
# Of 264 steps: in the middle of the last epoch, where most has to be picked up again.
LAST_CHECKPOINT = "step-0000000242.safetensors"


def fill_coarsely(model: keras.Model) -> None:
    """Gives a model deterministic weights that pack well: of 8 bits, and repeated in large arrays.

    The period is a prime number, so that no two channels get the same.
    """
    fill(model)
    for layer in model.layers:
        for variable in layer.weights:
            if variable.name != "rate":
                values = np.round(keras.ops.convert_to_numpy(variable) * 256) / 256
                variable.assign(np.resize(values.ravel()[:1021], values.shape))


def registered_layers() -> set[str]:
    """The names under which our layers and models are registered."""
    return {
        name
        for name, value in keras.saving.get_custom_objects().items()
        if name.startswith("keras_resnets>") and issubclass(value, keras.layers.Layer)
    }


def names_of_classes(config: Any) -> Iterator[str]:
    """The registered names in a configuration, and in what it holds, that are ours."""
    if isinstance(config, dict):
        if str(config.get("registered_name")).startswith("keras_resnets>"):
            yield config["registered_name"]
        config = list(config.values())
    if isinstance(config, list):
        for value in config:
            yield from names_of_classes(value)


def write_networks(output: Path, folder: Path) -> None:
    """Writes every network in its formats, and what it is and gives."""
    images = random_images(48, 32, batch=2)  # In [-2, 2).
    arrays = {"images": np.floor((images + 2) * 64).astype("uint8")}
    for name, net in NETS.items():
        before = {}
        if name == "preprocessor":
            photograph = keras.Input((None, None, 3), name="photograph")
            before["input_tensor"] = kr.preprocessor(PREPROCESSING)(photograph)
        model = build(net, **before)
        fill_coarsely(model)
        arrays[name] = keras.ops.convert_to_numpy(model(inputs(net, arrays["images"])))
        first, second = arrays[name]
        if not 1e-2 < np.abs(first - second).max() < 1e4:  # Also false for NaN.
            raise RuntimeError(f"{name} does not tell the images apart.")
        model.save(folder / f"{name}.keras")
        prefix = net["arguments"].get("prefix", "")
        if "weights.h5" in net["formats"]:
            model.save_weights(folder / f"{name}.weights.h5")
        if "safetensors" in net["formats"]:
            kr.save_safetensors(model, folder / f"{name}.safetensors", prefix=prefix)
        levels = kr.feature_levels(model, prefix)
        net["levels"] = {key: [level.stride, level.channels] for key, level in levels.items()}
        with zipfile.ZipFile(folder / f"{name}.keras") as archive:
            config = json.loads(archive.read("config.json"))
        net["registered"] = sorted(set(names_of_classes(config)))
        print(f"{name}: {model.count_params()} weights, up to {np.abs(arrays[name]).max():.3g}")
    missing = registered_layers() - {layer for net in NETS.values() for layer in net["registered"]}
    if missing:
        raise RuntimeError(f"no network has {', '.join(sorted(missing))}.")
    text = ",\n".join(f"{json.dumps(name)}: {json.dumps(net)}" for name, net in NETS.items())
    (output / "networks.json").write_text(f"{{\n{text}\n}}\n")
    np.savez_compressed(output / "outputs.npz", **arrays)
    pack(folder, output / "networks.tar.xz")


@contextlib.contextmanager
def interrupted_after(file: str) -> Iterator[None]:
    """Sends Ctrl-C once, when a file of this name takes its place."""
    replace, sent = os.replace, []

    def replaced(source, target):
        replace(source, target)
        if Path(target).name == file and not sent:
            sent.append(file)
            os.kill(os.getpid(), signal.SIGINT)

    with mock.patch.object(os, "replace", replaced):
        yield


def write_runs(output: Path, folder: Path) -> None:
    """Trains twice, once with a stop."""
    with interrupted_after(LAST_CHECKPOINT):
        code, _, errors = command(*TRAIN, folder / "stopped")
    checkpoints = [path.name for path in (folder / "stopped" / "checkpoints").iterdir()]
    if code != 130 or checkpoints != [LAST_CHECKPOINT]:
        raise RuntimeError(f"the run must stop at its last checkpoint. {code}: {errors}")
    code, printed, errors = command(*TRAIN, folder / "whole")
    if code:
        raise RuntimeError(errors)
    print(printed)
    (folder / "finished").mkdir()
    for path in (folder / "whole").iterdir():
        if path.suffix in (".json", ".csv", ".md"):
            shutil.copy(path, folder / "finished")
    shutil.rmtree(folder / "whole")
    pack(folder, output / "runs.tar.xz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    major, minor, _ = kr.__version__.split(".", 2)
    parser.add_argument("--output", type=Path, default=FOLDER / f"version_{major}_{minor}")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    for write in (write_networks, write_runs):
        with tempfile.TemporaryDirectory() as folder:
            write(output, Path(folder))


if __name__ == "__main__":
    main()

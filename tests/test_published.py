"""Every architecture with published checkpoints: one that timm made arrives through the hub exact.

The weights cannot be downloaded here, so timm makes files of the same form with random statistics,
and a server on loopback stands for the hub. It runs where timm and torch are installed
(`make test-backends`), once, on the torch backend.
"""

import json

import keras
import numpy as np
import pytest
from checkpoint_files import import_timm
from deterministic import random_images, random_state
from loopback_hub import Repository, client, endpoint, serving
from safetensors.numpy import save

from keras_resnets.weights import published


def size_of(name: str) -> tuple[int, int, int]:
    """Odd, not square, two images; even where timm fails at odd sizes, being anti-aliased."""
    return (64, 96, 2) if "resnetaa" in name or "_clip" in name else (75, 109, 2)


# The last scale of a residual branch, or the last kernel where no norm follows.
LAST = ("bn3.weight", "conv3.bn.weight", "conv3_1x1.bn.weight", "conv3.weight")
# A file of 3.7 GB and a network of as much, twice; its names and shapes are compared like the rest.
TOO_LARGE = {"resnetv2_152x4_bit"}

LOAD_ALL = """
import shutil, sys
from pathlib import Path
sys.path.insert(0, os.environ["TESTS"])
from deterministic import random_images
from goldens_io import zeros_for_initial_weights
for name, (height, width, batch) in SIZES.items():
    images = random_images(height, width, batch=batch)
    with zeros_for_initial_weights():
        model = kr.create_model(name, classifier_activation=None)
    logits = model(images, training=False)
    results[name] = np.asarray(logits.detach()).tolist()
    del model
    shutil.rmtree(Path(os.environ["HF_HOME"]) / "hub")  # The next is another 100 MB or 2 GB.
"""


class MadeByTimm(dict):
    """Repositories that are made when they are asked for; only the last one is kept."""

    def __init__(self, torch, timm):
        self.torch, self.timm = torch, timm
        self.logits = {}

    def get(self, hub_id, default=None):
        if hub_id not in self:
            self.clear()
            architecture, _, tag = hub_id.removeprefix("timm/").partition(".")
            self[hub_id] = self.make(published.find(architecture, tag))
        return self[hub_id]

    def make(self, row: published.Pretrained) -> Repository:
        # Nothing is initialised that would be overwritten; a blur's filter is in no state dict.
        with self.torch.device("cpu" if "blur" in row.architecture else "meta"):
            model = self.timm.create_model(row.architecture, num_classes=row.classes).eval()
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        # Smaller residual branches: with whole ones the random ResNeSt-269 reaches 4e9, and timm in
        # float32 is 22 % off timm in float64, so that no two programs could agree on its logits.
        state = {
            name: array * np.float32(0.2) if name.endswith(LAST) else array
            for name, array in random_state(shapes, seed=7).items()
        }
        tensors = {name: self.torch.from_numpy(array) for name, array in state.items()}
        # The counters stay without memory: evaluation does not look at them.
        model.load_state_dict(tensors, strict=False, assign=True)
        height, width, batch = size_of(row.name)
        images = random_images(height, width, batch=batch).transpose(0, 3, 1, 2).copy()
        with self.torch.inference_mode():
            self.logits[row.name] = model(self.torch.from_numpy(images)).numpy()
        config = {"architecture": row.architecture, "num_classes": row.classes}
        return Repository(
            {"config.json": json.dumps(config).encode(), "model.safetensors": save(state)}
        )


def chosen() -> list[str]:
    """A checkpoint of each architecture, with a classifier."""
    return [
        max(rows.values(), key=lambda row: (row.imagenet, row.classes)).name
        for architecture, rows in published.table().items()
        if architecture not in TOO_LARGE
    ]


def test_every_architecture_with_weights_is_among_them():
    assert len(chosen()) == len(published.table()) - len(TOO_LARGE) == 116


@pytest.mark.with_torch
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="once, on the fastest to build")
@pytest.mark.parametrize("part", range(6))
def test_a_checkpoint_made_by_timm_gives_its_logits(part, tmp_path):
    torch = pytest.importorskip("torch")
    timm = import_timm(torch)
    names = chosen()[part::6]
    made = MadeByTimm(torch, timm)
    with serving(made) as server:
        script = f"SIZES = { {name: size_of(name) for name in names} }\n{LOAD_ALL}"
        results = client(script, endpoint(server), tmp_path, TESTS=__file__.rpartition("/")[0])
    assert sorted(made.logits) == sorted(names)
    for name in names:
        expected = made.logits[name]
        error = np.abs(np.asarray(results[name]) - expected).max() / np.abs(expected).max()
        assert error <= 1e-4, f"{name}: relative error {error:.1e}"

"""Files are written whole or not at all, whatever the disk, the umask and the name."""

import contextlib
import os
import stat

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

from keras_resnets import files

resource = pytest.importorskip("resource")  # Windows has none.


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(64, 7), keras.layers.BatchNormalization()]
    )


WRITERS = {
    "text": lambda path, model: files.write_text(path, "x" * 40_000),
    "safetensors": lambda path, model: files.write_safetensors(
        path, {"a": np.zeros(10_000, "float32")}, {}
    ),
    "weights.h5": files.write_keras_weights,
}


@contextlib.contextmanager
def room_for(size: int):
    """No file may grow beyond so many bytes, as on a disk that fills."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_that_fills_is_an_error_and_leaves_what_was_there(kind, tmp_path, model):
    path = tmp_path / f"new.{kind}"
    path.write_bytes(b"old")
    with room_for(20_000), pytest.raises(OSError, match="path must be writable, on a disk with"):
        WRITERS[kind](path, model)
    assert os.listdir(tmp_path) == [path.name]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_has_the_mode_that_the_umask_says(kind, umask, tmp_path, model):
    before = os.umask(umask)
    try:
        WRITERS[kind](tmp_path / f"new.{kind}", model)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / f"new.{kind}").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("name", [b"caf\xe9", "café".encode(), b"a [x] *?"])
@pytest.mark.parametrize("kind", WRITERS)
def test_a_name_may_have_any_bytes(kind, name, tmp_path, model):
    path = os.path.join(os.fsencode(tmp_path), name + b"." + kind.encode())
    WRITERS[kind](os.fsdecode(path), model)
    assert os.listdir(os.fsencode(tmp_path)) == [os.path.basename(path)]


def test_weights_of_keras_are_those_that_keras_writes(tmp_path, model):
    files.write_keras_weights(tmp_path / "ours.weights.h5", model)
    expected = model.get_weights()
    model.set_weights([np.full_like(array, 7) for array in expected])
    model.load_weights(tmp_path / "ours.weights.h5")
    for ours, array in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_array_equal(ours, array)
    assert os.listdir(tmp_path) == ["ours.weights.h5"]


def test_safetensors_hold_what_was_written(tmp_path):
    files.write_safetensors(tmp_path / "x.safetensors", {"a": np.arange(3.0)}, {"by": "me"})
    np.testing.assert_array_equal(load_file(tmp_path / "x.safetensors")["a"], [0, 1, 2])

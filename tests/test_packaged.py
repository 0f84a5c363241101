"""`npz:FILE` and `keras:NAME`: arrays in one file, with their test split as validation."""

import keras
import numpy as np
import pytest

from keras_resnets.training import data, packaged, specs

RNG = np.random.default_rng(0)


def arrays(**changes) -> dict[str, np.ndarray]:
    """A data set of three classes."""
    whole = dict(
        x_train=RNG.integers(0, 256, (9, 8, 8, 3), "uint8"),
        y_train=np.arange(9) % 3,
        x_test=RNG.integers(0, 256, (6, 8, 8, 3), "uint8"),
        y_test=np.arange(6) % 3,
    )
    whole |= changes
    return {name: array for name, array in whole.items() if array is not None}


def written(path, **changes) -> str:
    np.savez(path, **arrays(**changes))
    return f"npz:{path}"


@pytest.mark.parametrize("split", ["train", "validation", "test", None])
def test_an_npz_has_its_test_images_for_validation(split, tmp_path):
    spec = written(tmp_path / "some.npz")
    examples = data.load(spec, split)
    assert examples.count == (9 if split == "train" else 6)
    assert examples.class_names == ("0", "1", "2")
    assert examples.numbered
    assert not examples.is_drawn
    first = next(iter(examples.dataset))
    expected = arrays_of(spec)["x_train" if split == "train" else "x_test"][0]
    np.testing.assert_array_equal(first["image"], expected)


def arrays_of(spec: str) -> dict[str, np.ndarray]:
    return dict(np.load(spec.removeprefix("npz:")))


def test_names_of_classes_and_gray_images_are_taken(tmp_path):
    names = np.array(["cat", "dog", "eel"])
    gray = RNG.integers(0, 256, (9, 8, 8), "uint8")
    examples = data.load(written(tmp_path / "a.npz", class_names=names, x_train=gray), "train")
    assert examples.class_names == ("cat", "dog", "eel")
    assert not examples.numbered
    assert next(iter(examples.dataset))["image"].shape == (8, 8, 1)


def test_a_path_holds_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert specs.absolute("npz:some.npz") == f"npz:{tmp_path / 'some.npz'}"
    assert specs.absolute("keras:mnist") == "keras:mnist"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(y_test=None), r"an npz must hold the arrays x_train, y_train, x_test, y_test"),
        (dict(x_train=np.zeros((9, 8, 8, 3), "float32")), "images must be uint8, from 0 to 255"),
        (dict(x_train=np.zeros((9, 8), "uint8")), r"of the shape \(N, H, W\)"),
        (dict(y_train=np.arange(9) % 3 + 1), "must be from 0 to one less than the number of cla"),
        (dict(y_train=np.arange(8) % 3), "labels must be 9 integers, one an image"),
        (dict(y_train=np.arange(9) / 3), "labels must be 9 integers, one an image"),
        (dict(y_test=np.arange(6) % 4), "labels must be from 0 to 2, as in the training split"),
        (
            dict(x_test=np.zeros((0, 8, 8, 3), "uint8"), y_test=np.zeros(0, int)),
            "must have images for the split 'test'",
        ),
        (dict(class_names=np.array(["cat"])), "class_names must be 3, one for each label"),
        (dict(y_train=np.array([{}] * 9)), "must hold arrays of numbers, not Python's objects"),
    ],
)
def test_an_npz_of_another_content_is_refused(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        data.load(written(tmp_path / "some.npz", **changes), "train")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive at all"])
def test_a_file_that_is_no_npz_is_refused(content, tmp_path):
    path = tmp_path / "some.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="an npz must be a whole file"):
        data.load(f"npz:{path}", "train")


def test_a_damaged_npz_is_refused(tmp_path):
    path = tmp_path / "some.npz"
    written(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="an npz must be a whole file"):
        data.load(f"npz:{path}", "train")


def test_no_file_is_said_to_be_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the data set must be a file\. Received: npz:"):
        data.load(f"npz:{tmp_path / 'gone.npz'}", "train")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "mnist", "fashion_mnist"])
def test_a_data_set_of_keras_has_the_names_of_its_classes(name, monkeypatch):
    count = len(packaged._KERAS[name])
    labels = np.arange(2 * count) % count
    images = RNG.integers(0, 256, (2 * count, 32, 32, 3), "uint8")
    # CIFAR's labels are columns.
    pair = (images, labels[:, None] if name.startswith("cifar") else labels)
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: (pair, pair))
    examples = data.load(f"keras:{name}", "validation")
    assert examples.count == 2 * count
    assert len(set(examples.class_names)) == count == (100 if name == "cifar100" else 10)
    assert list(examples.class_names) == sorted(examples.class_names) or name == "fashion_mnist"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match=r"one of cifar10, .*Did you mean 'cifar10'\?"):
        data.load("keras:cifar", "train")


@pytest.mark.parametrize("error", [Exception("URL fetch failure"), OSError("no route"), EOFError()])
def test_a_download_that_fails_says_what_to_do(error, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(keras.datasets.mnist, "load_data", fail)
    with pytest.raises(ConnectionError, match=r"Remove a damaged file.*npz:FILE.*keras:mnist"):
        data.load("keras:mnist", "train")


@pytest.mark.parametrize("spec", ["data.npz", "nzp:data.npz"])
def test_a_slip_in_the_name_of_a_data_set_is_corrected(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "data.npz")
    with pytest.raises(ValueError, match=r"Did you mean 'npz:data\.npz'\?"):
        data.load(spec, "train")

"""The weights that come along: they load without a network, and answer as they were measured.

Whether they reach what the catalog says is measured by `tools/train_cifar_weights.py` on all 10,000
test images. No image of CIFAR-10 is checked in to repeat it here, because the data set names no
licence; the photograph below is scikit-image's, in the public domain.
"""

import keras
import numpy as np
import pytest
import skimage.data
from deterministic import random_images
from goldens_io import FOLDER
from tiny_runs import invoke

import keras_resnets as kr
from keras_resnets import loading
from keras_resnets.weights import checkpoint, published

ROWS = {
    row.name: row for tags in published.table().values() for row in tags.values() if row.bundled
}


def test_there_is_one_network_a_family():
    families = {kr.model_info(row.architecture).family for row in ROWS.values()}
    assert len(families) == len(ROWS) >= 1


def test_their_files_are_all_that_is_there_and_small():
    files = list(published.BUNDLED.iterdir())
    assert {file.name for file in files} == {row.bundled.name for row in ROWS.values()}
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) <= 2 * 2**20
    assert sum(sizes) <= 8 * 2**20


@pytest.mark.parametrize("name", ROWS)
def test_a_row_and_its_file_say_the_same(name):
    row, metadata = ROWS[name], checkpoint.read_metadata(ROWS[name].bundled)
    assert (metadata["architecture"], metadata["tag"]) == (row.architecture, row.tag)
    assert metadata["license"] == row.license == "apache-2.0"
    located = loading.locate(str(row.bundled))
    assert located.preparation == row.preparation
    assert len(located.class_names) == row.classes
    assert row.top1 >= 90
    assert 1 <= row.training.best_epoch <= row.training.epochs


@pytest.mark.backend
@pytest.mark.parametrize("name", ROWS)
def test_every_backend_gives_the_logits_of_pytorch(name):
    images = random_images(*ROWS[name].input_size, batch=4)
    model = kr.create_model(name, classifier_activation=None)
    with np.load(FOLDER / "bundled.npz") as goldens:
        expected = goldens[name]
    found = keras.ops.convert_to_numpy(model(images, training=False))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", ROWS)
def test_a_photograph_of_a_cat_is_a_cat(name, tmp_path):
    path = tmp_path / "photograph.png"
    keras.utils.save_img(path, skimage.data.chelsea()[:, 75:375], scale=False)
    code, text = invoke("predict", path, "--model", name, "--top", 1)
    assert (code, "cat" in text) == (0, True), text


def test_the_other_tag_of_a_cifar_network_is_explained():
    with pytest.raises(ValueError, match=r"ImageNet's 1,000 classes.*Name a tag: cifar10"):
        kr.ResNet20()

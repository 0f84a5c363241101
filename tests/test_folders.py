"""Folders of images: what is a split, what a class, what is neither."""

import os
import warnings

import pytest
from tiny_runs import CLASSES, write_pictures

from keras_resnets.training import data
from keras_resnets.training.config import RunConfig
from keras_resnets.training.recipe import find_recipe


def load(folder, split="train", **options):
    return data.load(f"folder:{folder}", split, **options)


@pytest.fixture(autouse=True)
def no_warnings():
    """What a test does not expect is an error, as a warning says that something is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# Splits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "valid", "eval"),
        ("training", "dev", "Test"),
        ("training_set", "validation_set", "test_set"),
        ("train2017", "val2017", "test2017"),
        ("seg_train", "seg_val", "seg_test"),
        ("TrainSet", "dev-set", "Testing Images"),
    ],
)
def test_usual_names_of_splits_are_splits_in_any_case(train, validation, test, tmp_path):
    for name, count in ((train, 12), (validation, 6), (test, 3)):
        write_pictures(tmp_path / name, count)
    counts = [load(tmp_path, split).count for split in ("train", "validation", "test")]
    assert counts == [12, 6, 3]
    assert load(tmp_path).class_names == CLASSES


def test_splits_that_were_unpacked_into_themselves_are_found(tmp_path):
    """As archives of well-known data are: training_set/training_set/cats."""
    write_pictures(tmp_path / "training_set" / "training_set", 12)
    write_pictures(tmp_path / "test_set" / "test_set", 6)
    assert (load(tmp_path).count, load(tmp_path).class_names) == (9, CLASSES)
    assert load(tmp_path, "test").count == 6
    # One class that is called like the split is a class.
    write_pictures(tmp_path / "one" / "train", 4, names=("train",) * 3)
    write_pictures(tmp_path / "one" / "val", 4, names=("train",) * 3)
    assert load(tmp_path / "one").class_names == ("train",)


def test_a_folder_around_the_splits_is_no_class(tmp_path):
    for split in ("train", "val"):
        write_pictures(tmp_path / "images" / split, 6)
    with pytest.raises(ValueError, match=r"name the folder in it.*holds=\['images'\]"):
        load(tmp_path)
    assert load(tmp_path / "images").count == 6


@pytest.mark.parametrize("name", ["trains", "contest", "devil", "valley", "tests", "val20", "set"])
def test_words_that_only_look_like_splits_are_classes(name, tmp_path):
    write_pictures(tmp_path, 12, names=(name, "other", "third"))
    write_pictures(tmp_path / name, 2, names=("more",) * 3)
    assert load(tmp_path, "all").class_names == tuple(sorted((name, "other", "third")))


def test_two_folders_for_one_split_are_refused(tmp_path):
    for name in ("train", "val", "valid"):
        write_pictures(tmp_path / name, 3)
    with pytest.raises(ValueError, match=r"one folder for the split 'validation'.*val.*valid"):
        load(tmp_path)


def test_what_lies_beside_the_splits_is_named(tmp_path):
    for name in ("train", "test", "extra"):
        write_pictures(tmp_path / name, 12)
    (tmp_path / "test_without_labels").mkdir()
    with pytest.warns(UserWarning, match=r"2 folders beside train: extra, test_without_labels"):
        load(tmp_path)


def test_images_beside_the_classes_are_named(tmp_path):
    write_pictures(tmp_path, 12)
    next((tmp_path / "disc").iterdir()).rename(tmp_path / "lost.png")
    with pytest.warns(UserWarning, match=r"1 images in no class folder: lost\.png"):
        assert load(tmp_path, "all").count == 11


def test_splits_without_a_training_split_are_refused(tmp_path):
    for name in ("Valid", "test"):
        write_pictures(tmp_path / name, 3)
    with pytest.raises(ValueError, match=r"must have one for training.*\['Valid', 'test'\]"):
        load(tmp_path)


@pytest.mark.parametrize("names", [("fold_1", "fold_2"), ("a", "b", "c"), ("left eye", "right")])
def test_folders_that_hold_equal_folders_are_no_classes(names, tmp_path):
    for name in names:
        write_pictures(tmp_path / name, 6)
    with pytest.raises(ValueError, match=r"no classes: .*all hold cross, disc, stripes"):
        load(tmp_path)
    # One of them is a data set, and somebody who means it can say so.
    assert load(tmp_path / names[0]).class_names == CLASSES
    (tmp_path / "classes.txt").write_text("\n".join(reversed(names)))
    assert load(tmp_path).class_names == tuple(sorted(names))


@pytest.mark.parametrize("splits", [("train", "val"), ("Test", "Train"), ("dev", "eval", "train")])
def test_splits_below_the_classes_belong_above_them(splits, tmp_path):
    for split in splits:
        for name in ("cat", "dog"):
            write_pictures(tmp_path / name / split, 3, names=("",) * 3)
    with pytest.raises(ValueError, match=f"above those of classes: {splits[0]}/cat"):
        load(tmp_path)


def test_folders_below_classes_are_theirs_where_they_differ_or_are_one(tmp_path):
    write_pictures(tmp_path / "one" / "cat", 6, names=("images",) * 3)
    write_pictures(tmp_path / "one" / "dog", 6, names=("images",) * 3)
    write_pictures(tmp_path / "other" / "cat", 6, names=("2019", "2020", "2021"))
    write_pictures(tmp_path / "other" / "dog", 6, names=("2019", "2020", "2020"))
    for name in ("one", "other"):
        assert load(tmp_path / name, "all").class_names == ("cat", "dog")
        assert load(tmp_path / name, "all").count == 12


def test_a_class_may_be_called_like_a_split(tmp_path):
    write_pictures(tmp_path, 6, names=("dev", "test", "ops"))
    assert load(tmp_path, "all").class_names == ("dev", "ops", "test")


# What is not people's own ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [".ipynb_checkpoints", "__MACOSX", ".git", "@eaDir", "Thumbs", "$RECYCLE.BIN", "RECYCLER"],
)
@pytest.mark.parametrize("level", [".", "train", "train/disc", "train/disc/more"])
def test_folders_of_systems_are_passed_over_at_every_level(name, level, tmp_path):
    write_pictures(tmp_path / "train", 12)
    write_pictures(tmp_path / "val", 3)
    write_pictures(tmp_path / "train" / "disc", 2, names=("more",) * 3)
    write_pictures(tmp_path / level / name, 9)
    examples = load(tmp_path)
    assert (examples.count, examples.class_names) == (14, CLASSES)


@pytest.mark.parametrize("name", ["Thumbs.db", ".DS_Store", "desktop.ini", "._1.png"])
def test_files_of_systems_are_passed_over(name, tmp_path):
    write_pictures(tmp_path, 12)
    for folder in (tmp_path, tmp_path / "disc"):
        (folder / name).write_bytes(b"of no interest")
    assert load(tmp_path, "all").count == 12


# Links -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [".", "..", "../..", "../disc", "../../val/disc", "more"])
def test_a_folder_is_read_once_wherever_links_lead(target, tmp_path):
    root = tmp_path / "data"
    write_pictures(root / "train", 12)
    write_pictures(root / "val", 3, seed=1)
    write_pictures(root / "train" / "cross", 2, names=("more",) * 3)
    (root / "train" / "cross" / "zz").symlink_to(target)
    with pytest.warns(UserWarning, match=r"1 links: .*cross/zz.*read elsewhere"):
        examples = load(root)
    assert examples.count == 14
    assert len({os.path.realpath(path) for path in examples.source.ids}) == 14


def test_links_to_images_elsewhere_are_followed(tmp_path):
    pool = write_pictures(tmp_path / "pool", 12)
    root = tmp_path / "data"
    root.mkdir()
    for name in ("disc", "cross"):
        (root / name).symlink_to(pool / name)
    write_pictures(root / "stripes", 2, names=("own",) * 3)
    (root / "stripes" / "more").symlink_to(pool / "stripes")
    (root / "up").symlink_to("..")
    examples = load(root, "all")
    assert (examples.count, examples.class_names) == (10 + 4, CLASSES)


def test_one_folder_as_two_classes_is_refused(tmp_path):
    write_pictures(tmp_path, 12)
    (tmp_path / "ring").symlink_to("disc")
    with pytest.raises(ValueError, match=r"must be different folders.*disc.*ring"):
        load(tmp_path)


def test_a_link_that_leads_nowhere_is_an_empty_file(tmp_path):
    write_pictures(tmp_path, 12)
    (tmp_path / "disc" / "gone.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match=r"1 empty image files: .*gone\.png"):
        assert load(tmp_path, "all").count == 12


# Names -------------------------------------------------------------------------------------------


def test_a_name_that_is_no_text_is_read(tmp_path):
    write_pictures(tmp_path, 12)
    path = os.fsencode(tmp_path / "disc") + b"/\xff.png"
    os.rename(next((tmp_path / "disc").iterdir()), path)
    examples = load(tmp_path, "all")
    ids = {example["id"] for example in examples.dataset.as_numpy_iterator()}
    assert path in ids


def test_a_home_folder_is_expanded_and_paths_hold_elsewhere(tmp_path, monkeypatch):
    home = tmp_path / "home"
    write_pictures(home / "flowers", 12)
    monkeypatch.setenv("HOME", str(home))
    assert data.load("folder:~/flowers", "all").name == f"folder:{home}/flowers"
    monkeypatch.chdir(home)
    (home / "start.safetensors").write_bytes(b"")
    recipe = find_recipe("quick")
    for text in ("folder:flowers", "folder:~/flowers", "folder:./flowers/"):
        config = RunConfig(
            data=text,
            model="resnet20",
            recipe=recipe,
            weights="start.safetensors",
            data_dir="~/tfds",
        )
        assert config.data == f"folder:{home}/flowers"
        assert config.weights == str(home / "start.safetensors")
        assert config.data_dir == str(home / "tfds")
    for data_dir in ("gs://bucket/tfds", None):
        config = RunConfig(
            data="digits", model="resnet50", recipe=recipe, weights="a1_in1k", data_dir=data_dir
        )
        assert (config.data, config.weights, config.data_dir) == ("digits", "a1_in1k", data_dir)


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("flowers", "Did you mean 'folder:flowers'"),
        ("~/flowers", "Did you mean 'folder:~/flowers'"),
        ("train.tfrecord", "Did you mean 'tfrecord:train.tfrecord'"),
        ("fodler:flowers", "Did you mean 'folder:flowers'"),
        ("digit", "Did you mean 'digits'"),
        ("elsewhere", "digits'. Received: data='elsewhere'"),
    ],
)
def test_what_names_no_data_set_is_answered_with_what_would(spec, hint, tmp_path, monkeypatch):
    write_pictures(tmp_path / "flowers", 3)
    (tmp_path / "train.tfrecord").write_bytes(b"")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=hint):
        data.load(spec, "train")

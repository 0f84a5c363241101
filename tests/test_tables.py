"""`csv:FILE` and several labels: tables of images anywhere, arrays, and what is wrong in some."""

import numpy as np
import pytest
from PIL import Image
from tiny_runs import CLASSES, pictures, tiny_config, write_pictures

from keras_resnets.commands.evaluate import _same_data
from keras_resnets.training import data, specs
from keras_resnets.training.batches import evaluation_batches, training_batches

ROWS = ["a.png,cat", "b.png,dog", "c.png,cat", "d.png,dog"]


def table(folder, *lines, name="images.csv", header="path,label", encoding="utf-8") -> str:
    """A table of images, which are there, and the specification of it."""
    for letter in "abcdefgh":
        Image.new("RGB", (8, 8), (ord(letter), 0, 0)).save(folder / f"{letter}.png")
    (folder / name).write_bytes("\n".join([header, *lines, ""]).encode(encoding))
    return f"csv:{folder / name}"


def labels_of(examples) -> dict[str, set[str]]:
    """The labels of each image, by its file's name without the ending."""
    found = {}
    for path, row in zip(examples.source.ids, examples.source.labels, strict=True):
        chosen = np.flatnonzero(row) if examples.multi_label else [row]
        found[path.rpartition("/")[2].removesuffix(".png")] = {
            examples.class_names[i] for i in chosen
        }
    return found


# What a table says -------------------------------------------------------------------------------


def test_a_table_of_single_labels_is_split_as_the_folder_of_the_same_images(tmp_path):
    folder = write_pictures(tmp_path / "images", 60)
    rows = [
        f"images/{path.relative_to(folder)},{path.parent.name}" for path in folder.rglob("*.png")
    ]
    # In the order of the folder, as the seed draws places.
    rows.sort(key=lambda row: (row.partition(",")[2], row))
    (tmp_path / "images.csv").write_text("\n".join(["path,label", *rows]))
    for split in ("train", "validation"):
        ours, theirs = (
            data.load(spec, split, seed=5)
            for spec in (f"csv:{tmp_path}/images.csv", f"folder:{folder}")
        )
        assert ours.class_names == theirs.class_names == CLASSES
        assert list(ours.source.ids) == list(theirs.source.ids)
        assert (ours.source.labels == theirs.source.labels).all()
        assert not ours.multi_label
        assert ours.source.fingerprint() == theirs.source.fingerprint()


def test_images_may_lie_anywhere(tmp_path):
    elsewhere = tmp_path / "else" / "where"
    elsewhere.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(elsewhere / "x, y.jpg")
    spec = table(tmp_path, f'"{elsewhere}/x, y.jpg",cat', "b.png,dog", "./else/../c.png,cat")
    ids = list(data.load(spec, "all").source.ids)
    assert ids == [f"{elsewhere}/x, y.jpg", f"{tmp_path}/b.png", f"{tmp_path}/c.png"]


def test_several_labels_are_all_there_and_a_bar_alone_is_none(tmp_path):
    rows = ["a.png,cat|dog", "b.png, dog |  wild  cat", "c.png,|", "d.png,dog|dog", "e.png,cat"]
    examples = data.load(table(tmp_path, *rows, header="image,tags"), "all")
    assert examples.multi_label
    assert examples.class_names == ("cat", "dog", "wild cat")
    assert labels_of(examples) == {
        "a": {"cat", "dog"},
        "b": {"dog", "wild cat"},
        "c": set(),
        "d": {"dog"},
        "e": {"cat"},
    }
    assert examples.source.class_counts(3).tolist() == [2, 3, 1]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_tables_of_spreadsheets_are_read(delimiter, bom, tmp_path):
    rows = [row.replace(",", delimiter) for row in ["a.png,größte", '"b.png","klein"', "", ","]]
    header = bom + delimiter.join(["File", "Class"])
    spec = table(tmp_path, *rows, header=header, name="images.CSV")
    (tmp_path / "images.CSV").write_bytes(
        (tmp_path / "images.CSV").read_bytes().replace(b"\n", b"\r\n")
    )
    assert labels_of(data.load(spec, "all")) == {"a": {"größte"}, "b": {"klein"}}


def test_columns_and_the_separator_may_have_any_name(tmp_path):
    rows = ["1,a.png,cat dog,yes", "2,b.png,dog,no", "3,c.png,cat  dog,no"]
    spec = table(tmp_path, *rows, header="label,photo,what is there,split")
    with pytest.raises(ValueError, match=r"one for the path must be called path or .*photo"):
        data.load(spec, "all")
    spec += "?path=photo&labels=what+is+there&separator=+&split="
    assert labels_of(data.load(spec, "all")) == {
        "a": {"cat", "dog"},
        "b": {"dog"},
        "c": {"cat", "dog"},
    }


def test_splits_have_their_usual_names(tmp_path):
    rows = ["a.png,cat,Train", "b.png,dog,training", "c.png,cat,val", "d.png,dog,TEST"]
    spec = table(tmp_path, *rows, header="path,label,subset")
    found = {split: set(labels_of(data.load(spec, split))) for split in ("train", "test")}
    assert found == {"train": {"a", "b"}, "test": {"d"}}
    with pytest.warns(UserWarning, match="'validation' has no images of these classes: dog"):
        assert data.load(spec, None).split == "validation"


def test_a_table_of_one_split_can_be_evaluated(tmp_path):
    spec = table(tmp_path, "a.png,cat,test", "b.png,dog,test", header="path,label,split")
    assert data.load(spec, None).split == "test"
    with pytest.raises(ValueError, match="split must be one that the data set has"):
        data.load(spec, "train")


def test_a_specification_holds_in_any_folder(tmp_path, monkeypatch):
    table(tmp_path, *ROWS)
    monkeypatch.chdir(tmp_path)
    spec = specs.absolute("csv:images.csv?labels=a/../b")
    assert spec == f"csv:{tmp_path}/images.csv?labels=a/../b"


def test_a_run_knows_its_table_by_another_name(tmp_path, monkeypatch):
    spec = table(tmp_path, *ROWS)
    (tmp_path / "link.csv").symlink_to(tmp_path / "images.csv")
    monkeypatch.chdir(tmp_path)
    run = tiny_config(data=f"{spec}?labels=label")
    assert _same_data(run, "csv:images.csv?labels=label")
    assert _same_data(run, "csv:link.csv?labels=label")
    for other in ("csv:images.csv", "csv:link.csv?labels=path", f"folder:{tmp_path}"):
        assert not _same_data(run, other)


# Several labels in the pipeline ------------------------------------------------------------------


def multi_hot(count: int, classes: int = 4, seed: int = 0) -> np.ndarray:
    labels = (np.random.default_rng(seed).uniform(size=(count, classes)) < 0.3).astype("uint8")
    labels[:classes] |= np.eye(classes, dtype="uint8")
    return labels


@pytest.mark.parametrize("dtype", ["uint8", "bool", "int64", "float32"])
def test_arrays_may_have_several_labels(dtype):
    images, labels = pictures(12)[0], multi_hot(12)
    examples = data.load(
        {"train": (images, labels.astype(dtype)), "dev": (images, labels)}, "validation"
    )
    assert examples.multi_label
    batches = evaluation_batches(examples, image_size=8, batch_size=5)
    seen = np.concatenate([batch[1].numpy()[batch[2].numpy() > 0] for batch in batches])
    np.testing.assert_array_equal(seen, labels)
    assert seen.dtype == "float32"


def test_every_image_is_drawn_as_one_of_its_rarest_class():
    """So that a rare class is on both sides, whatever stands beside it."""
    labels = np.zeros((200, 3), "uint8")
    labels[:, 0], labels[::2, 1], labels[::10, 2] = 1, 1, 1  # 200, 100 and 20.
    examples = {
        split: data.load((np.zeros((200, 4, 4), "uint8"), labels), split, seed=3)
        for split in ("train", "validation")
    }
    assert examples["validation"].source.labels.sum(0).tolist() == [20, 10, 2]
    assert examples["train"].source.labels.sum(0).tolist() == [180, 90, 18]
    parts = [set(part.source.ids) for part in examples.values()]
    assert not set.intersection(*parts)
    again = data.load((np.zeros((200, 4, 4), "uint8"), labels), "validation", seed=4)
    assert set(again.source.ids) != parts[1]


def test_the_same_images_with_other_labels_are_other_data():
    images, labels = pictures(12)[0], np.ones((12, 1200), "uint8")
    prints = []
    for place in (None, 600):  # In the middle, where NumPy's text of a long row has dots.
        labels = labels.copy()
        if place:
            labels[3, place] = 0
        prints.append(data.load((images, labels), "all").source.fingerprint())
    assert prints[0] != prints[1]


def test_training_batches_smooth_each_label_between_its_two_answers():
    from keras_resnets.training.augmentation import Augmentation

    images, labels = pictures(8)[0], multi_hot(8)
    examples = data.load((images, labels), "all")
    plain = Augmentation(crop_scale=None, flip=False, label_smoothing=0.2)
    batches = training_batches(examples, plain, image_size=8, batch_size=8, seed=0)
    [(_, targets)] = batches.take(1)
    assert set(np.unique(targets.numpy().round(6))) == {np.float32(0.1), np.float32(0.9)}
    assert sorted(map(tuple, targets.numpy() > 0.5)) == sorted(map(tuple, labels > 0))


# What is wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["a.png,cat", "x.png,dog", "y.png,dog"], "path,label", r"2 are missing: .*x\.png"),
        (["a.png,cat", "b.png,"], "path,label", r"no label may be empty.*rows=1, lines=\[3\]"),
        (["a.png,cat|", "b.png,dog"], "path,label", r"no label may be empty.*lines=\[2\]"),
        (["a.png,cat", ",dog"], "path,label", r"must name an image.*lines=\[3\]"),
        (ROWS, "photo,label", r"for the path must be called path or.*columns=\['photo', 'label'\]"),
        (ROWS, "path,species", r"for the labels must be called label or.*labels=COLUMN"),
        ([f"{row},{row[2:]}" for row in ROWS], "path,label,class", r"one column for the labels"),
        (ROWS, "path;label", "as many fields as the first line, 2.*line=2, fields=1"),
        (["a.png,cat", "b.png"], "path,label", "as many fields.*line=3, fields=1"),
        ([], "path,label", "must have rows"),
        (
            ["a.png,cat,train", "b.png,dog,holdout", "c.png,dog,"],
            "path,label,split",
            r"must say train, validation, test.*unknown=\{'holdout': 1, '': 1\}",
        ),
        (
            ["a.png,cat,train", "b.png,dog,test"],
            "path,label,split",
            r"split 'test' must be among those of the training split.*unknown=\['dog'\]",
        ),
        (["a.png,cat", "a.png,dog"], "path,label", r"same labels in all its rows.*lines=\[2, 3\]"),
        (["a.png,|", "b.png,|"], "path,label", "must have labels"),
        (['a.png,"cat', "b.png,dog"], "path,label", "whole CSV file.*line"),
    ],
)  # fmt: skip
def test_a_faulty_table_is_refused_in_a_sentence(lines, header, message, tmp_path):
    spec = table(tmp_path, *lines, header=header)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        data.load(spec, None)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na.png,größte\n".encode("latin-1"), "text in UTF-8.*byte 0xf6 at"),
        ("path,label\na.png,cat\n".encode("utf-16"), "text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "text in UTF-8"),
        (b"", "it is empty"),
        (b'{"images": [{"path": "a.png"}]}', "must name the columns"),
        (b"a.png,cat\nb.png,dog\n", r"must name the columns.*columns=\['a.png', 'cat'\]"),
    ],
)
def test_what_is_no_table_is_refused_in_a_sentence(content, message, tmp_path):
    (tmp_path / "images.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        data.load(f"csv:{tmp_path}/images.csv", None)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("csv:missing.csv", "must be followed by a CSV file"),
        ("csv:.", "must be followed by a CSV file"),
        ("csv:images.csv?labels", "options must be NAME=VALUE"),
        ("csv:images.csv?lables=label", "Did you mean 'labels'"),
        ("csv:images.csv?labels=lable", "Did you mean 'label'"),
        ("csv:images.csv?separator=", "separator of labels must not be empty"),
        ("images.csv", "Did you mean 'csv:images.csv'"),
    ],
)
def test_a_wrong_specification_is_refused(spec, message, tmp_path, monkeypatch):
    table(tmp_path, *ROWS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        data.load(spec, None)


def test_images_in_several_splits_are_counted_in_a_warning(tmp_path):
    rows = [
        "a.png,cat,train",
        "b.png,dog,train",
        "./a.png,cat,test",
        "b.png,dog,val",
        "c.png,cat,val",
    ]
    spec = table(tmp_path, *rows, header="path,label,split")
    with pytest.warns(UserWarning, match=r"2 images are in more than one split, such as .*a\.png"):
        data.load(spec, "validation")
    spec = table(tmp_path, *ROWS, "a.png,cat")
    with pytest.warns(UserWarning, match="1 rows name an image that another row names"):
        data.load(spec, "all")


def test_empty_files_are_left_out_or_refused(tmp_path):
    spec = table(tmp_path, *ROWS)
    (tmp_path / "c.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"Left out 1 empty image files: .*c\.png"):
        assert set(labels_of(data.load(spec, "all"))) == {"a", "b", "d"}
    with pytest.raises(ValueError, match=r"must not be empty.*c\.png"):
        data.load(spec, "all", strict=True)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((12, 3), 2), "1 for each class that is in the image"),
        (np.full((12, 3), 0.5), "1 for each class that is in the image"),
        (np.ones((11, 3)), "1 for each class that is in the image"),
        (np.eye(12)[:, :0], "1 for each class that is in the image"),
        (np.eye(12, 13), r"must have an image of every class.*missing=\[12\]"),
    ],
)
def test_faulty_labels_of_arrays_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        data.load((pictures(12)[0], labels), "train")


def test_splits_of_arrays_must_be_labelled_alike():
    images = pictures(12)[0]
    for other in (np.arange(12) % 4, multi_hot(12, 5)):
        with pytest.raises(ValueError, match="must have the shape of the training labels"):
            data.load({"train": (images, multi_hot(12)), "test": (images, other)}, "test")

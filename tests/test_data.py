"""Reading images: formats, faults, splits, and the order of batches."""

import itertools

import keras
import numpy as np
import pytest
import skimage.data
import tensorflow as tf
from PIL import Image
from record_files import example, write_records

from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.training import bench_data, data, images
from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.batches import (
    evaluation_batches,
    evaluation_steps,
    read,
    sample,
    steps_per_epoch,
    training_batches,
)

PHOTOGRAPH = Image.fromarray(skimage.data.astronaut()).resize((60, 50))
PLAIN = Augmentation(crop_scale=None, flip=False)


def write_folder(path, classes=("cat", "dog"), count=20):
    """Images of one colour each, all of them different: its red channel is the image's number."""
    for label, name in enumerate(classes):
        (path / name).mkdir(parents=True)
        for number in range(count):
            color = (label * count + number, 100 * label, 0)
            Image.new("RGB", (20, 16), color).save(path / name / f"{number:02}.png")
    return path


def arrays(count=40, classes=4):
    """Images whose red channel is their number."""
    pixels = np.zeros((count, 8, 8, 3), "uint8")
    pixels[..., 0] = np.arange(count)[:, None, None]
    return pixels, np.arange(count) % classes


def numbers(batches, steps=None):
    """The red channels of the images of each batch."""
    return [
        batch[0].numpy()[:, 0, 0, 0].astype(int).tolist() for batch in batches.take(steps or -1)
    ]


def train(examples, steps, augmentation=PLAIN, batch_size=8, seed=1, **arguments):
    batches = training_batches(
        examples, augmentation, image_size=8, batch_size=batch_size, seed=seed, **arguments
    )
    return numbers(batches, steps)


def evaluate(examples, batch_size):
    """Numbers of the images that count, and the number of batches."""
    seen, batches = [], 0
    dataset = evaluation_batches(examples, image_size=8, batch_size=batch_size, crop_pct=1.0)
    for pixels, labels, weights in dataset:
        assert pixels.shape == (batch_size, 8, 8, 3)
        assert labels.shape == (batch_size, len(examples.class_names))
        seen += pixels.numpy()[weights.numpy() > 0][:, 0, 0, 0].astype(int).tolist()
        batches += 1
    return seen, batches


# Sources ------------------------------------------------------------------------------------------


def test_digits_are_split_alike_every_time():
    splits = [
        data.load("digits", split, seed=seed)
        for split in ("train", "validation")
        for seed in (0, 1)
    ]
    assert [examples.count for examples in splits] == [1437, 1437, 360, 360]
    assert splits[0].class_names == tuple("0123456789")
    np.testing.assert_array_equal(splits[2].source.labels, splits[3].source.labels)
    assert np.ptp(np.bincount(splits[2].source.labels)) <= 2
    (pixels, labels) = next(
        iter(training_batches(splits[0], PLAIN, image_size=32, batch_size=4, seed=0))
    )
    assert pixels.shape == (4, 32, 32, 3)
    assert labels.shape == (4, 10)
    assert pixels.numpy().max() > 200
    np.testing.assert_array_equal(pixels[..., 0], pixels[..., 2])


def test_a_folder_without_splits_is_split_class_by_class(tmp_path):
    write_folder(tmp_path)
    train_split, validation = (
        data.load(f"folder:{tmp_path}", split) for split in ("train", "validation")
    )
    assert train_split.class_names == ("cat", "dog")
    assert np.bincount(validation.source.labels).tolist() == [2, 2]
    every = {path.as_posix() for path in tmp_path.rglob("*.png")}
    assert {*train_split.source.ids} | {*validation.source.ids} == every
    assert not {*train_split.source.ids} & {*validation.source.ids}
    other = data.load(f"folder:{tmp_path}", "validation", seed=1)
    assert {*other.source.ids} != {*validation.source.ids}


def test_a_split_that_there_is_not_is_refused(tmp_path):
    write_folder(tmp_path / "train", count=2)
    with pytest.raises(ValueError, match=r"must be one that the data set has.*split='test'"):
        data.load(f"folder:{tmp_path}", "test")


def test_arrays_are_split_or_taken_as_given():
    pair = arrays()
    assert [data.load(pair, split).count for split in ("train", "validation")] == [36, 4]
    both = {"train": pair, "validation": arrays(12)}
    assert [data.load(both, split).count for split in ("train", "validation")] == [40, 12]


def test_records_are_split_by_name_or_by_seed(tmp_path):
    spec = write_records(tmp_path, np.arange(40) % 4)
    parts = [evaluate(data.load(spec, split), 8)[0] for split in ("train", "validation")]
    assert [len(part) for part in parts] == [36, 4]
    assert sorted(parts[0] + parts[1]) == list(range(40))
    write_records(tmp_path, [1, 2], name="validation", files=1)
    assert [data.load(spec, split).count for split in ("train", "validation")] == [40, 2]


def test_records_may_count_classes_from_one_or_name_them(tmp_path):
    spec = write_records(tmp_path, 1 + np.arange(12) % 3)
    with pytest.warns(UserWarning, match="count from 1"):
        examples = data.load(spec, "train")
    assert len(examples.class_names) == 3
    (tmp_path / "classes.txt").write_text("background\na\nb\nc\n")
    assert data.load(f"tfrecord:{tmp_path}/train*", "train").class_names == ("background", *"abc")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    with pytest.raises(ValueError, match=r"from 0 to 2.*largest=.*3"):
        data.load(f"tfrecord:{tmp_path}/train*", "train")


@pytest.mark.parametrize("names", [("train", "valid"), ("Training", "VAL"), ("train", "dev")])
def test_records_are_split_by_the_usual_names_and_others_are_named(names, tmp_path):
    for name, count in zip(names, (40, 4), strict=True):
        write_records(tmp_path, np.arange(count) % 4, name=name, files=1)
    (tmp_path / "info.json").write_text("{}")
    for spec in (f"tfrecord:{tmp_path}", f"tfrecord:{tmp_path}/*"):
        assert [data.load(spec, split).count for split in ("train", "validation")] == [40, 4]
    write_records(tmp_path, [0, 1, 2, 3], name="extra", files=1)
    with pytest.warns(UserWarning, match=r"Left out 1 files of records: .*extra-00000"):
        assert data.load(f"tfrecord:{tmp_path}", "train").count == 40


def test_arrays_may_be_called_by_the_usual_names_of_splits():
    both = {"Train": arrays(), "val": arrays(12)}
    assert [data.load(both, split).count for split in ("train", "validation")] == [40, 12]
    with pytest.raises(ValueError, match="arrays must be given for 'train'"):
        data.load(both | {"valid": arrays(12)}, "train")


def test_all_images_are_those_of_a_data_set_without_splits(tmp_path):
    assert data.load(arrays(), "all").count == data.load(arrays(), None).count == 40
    spec = write_records(tmp_path, np.arange(40) % 4, name="part")
    assert sorted(evaluate(data.load(spec, None), 8)[0]) == list(range(40))
    both = {"train": arrays(), "test": arrays(12)}
    assert (data.load(both, None).split, data.load(both, None).count) == ("test", 12)
    with pytest.raises(ValueError, match=r"one of train, test, which arrays has"):
        data.load(both, "all")


@pytest.mark.parametrize("kind", ["folder", "tfrecord", "arrays"])
def test_one_image_a_class_is_refused_where_some_are_to_be_held_out(kind, tmp_path):
    spec = {
        "folder": lambda: f"folder:{write_folder(tmp_path, ('a', 'b', 'c'), count=1)}",
        "tfrecord": lambda: write_records(tmp_path, [0], files=1),
        "arrays": lambda: arrays(3, 3),
    }[kind]()
    assert data.load(spec, "all").count in (1, 3)
    with pytest.raises(ValueError, match="there must be two or more of a class"):
        data.load(spec, "validation")


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A data set in the layout of tensorflow-datasets, written by it."""
    tfds = pytest.importorskip("tensorflow_datasets")
    folder = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["a", "b"]),
        }
    )
    pixels, labels = arrays(20, 2)
    splits = {
        split: tf.data.Dataset.from_tensor_slices({"image": pixels[part], "label": labels[part]})
        for split, part in (("train", slice(0, 14)), ("test", slice(14, 20)))
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        "tiny",
        version="1.0.0",
        features=features,
        split_datasets=splits,
        data_dir=folder,
        disable_shuffling=True,
    )
    return folder


def test_prepared_tfds_data_sets_are_read(tfds_folder):
    examples = data.load("tfds:tiny", "train", data_dir=tfds_folder)
    assert examples.class_names == ("a", "b")
    assert sorted(evaluate(examples, 4)[0]) == list(range(14))
    assert sorted(
        evaluate(data.load("tfds:tiny:1.0.0", "validation", data_dir=tfds_folder), 4)[0]
    ) == list(range(14, 20))
    assert sorted(itertools.chain(*train(examples, 2, batch_size=7))) == list(range(14))


def test_a_missing_tfds_data_set_says_how_to_prepare_it(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    with pytest.raises(FileNotFoundError, match=r"nothing is downloaded.*tfds.load\('mnist'"):
        data.load("tfds:mnist", "train", data_dir=tmp_path)


# Order --------------------------------------------------------------------------------------------


@pytest.fixture(params=["folder", "tfrecord", "arrays"])
def twenty(request, tmp_path):
    """20 images of 2 classes, that are read by number or not, or at once; 18 are for training."""
    if request.param == "arrays":
        return arrays(20, 2)
    if request.param == "folder":
        return f"folder:{write_folder(tmp_path, count=10)}"
    return write_records(tmp_path, np.arange(20) % 2)


def test_every_epoch_has_every_image_once_in_another_order(twenty):
    examples = data.load(twenty, "train")
    stream = list(itertools.chain(*train(examples, 9, batch_size=6)))
    epochs = [stream[start : start + 18] for start in (0, 18, 36)]
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 1
    assert len(set(epochs[0])) == 18
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_batches_depend_on_the_seed_alone(twenty):
    examples = data.load(twenty, "train")
    first, again, other = (train(examples, 4, seed=seed) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("seed", [0, 1, 7])
def test_batches_do_not_depend_on_the_seed_of_the_process(twenty, seed):
    """A run sets that too, and of 0 TensorFlow has its own opinion."""
    examples = data.load(twenty, "train")
    keras.utils.set_random_seed(seed)
    first = train(examples, 4, seed=seed)
    keras.utils.set_random_seed(seed + 1)
    assert train(examples, 4, seed=seed) == first


EVERYTHING = Augmentation(
    rand_augment=(2, 9), rand_augment_std=0.5, mixup=0.2, cutmix=1.0, label_smoothing=0.1
)


MOVED = Augmentation(crop_scale=None, pad_crop=2, mixup=0.2, label_smoothing=0.1)


@pytest.mark.parametrize(("augmentation", "size"), [(EVERYTHING, 16), (MOVED, 8)])
def test_starting_at_a_step_gives_the_batches_of_an_uninterrupted_run(twenty, augmentation, size):
    examples = data.load(twenty, "train")
    arguments = dict(image_size=size, batch_size=4, seed=3)
    whole = list(training_batches(examples, augmentation, **arguments).take(9))
    # 18 images are 4.5 batches: step 7 lies in the middle of the second epoch.
    rest = training_batches(examples, augmentation, **arguments, start_step=7)
    for expected, found in zip(whole[7:], rest, strict=False):
        np.testing.assert_array_equal(expected[0], found[0])
        np.testing.assert_array_equal(expected[1], found[1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shard", [(0, 1), (1, 2)])
def test_images_in_memory_come_as_they_come_one_by_one(channels, shard, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, channels), "uint8")
    examples = data.load({"train": (pixels, np.arange(20) % 3)}, "train", shard=shard)
    arguments = dict(image_size=8, batch_size=4, seed=3, start_step=1)

    def first_epoch():
        return list(training_batches(examples, PLAIN, **arguments).take(4))

    at_once = first_epoch()
    monkeypatch.setattr("keras_resnets.training.batches._as_they_are", lambda *arguments: False)
    for found, expected in zip(at_once, first_epoch(), strict=True):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


def test_hosts_share_an_epoch_and_an_evaluation(twenty):
    check_shares(twenty, hosts=2)


def test_more_hosts_than_files_share_their_records(tmp_path):
    check_shares(write_records(tmp_path, np.arange(20) % 2, files=2), hosts=3)


def check_shares(twenty, hosts):
    shares = [data.load(twenty, "train", shard=(index, hosts)) for index in range(hosts)]
    evaluated = [evaluate(share, 4) for share in shares]
    seen = list(itertools.chain(*(seen for seen, _ in evaluated)))
    assert len(seen) == len(set(seen)) == 18
    assert len({batches for _, batches in evaluated}) == 1
    trained = [train(share, 1, batch_size=18 // hosts)[0] for share in shares]
    for one, other in itertools.combinations(trained, 2):
        assert not set(one) & set(other)


def test_a_host_without_an_image_evaluates_as_many_batches():
    shares = [data.load(arrays(2, 2), "train", shard=(index, 3)) for index in (0, 2)]
    assert [evaluate(share, 4) for share in shares] == [([0], 1), ([], 1)]


def test_evaluation_counts_every_image_once(twenty):
    examples = data.load(twenty, "train")
    seen, batches = evaluate(examples, 7)
    assert len(seen) == len(set(seen)) == examples.count == 18
    assert batches == evaluation_steps(examples, 7) == 3


@pytest.mark.parametrize(("batch_size", "batches"), [(1, 36), (36, 1), (50, 1)])
def test_evaluation_counts_every_image_once_in_batches_of_any_size(batch_size, batches):
    seen = evaluate(data.load(arrays(), "train"), batch_size)
    assert (len(set(seen[0])), seen[1]) == (36, batches)


def test_an_epoch_has_full_batches_only():
    examples = data.load(arrays(), "train")
    assert [steps_per_epoch(examples, size) for size in (1, 8, 36, 100)] == [36, 4, 1, 1]
    assert len(train(examples, 2, batch_size=100)[0]) == 100


def test_shuffling_mixes_classes():
    examples = data.load((arrays(400)[0], np.repeat([0, 1], 200)), "train")
    batches = training_batches(examples, PLAIN, image_size=8, batch_size=36, seed=0)
    shares = [labels.numpy()[:, 1].mean() for _, labels in batches.take(10)]
    assert 0.1 < min(shares) < max(shares) < 0.9
    assert np.mean(shares) == pytest.approx(0.5, abs=0.01)


# Faults -------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(tmp_path):
    """40 images of which two cannot be decoded."""
    write_folder(tmp_path)
    whole = (tmp_path / "cat" / "03.png").read_bytes()
    (tmp_path / "cat" / "03.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog" / "07.png").write_bytes(b"no image")
    (tmp_path / "train").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / name).rename(tmp_path / "train" / name)
    write_folder(tmp_path / "val", count=1)
    return f"folder:{tmp_path}"


def test_unreadable_images_are_named_and_replaced_by_the_next_of_the_batch(damaged):
    examples = data.load(damaged, "train")
    with pytest.warns(UserWarning, match="Skipped") as caught:
        found = train(examples, 5)
    assert {str(warning.message)[-10:] for warning in caught} == {"cat/03.png", "dog/07.png"}
    assert [len(batch) for batch in found] == [8] * 5
    seen = list(itertools.chain(*found))
    assert set(seen) == set(range(40)) - {3, 27}
    readable = data.load(damaged, "train")
    order = [
        e["id"].decode()[-10:]
        for e in readable.source.shuffled(1, 0, (0, 1)).take(40).as_numpy_iterator()
    ]
    for name in ("cat/03.png", "dog/07.png"):
        place = order.index(name)
        if place % 8 < 7 and order[place + 1] not in ("cat/03.png", "dog/07.png"):
            assert seen[place] == seen[place + 1]
    with pytest.warns(UserWarning, match="Skipped"):
        assert train(examples, 2, start_step=3) == found[3:]


def test_evaluation_leaves_unreadable_images_out(damaged):
    with pytest.warns(UserWarning, match="Skipped") as caught:
        seen, batches = evaluate(data.load(damaged, "train"), 16)
    assert len(caught) == 2
    assert sorted(seen) == sorted(set(range(40)) - {3, 27})
    assert batches == 3


def test_strict_stops_at_an_unreadable_image(damaged):
    examples = data.load(damaged, "train", strict=True)
    options = dict(image_size=8, batch_size=16)
    training = training_batches(examples, PLAIN, seed=1, **options)
    for batches in (training.take(3), evaluation_batches(examples, **options)):
        with pytest.raises(ValueError, match=r"^images must be whole files.*(cat/03|dog/07)\.png$"):
            list(read(batches))


def test_a_batch_without_readable_images_stops_the_run(tmp_path):
    write_folder(tmp_path, count=4)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no image")
    examples = data.load(f"folder:{tmp_path}", "train")
    with (
        pytest.warns(UserWarning, match="Skipped"),
        pytest.raises(ValueError, match=r"^a batch must have at least one image that can be"),
    ):
        list(read(training_batches(examples, PLAIN, image_size=8, batch_size=2, seed=0)))
    with (
        pytest.warns(UserWarning, match="Skipped"),
        pytest.raises(ValueError, match="must have readable images"),
    ):
        sample(examples, 5, image_size=8, crop_pct=1.0, interpolation="bilinear")


def test_a_sample_leaves_unreadable_images_out(damaged):
    examples = data.load(damaged, "train")
    options = dict(image_size=8, crop_pct=1.0, interpolation="bicubic")
    with pytest.warns(UserWarning, match="Skipped"):
        whole = sample(examples, 100, **options)
    assert sorted(whole[:, 0, 0, 0]) == sorted(set(range(40)) - {3, 27})
    some = sample(examples, 5, **options)
    np.testing.assert_array_equal(some, whole[: len(some)])
    assert 3 <= len(some) <= 5
    with pytest.raises(ValueError, match="images must be whole files"):
        sample(data.load(damaged, "train", strict=True), 100, **options)


def test_empty_files_and_other_files_are_named_and_left_out(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "cat" / "03.png").write_bytes(b"")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / ".hidden").write_text("no image")
    with pytest.warns(UserWarning, match="Left out") as caught:
        assert data.load(f"folder:{tmp_path}", "train").count == 35
    empty, others = sorted(str(warning.message) for warning in caught)
    assert "1 empty image files" in empty
    assert "03.png" in empty
    assert "1 files that are not" in others
    assert "notes.txt" in others
    with pytest.raises(ValueError, match=r"must not be empty.*03\.png"):
        data.load(f"folder:{tmp_path}", "train", strict=True)


def make_empty_class(path):
    write_folder(path)
    (path / "emu").mkdir()
    return f"folder:{path}"


def make_no_images(path):
    (path / "cat").mkdir()
    (path / "cat" / "a.txt").write_text("")
    return f"folder:{path}"


def make_other_classes(path):
    write_folder(path / "train", count=2)
    write_folder(path / "val", ("cat", "emu"), count=2)
    return f"folder:{path}"


def make_damaged_records(path):
    write_records(path, [0, 1, 0, 1], files=1)
    file = next(path.iterdir())
    file.write_bytes(file.read_bytes()[:-20])
    return f"tfrecord:{path}/*"


def make_other_records(path):
    with tf.io.TFRecordWriter(str(path / "a")) as writer:
        writer.write(example({"picture": [b"a"]}))
    return f"tfrecord:{path}/*"


@pytest.mark.filterwarnings("ignore:Left out")
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (make_empty_class, ValueError, "every class folder must have images.*emu"),
        (make_no_images, ValueError, "must have images"),
        (lambda path: f"folder:{path}", ValueError, "a subfolder with images for each class"),
        (lambda path: f"folder:{path}/no", FileNotFoundError, "no'"),
        (make_other_classes, ValueError, "must be those of the training split.*emu"),
        (make_damaged_records, ValueError, "whole records"),
        (make_other_records, ValueError, "image/class/label.*a'"),
        (lambda path: f"tfrecord:{path}/*", FileNotFoundError, "at least one file"),
        (
            lambda path: write_records(path, [0, 2, 2]),
            ValueError,
            "every class.*without an image: 1",
        ),
        (lambda path: write_records(path, [0, -2, 1]), ValueError, "count from 0.*-2"),
        (lambda path: (arrays()[0], arrays()[1] - 1), ValueError, "count from 0"),
        (lambda path: (arrays()[0], arrays()[1] * 2), ValueError, "every class"),
        (lambda path: (arrays()[0], arrays()[1][:5]), ValueError, "40 integers"),
        (lambda path: (arrays()[0] / 255, arrays()[1]), ValueError, "uint8"),
        (lambda path: (arrays(0)[0], arrays(0)[1]), ValueError, "no images"),
        (
            lambda path: {"train": arrays(classes=3), "validation": arrays(classes=4)},
            ValueError,
            "from 0 to 2.*largest=.*3",
        ),
        (lambda path: {"val": arrays()}, ValueError, "val"),
        (lambda path: "flowers", ValueError, "folder:PATH.*'flowers'"),
        (lambda path: "folder:", ValueError, "folder:PATH"),
        (lambda path: 5, ValueError, "int"),
    ],
)
def test_faulty_data_raise_before_training(tmp_path, make, error, message):
    spec = make(tmp_path)
    split = "validation" if make is make_other_classes else "train"
    with pytest.raises(error, match=message):
        data.load(spec, split)


def test_a_class_without_validation_images_is_a_warning(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val", ("cat",))
    with pytest.warns(UserWarning, match="no images of these classes: dog"):
        examples = data.load(f"folder:{tmp_path}", "validation")
    assert examples.class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "arguments",
    [dict(split="testing"), dict(seed=-1), dict(shard=(2, 2)), dict(shard=(0, 0)), dict(strict=1)],
    ids=str,
)
def test_wrong_arguments_are_named(arguments):
    with pytest.raises(ValueError, match=rf"{next(iter(arguments))}.*Received: "):
        data.load("digits", **{"split": "train", **arguments})


# Pixels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(300, 451), (400, 262), (150, 150)], ids=str)
def test_evaluation_sees_what_the_preprocessor_sees(interpolation, shape):
    photograph = np.asarray(Image.fromarray(skimage.data.astronaut()).resize(shape[::-1]))
    arguments = dict(size=160, crop_pct=0.875, interpolation=interpolation)
    layer = Preprocessor(**arguments, mean=(0, 0, 0), std=(1, 1, 1), backend="pil")
    expected = np.rint(np.asarray(layer(photograph)) * 255)
    found = images.centre_crop(tf.constant(photograph), *arguments.values()).numpy()
    # The preprocessor's own tests allow it as much against PIL.
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() <= 0.003


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1)], ids=str)
def test_evaluation_takes_thin_images(shape):
    crop = images.centre_crop(tf.fill([*shape, 3], tf.constant(7, tf.uint8)), 32, 0.9, "bicubic")
    assert (crop.numpy() == 7).all()


def test_decoding_at_a_fraction_sees_the_same_picture():
    # As close to the antialiased resize of the whole photograph as resizing without
    # antialiasing is, and closer than that for what is shrunk more.
    photograph = skimage.data.astronaut()
    encoded = tf.io.encode_jpeg(photograph, quality=95)
    pixels = tf.io.decode_jpeg(encoded)
    for size in (200, 100, 50):
        reference = tf.image.resize(pixels, [size, size], antialias=True)
        found = images.training_crop(encoded, size, PLAIN, tf.constant([0, 0]))
        naive = tf.image.resize(pixels, [size, size])
        error, naive_error = (np.abs(image - reference).mean() for image in (found, naive))
        assert error < naive_error
        assert error < 4


def test_a_jpeg_crop_is_that_of_the_whole_image():
    encoded = tf.io.encode_jpeg(np.asarray(PHOTOGRAPH), quality=95)
    seed = tf.constant([1, 2])
    cropped = images.training_crop(encoded, 40, Augmentation(), seed)
    whole = images.training_crop(images.decode(encoded), 40, Augmentation(), seed)
    assert np.abs(cropped - whole).mean() < 1  # Colours are interpolated up to the crop's border.


# Speed --------------------------------------------------------------------------------------------


def test_bench_data_counts_images():
    found = bench_data.measure("digits", Augmentation(), image_size=8, batch_size=16, seconds=0.2)
    assert found.images > 0
    assert found.images % 16 == 0
    assert found.images_per_second == found.images / found.seconds
    assert found.seconds >= 0.2

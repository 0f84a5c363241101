"""One rule for all who read images: a prediction sees the pixels that the training saw.

Every format and mode is written with known pixels; `read_image`, by PIL, and training's `decode`,
in TensorFlow's graph, must both find them, or both refuse.
"""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnets.layers.preprocessor import read_image
from keras_resnets.training import images

HEIGHT, WIDTH = 16, 24
COLUMNS = np.broadcast_to(np.arange(WIDTH), (HEIGHT, WIDTH))
ROWS = np.broadcast_to(np.arange(HEIGHT)[:, None], (HEIGHT, WIDTH))
GRAY = (COLUMNS * 10 + ROWS).astype("uint8")  # 0 to 245
OPACITY = (255 - GRAY).astype("uint8")
RGB = np.stack([GRAY, ROWS * 15, COLUMNS * 11], -1).astype("uint8")
BITS = ((COLUMNS + ROWS) % 3 == 0).astype("uint8")
INDICES = ((COLUMNS + 2 * ROWS) % 5).astype("uint8")
PALETTE = np.array([[255, 0, 0], [0, 200, 0], [10, 20, 30], [255, 255, 255], [0, 0, 90]], "uint8")
DEEP = (COLUMNS * 2800 + ROWS * 13).astype("uint16")  # 0 to 64,595


def encoded(image: Image.Image, kind: str, **arguments) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **arguments)
    return file.getvalue()


def gray(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=-1).astype("uint8")


def plain(*colour: int) -> np.ndarray:
    """An image of one colour, which even a JPEG keeps."""
    return np.full((HEIGHT, WIDTH, len(colour)), colour, "uint8")


def with_palette() -> Image.Image:
    image = Image.fromarray(INDICES, "P")
    image.putpalette(PALETTE.tobytes())
    return image


def frames() -> dict:
    return dict(save_all=True, append_images=[Image.fromarray(255 - RGB)], duration=100)


def exif() -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = 6  # A camera held sideways.
    return tags


RGBA = Image.fromarray(np.dstack([RGB, OPACITY]))
BILEVEL = Image.fromarray(BITS * 255).convert("1")

CASES = {
    "JPEG, gray": (encoded(Image.fromarray(plain(77)[..., 0]), "JPEG"), plain(77, 77, 77)),
    "JPEG, RGB": (encoded(Image.fromarray(plain(200, 30, 90)), "JPEG"), plain(200, 30, 90)),
    "JPEG, progressive": (
        encoded(Image.fromarray(plain(9, 99, 200)), "JPEG", progressive=True),
        plain(9, 99, 200),
    ),
    "JPEG, CMYK": (
        encoded(Image.fromarray(plain(0, 255, 255, 0), "CMYK"), "JPEG"),
        plain(255, 0, 0),
    ),
    "JPEG, turned by a tag": (
        encoded(Image.fromarray(plain(1, 2, 250)), "JPEG", exif=exif()),
        plain(1, 2, 250),
    ),
    "PNG, 1 bit": (encoded(BILEVEL, "PNG"), gray(BITS * 255)),
    "PNG, gray": (encoded(Image.fromarray(GRAY), "PNG"), gray(GRAY)),
    "PNG, gray with a transparent level": (
        encoded(Image.fromarray(GRAY), "PNG", transparency=30),
        gray(GRAY),
    ),
    "PNG, gray with alpha": (
        encoded(Image.fromarray(np.dstack([GRAY, OPACITY]), "LA"), "PNG"),
        gray(GRAY),
    ),
    "PNG, gray of 16 bits": (encoded(Image.fromarray(DEEP), "PNG"), gray(np.rint(DEEP / 257))),
    "PNG, RGB": (encoded(Image.fromarray(RGB), "PNG"), RGB),
    "PNG, RGBA": (encoded(RGBA, "PNG"), RGB),
    "PNG, palette of 8 bits": (encoded(with_palette(), "PNG", bits=8), PALETTE[INDICES]),
    "PNG, palette of 4 bits": (encoded(with_palette(), "PNG", bits=4), PALETTE[INDICES]),
    "PNG, palette with a transparent colour": (
        encoded(with_palette(), "PNG", transparency=1),
        PALETTE[INDICES],
    ),
    "PNG, palette with alpha": (
        encoded(with_palette(), "PNG", transparency=bytes([0, 50, 100, 150, 200])),
        PALETTE[INDICES],
    ),
    "PNG, turned by a tag": (encoded(Image.fromarray(RGB), "PNG", exif=exif()), RGB),
    "PNG, animated": (encoded(Image.fromarray(RGB), "PNG", **frames()), RGB),
    "GIF": (encoded(with_palette(), "GIF"), PALETTE[INDICES]),
    "GIF with a transparent colour": (
        encoded(with_palette(), "GIF", transparency=1),
        PALETTE[INDICES],
    ),
    "GIF, animated": (
        encoded(with_palette(), "GIF", save_all=True, append_images=[BILEVEL]),
        PALETTE[INDICES],
    ),
    "WebP": (encoded(Image.fromarray(RGB), "WEBP", lossless=True), RGB),
    "WebP with alpha": (encoded(RGBA, "WEBP", lossless=True, exact=True), RGB),
    "WebP, animated": (encoded(Image.fromarray(RGB), "WEBP", lossless=True, **frames()), RGB),
    "BMP, 1 bit": (encoded(BILEVEL, "BMP"), gray(BITS * 255)),
    "BMP, gray": (encoded(Image.fromarray(GRAY), "BMP"), gray(GRAY)),
    "BMP, palette": (encoded(with_palette(), "BMP"), PALETTE[INDICES]),
    "BMP, 24 bits": (encoded(Image.fromarray(RGB), "BMP"), RGB),
    "BMP, black, of zeros up to the end of the file": (
        encoded(Image.fromarray(plain(0, 0, 0)), "BMP"),
        plain(0, 0, 0),
    ),
    "BMP, 32 bits": (encoded(RGBA, "BMP"), RGB),
}


def seen_by_training(data: bytes) -> np.ndarray:
    """What the input pipeline makes of a file."""
    return next(iter(tf.data.Dataset.from_tensors(data).map(images.decode))).numpy()


READERS = {
    "predictions": lambda data: read_image(io.BytesIO(data)),
    "training": seen_by_training,
    "training, eagerly": lambda data: images.decode(tf.constant(data)).numpy(),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", CASES)
def test_every_format_and_mode_has_its_pixels(case, reader):
    data, expected = CASES[case]
    pixels = READERS[reader](data)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    # A JPEG of one colour comes back to two levels; what is without loss, exactly.
    difference = np.abs(pixels.astype(int) - expected)
    assert difference.max() <= (2 if case.startswith("JPEG") else 0)


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_both_decoders_of_jpeg_find_the_same_pixels(mode, quality):
    noise = np.random.default_rng(0).integers(0, 256, (53, 61, 3)).astype("uint8")
    data = encoded(Image.fromarray(noise).convert(mode), "JPEG", quality=quality)
    ours, theirs = (read(data).astype(int) for read in (READERS["predictions"], seen_by_training))
    assert np.abs(ours - theirs).max() <= 2


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
def test_every_depth_of_16_bits_is_scaled(mode, tmp_path):
    kind, name = ("PPM", "deep.pgm") if mode == "I" else ("TIFF", "deep.tiff")
    image = Image.fromarray(DEEP)
    if mode == "I;16B":
        image = Image.frombytes("I;16B", (WIDTH, HEIGHT), DEEP.astype(">u2").tobytes())
    image.save(tmp_path / name, kind)
    with Image.open(tmp_path / name) as opened:
        assert opened.mode == mode
    np.testing.assert_array_equal(read_image(tmp_path / name), gray(np.rint(DEEP / 257)))


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_numbers_without_a_known_range_are_refused(kind):
    data = encoded(Image.fromarray(GRAY.astype(kind)), "TIFF")
    with pytest.raises(ValueError, match="32 bits and no known range; save it with 8 or 16 bits"):
        read_image(io.BytesIO(data))
    with pytest.raises(tf.errors.InvalidArgumentError, match="no known range"):
        seen_by_training(data)


@pytest.mark.parametrize("content", [b"", b"x", b"no image at all", b"BM", CASES["GIF"][0][:60]])
def test_what_is_no_image_is_refused_by_both(content):
    with pytest.raises(ValueError, match="paths must be image files"):
        read_image(io.BytesIO(content))
    with pytest.raises(tf.errors.InvalidArgumentError):
        seen_by_training(content)

"""Preprocessor: RGB images of any size to the normalised ones that a model was made for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import keras
import numpy as np
from keras import ops

from keras_resnets.checks import require, require_one_of, said
from keras_resnets.preparation import IMAGENET_MEAN, IMAGENET_STD, Preparation

if TYPE_CHECKING:
    from PIL import Image


@keras.saving.register_keras_serializable(package="keras_resnets")
class Preprocessor(keras.layers.Layer):
    """RGB images of any size to the normalised square (or rectangle) that a model was made for.

    The shorter side is resized to `floor(size / crop_pct)`, with antialiasing and the aspect ratio
    kept; the centre is cropped; values are divided by 255 and normalised. It has no weights and no
    adapted state, so that it can stand in front of a model and be saved with it. It computes in
    the type of the weights, float32 even under mixed precision, because bfloat16 would leave
    images 8 bits of contrast.

    Two ways to resize. `backend="keras"`, the default, runs on every Keras backend, inside models
    and on devices. It goes about it as PIL does, in which timm evaluates: one direction after the
    other, each rounded to whole grey levels. Against timm on photographs it is off by at most 1 of
    the 255 levels, in 0.3 % of the values at most, on TensorFlow, JAX and torch alike
    (`tests/test_preprocessing.py` measures it anew). Because it rounds, no gradient passes through
    it to the image. `backend="pil"` resizes with PIL itself and gives timm's values to 1e-6, for
    evaluation where exactness matters: on values only, image by image.

    Args:
        size: `(height, width)` of the result, or one int for both.
        crop_pct: side of the crop as a fraction of the shorter side, above 0 and at most 1.
        interpolation: `"bilinear"` or `"bicubic"`.
        mean: of each channel, in units of the full range 0 to 1.
        std: the standard deviation of each channel, in the same units.
        backend: `"keras"` or `"pil"`.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: RGB images, uint8 or float from 0 to 255. `backend="pil"` takes whole numbers only.

    Input shape:
        `(height, width, 3)` or `(batch, height, width, 3)`; all but the channels may be unknown.

    Output shape:
        `(*size, 3)` or `(batch, *size, 3)`.

    Raises:
        ValueError: if an argument is out of its range or the images are not RGB.

    Example:

    >>> preprocess = keras_resnets.layers.Preprocessor(224, interpolation="bicubic")
    >>> preprocess(np.zeros((8, 300, 400, 3), "uint8")).shape
    (8, 224, 224, 3)

    Source:
        timm 1.0.31, `timm.data.create_transform(..., is_training=False)` with its default
        `crop_mode="center"`, and torchvision's `Resize` and `CenterCrop` below it.
    """

    def __init__(
        self,
        size: int | Sequence[int] = 224,
        crop_pct: float = 0.875,
        interpolation: str = "bilinear",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        backend: str = "keras",
        **kwargs: Any,
    ) -> None:
        if kwargs.get("dtype") is None:
            kwargs["dtype"] = keras.config.dtype_policy().variable_dtype
        super().__init__(**kwargs)
        self.preparation = Preparation(
            size=size, crop_pct=crop_pct, interpolation=interpolation, mean=mean, std=std
        )
        require_one_of(("keras", "pil"), backend=backend)
        self.size = self.preparation.size
        self.crop_pct = self.preparation.crop_pct
        self.interpolation = interpolation
        self.mean = self.preparation.mean
        self.std = self.preparation.std
        self.backend = backend

    @classmethod
    def of(cls, preparation: Preparation, backend: str = "keras", **kwargs: Any) -> Preprocessor:
        """The layer that prepares images as weights expect them, which must be RGB."""
        require(
            preparation.channels == 3,
            "input_size must be (3, height, width): a Preprocessor makes RGB images",
            input_size=(preparation.channels, *preparation.size),
        )
        fields = ("size", "crop_pct", "interpolation", "mean", "std")
        stated = {field: getattr(preparation, field) for field in fields}
        return cls(**stated, backend=backend, **kwargs)

    def __call__(self, inputs, *args, **kwargs):
        # Here too, because Keras asks for the rank of a tensor before `call`, in words of its own.
        require_known_rank(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs):
        require_rgb(inputs.shape, ranks=(3, 4))
        if self.backend == "pil":
            images = self._cropped_by_pil(ops.convert_to_numpy(inputs))
            images = normalised(images.astype(self.compute_dtype), self.mean, self.std)
            return ops.convert_to_tensor(images)
        images = ops.cast(inputs, self.compute_dtype)
        return normalised(self._cropped(images), self.mean, self.std)

    def compute_output_shape(self, input_shape):
        require_rgb(input_shape, ranks=(3, 4))
        return (*input_shape[:-3], *self.size, 3)

    def compute_output_spec(self, inputs):
        require(
            self.backend == "keras",
            "backend must be 'keras' inside a model: PIL works on values, not in a graph",
            backend=self.backend,
        )
        return super().compute_output_spec(inputs)

    def get_config(self):
        return {
            **super().get_config(),
            "size": list(self.size),
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
            "backend": self.backend,
        }

    def load(self, paths: str | os.PathLike | Iterable[str | os.PathLike]) -> Any:
        """Reads image files and preprocesses them.

        Everything that PIL opens becomes 8-bit RGB by PIL's `convert("RGB")`, as in timm: palettes,
        greyscale and CMYK are converted, transparency is dropped; of an animation the first image
        counts. Greyscale of 16 bits is scaled to 8, where PIL, and so timm, would clip it to white;
        numbers of 32 bits, whose range nobody knows, are refused. Orientation tags of cameras
        (EXIF) are ignored, also as in timm: a photograph that its tag turns upright is seen as it
        was taken. Training reads the same pixels.

        Args:
            paths: one file or several; their images may have different sizes.

        Returns:
            A tensor `(number of files, *size, 3)`.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if there are no paths or a file cannot be read as an image; the message
                names the file.

        Example:

        >>> preprocess = keras_resnets.preprocessor("resnest50d.in1k")
        >>> images = preprocess.load(["cat.jpg", "dog.png"])
        """
        paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        require(len(paths) > 0, "paths must name at least one image file", paths=paths)
        return ops.stack([self(read_image(path)) for path in paths])

    def to_rgb(self, images: Any) -> np.ndarray:
        """The way back: normalised images to uint8 RGB, for looking at what a model saw.

        Args:
            images: normalised images `(..., 3)`, as calling the layer returns them.

        Returns:
            A uint8 array of the same shape.

        Example:

        >>> preprocess.to_rgb(preprocess.load("cat.jpg")).dtype
        dtype('uint8')
        """
        images = ops.convert_to_numpy(images)
        require_rgb(images.shape, ranks=None)
        values = (images * np.float32(self.std) + np.float32(self.mean)) * 255
        return np.clip(np.rint(values), 0, 255).astype("uint8")

    def _cropped(self, images):
        """Resized and cropped by Keras: values from 0 to 255, not rounded."""
        sides = tuple(images.shape[-3:-1])
        if None in sides:  # In a graph of TensorFlow, sizes can be known when it runs.
            sides = tuple(ops.shape(images)[-3:-1])
        resized = _resized_sides(sides, self._scale)
        # As PIL does it: one direction, then the other, and whole grey levels after either. Both
        # directions at once would overshoot at edges where PIL has clipped the first.
        for step in ((sides[0], resized[1]), resized):
            images = _resize(images, step, self.interpolation)
            images = ops.clip(ops.floor(images + 0.5), 0, 255)
        top, left = _crop_offsets(resized, self.size)
        height, width = self.size
        images = images[..., top : top + height, left : left + width, :]
        # Says the size aloud where it was computed by the graph.
        leading = (-1,) if len(images.shape) == 4 else ()
        return ops.reshape(images, (*leading, height, width, 3))

    def _cropped_by_pil(self, images: np.ndarray) -> np.ndarray:
        """Resized and cropped by PIL: uint8."""
        if images.ndim == 4:
            crops = [self._cropped_by_pil(image) for image in images]
            return np.stack(crops) if crops else np.zeros((0, *self.size, 3), "uint8")
        from PIL import Image  # Here, so that importing the package stays cheap.

        if images.dtype != np.uint8:
            whole = np.clip(np.rint(images), 0, 255).astype("uint8")
            require(
                bool((whole == images).all()),
                "images must be whole numbers from 0 to 255 for backend='pil'",
                dtype=str(images.dtype),
                smallest=images.min(),
                largest=images.max(),
            )
            images = whole
        height, width = _resized_sides(images.shape[:2], self._scale)
        kernel = Image.Resampling[self.interpolation.upper()]
        image = Image.fromarray(images).resize((width, height), kernel)
        top, left = _crop_offsets((height, width), self.size)
        crop = image.crop((left, top, left + self.size[1], top + self.size[0]))
        return np.asarray(crop)

    @property
    def _scale(self) -> tuple[int, int]:
        """What the image is resized to cover."""
        height, width = self.size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)


def read_image(path: str | os.PathLike | BinaryIO) -> np.ndarray:
    """Decodes an image file, or an open one, to uint8 RGB `(height, width, 3)`.

    This is the rule for every reader of images here; see `Preprocessor.load`.
    """
    from PIL import Image  # Here, so that importing the package stays cheap.

    try:
        with Image.open(path) as image:
            return _to_rgb(image)
    except FileNotFoundError:
        raise
    # Damaged files end in many ways: most formats are read by a plugin with errors of its own.
    except Exception as error:
        received = os.fspath(path) if isinstance(path, (str, os.PathLike)) else path
        raise ValueError(
            "paths must be image files that PIL can read; this one cannot be read "
            f"({said(error)}). Received: {received!r}"
        ) from error


def _to_rgb(image: Image.Image) -> np.ndarray:
    """An image of PIL's in 8 bits and three channels."""
    # PIL reads 16 bits of PNG and PPM as 32 in some versions, and clips what it converts.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        levels = (np.asarray(image).astype("int64") + 128) // 257  # 65535 becomes 255.
        return np.repeat(levels.astype("uint8")[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError("its numbers have 32 bits and no known range; save it with 8 or 16 bits")
    image.info.pop("transparency", None)  # PIL warns of it, and RGB has none.
    return np.array(image.convert("RGB"))


def normalised(images, mean: Sequence[float], std: Sequence[float]):
    """From 0 to 255 to zero mean and unit variance, in timm's order of operations."""
    constants = [np.asarray(values, "float32") for values in (mean, std)]
    if not isinstance(images, np.ndarray):
        constants = [ops.convert_to_tensor(values, images.dtype) for values in constants]
    mean, std = constants
    return (images / 255 - mean) / std


# What makes RGB images whose shape TensorFlow knows, before they are read.
_OF_TENSORFLOW = (
    "where TensorFlow reads images, tf.io.decode_image(..., channels=3, expand_animations=False) "
    "makes such, and elsewhere image.set_shape((None, None, 3)) says that they are"
)


def require_known_rank(images: Any) -> None:
    """Refuses a tensor in a graph of TensorFlow that does not say how many axes it has."""
    shape = getattr(images, "shape", None)
    require(
        getattr(shape, "rank", 0) is not None,
        "images must be RGB, of shape (height, width, 3) or (batch, height, width, 3), and say "
        f"so; {_OF_TENSORFLOW}",
        shape=shape,
    )


def require_rgb(shape: Sequence[int | None], ranks: tuple[int, ...] | None) -> None:
    shape = tuple(shape)
    require(
        None not in shape[-1:],
        f"images must be RGB, with a known number of channels; {_OF_TENSORFLOW}",
        shape=shape,
    )
    require(
        len(shape) > 0 and shape[-1] == 3 and (ranks is None or len(shape) in ranks),
        "images must be RGB, of shape (height, width, 3) or (batch, height, width, 3); "
        "`Image.convert('RGB')` of PIL makes RGB of greyscale and of transparency",
        shape=shape,
    )


# Sizes: ints, or integer tensors in a graph -------------------------------------------------------


def _resized_sides(sides: tuple, scale: tuple[int, int]) -> tuple:
    """Height and width of an image resized to cover `scale`, rounded as in timm's transforms."""
    height, width = sides
    known = isinstance(height, int) and isinstance(width, int)
    if scale[0] == scale[1]:  # torchvision's Resize rounds down.
        shorter = min(height, width) if known else ops.minimum(height, width)
        return scale[0] * height // shorter, scale[0] * width // shorter
    # timm's ResizeKeepRatio rounds to the nearest, in double precision.
    if known:
        ratio = min(height / scale[0], width / scale[1])
        return round(height / ratio), round(width / ratio)
    height, width = (ops.cast(side, "float64") for side in sides)
    ratio = ops.minimum(height / scale[0], width / scale[1])
    return tuple(ops.cast(ops.round(side / ratio), "int32") for side in (height, width))


def _resize(images, sides: tuple, interpolation: str):
    """Resizes with antialiasing to sides that a graph may yet have to compute."""
    if all(isinstance(side, int) for side in sides):
        return ops.image.resize(
            images, sides, interpolation, antialias=True, data_format="channels_last"
        )
    # Keras wants numbers here. Only TensorFlow has sizes without; it takes them.
    import tensorflow as tf

    resized = tf.image.resize(images, tf.stack(sides), interpolation, antialias=True)
    return tf.cast(resized, images.dtype)


def _crop_offsets(sides: tuple, size: tuple[int, int]) -> tuple:
    """Rows above and columns left of the crop. Halves go to the nearest even number, as in
    torchvision, which uses Python's `round`: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2."""
    excess = tuple(side - wanted for side, wanted in zip(sides, size, strict=True))
    return tuple((value + value % 4 // 3) // 2 for value in excess)

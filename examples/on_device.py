"""Classify images on a device: an exported LiteRT file, `ai_edge_litert` and NumPy, nothing else.

    pip install ai-edge-litert numpy
    python on_device.py model.tflite photo.ppm other.npy --top 3

The file of a model says what it needs: `keras_resnets.export` puts labels and the way images are
prepared into it, as a zip archive behind the network. Images are `.ppm` or `.pgm` (binary), `.npy`
(uint8, height x width x channels), and whatever Pillow reads where that is installed; they are read
as by `keras_resnets`. Copy this file to the device: it imports neither TensorFlow nor that package.
"""

import argparse
import json
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter


class Classifier:
    """An exported LiteRT model, and what its file says about it.

    Args:
        path: of a `.tflite` file that `keras_resnets.export` wrote, for one image input.
        threads: of the processor to use.

    Raises:
        ValueError: if the file lacks the metadata, or does not say how images are prepared.
    """

    def __init__(self, path: str | Path, threads: int = 1) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                self.metadata = json.loads(archive.read("metadata.json"))
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(
                "MODEL must be written by keras_resnets.export, which puts labels and metadata "
                f"into it. Received: {str(path)!r}"
            ) from error
        needed = ["input_size", "crop_pct", "interpolation"]
        needed += [] if self.metadata["include_preprocessing"] else ["mean", "std"]
        missing = [key for key in needed if key not in self.metadata]
        if missing:
            raise ValueError(
                f"MODEL must say how images are prepared; this file lacks {', '.join(missing)}: "
                "export the model anew with `preprocessing`, which states them. "
                f"Received: {str(path)!r}"
            )
        self.labels = self.metadata["labels"]
        self.threshold: float | None = self.metadata.get("threshold")
        self.size = tuple(self.metadata["input_size"][-2:])
        self._interpreter = Interpreter(str(path), num_threads=threads)
        source = self._interpreter.get_input_details()[0]
        self._interpreter.resize_tensor_input(source["index"], (1, *self.size, source["shape"][-1]))
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._output = self._interpreter.get_output_details()[0]

    @property
    def gives_probabilities(self) -> bool:
        """Whether answers are probabilities: of logits of two or more classes or of several labels
        an image, a softmax or a sigmoid. Otherwise they are values, numbers as they come."""
        activation = self.metadata["activation"]
        several = self.threshold is not None or self._output["shape"][-1] != 1
        logits = activation == "linear" and several
        return bool(logits) or activation in ("softmax", "log_softmax", "sigmoid", "hard_sigmoid")

    def answer(self, image: np.ndarray) -> np.ndarray:
        """Runs the model on an image.

        Args:
            image: uint8 `(height, width, channels)`, of any size.

        Returns:
            Float32 probabilities or values `(classes,)`.
        """
        channels = self._input["shape"][-1]
        if image.ndim == 2:
            image = image[..., None]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, channels):
            raise ValueError(
                f"the image must be uint8 of shape (height, width, {channels}). "
                f"Received: {image.dtype} {image.shape}"
            )
        image = np.repeat(image, channels // image.shape[-1], axis=-1)  # Grey is RGB all alike.
        values = self._prepared(image).astype("float32")
        self._interpreter.set_tensor(self._input["index"], _to_type(values, self._input)[None])
        self._interpreter.invoke()
        outputs = _to_float(self._interpreter.get_tensor(self._output["index"])[0], self._output)
        activation = self.metadata["activation"]
        if activation == "linear" and self.threshold is not None:
            return np.exp(-np.logaddexp(0, -outputs))
        if self.gives_probabilities and activation in ("linear", "log_softmax"):
            outputs = np.exp(outputs - outputs.max())
            outputs /= outputs.sum()
        return outputs

    def top(self, image: np.ndarray, count: int | None = None) -> list[tuple[str, float]]:
        """Labels and probabilities of an image's likeliest classes, likeliest first; or labels and
        values, the largest first.

        Args:
            image: as for `answer`.
            count: how many. Default: 5; of a model of several labels an image, whose file says so,
                all that reach its threshold, which may be none.
        """
        answers = self.answer(image)
        best = np.argsort(-answers, kind="stable")
        if count is None and self.threshold is not None:
            best = best[answers[best] >= self.threshold]
        else:
            best = best[: count or 5]
        return [(self._label(i), float(answers[i])) for i in best]

    def _label(self, index: int) -> str:
        if self.labels:
            return self.labels[index]
        return f"class {index}" if self.gives_probabilities else f"output {index}"

    def _prepared(self, image: np.ndarray) -> np.ndarray:
        """The resized and cropped image, normalised if the model does not do so itself."""
        crop = resized_crop(
            image, self.size, self.metadata["crop_pct"], self.metadata["interpolation"]
        )
        if self.metadata["include_preprocessing"]:
            return crop
        mean, std = (np.float32(self.metadata[key][: crop.shape[-1]]) for key in ("mean", "std"))
        return (crop / np.float32(255) - mean) / std


def _to_type(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """Real values as a tensor of the interpreter has them: q = value / scale + zero point."""
    dtype, (scale, zero) = tensor["dtype"], tensor["quantization"]
    if np.issubdtype(dtype, np.floating):
        return values.astype(dtype)
    if scale:
        values = values / scale + zero
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _to_float(values: np.ndarray, tensor: dict[str, Any]) -> np.ndarray:
    """The real values of a tensor of the interpreter: (q - zero point) * scale."""
    scale, zero = tensor["quantization"]
    values = values.astype("float32")
    return (values - zero) * np.float32(scale) if scale else values


# Images -------------------------------------------------------------------------------------------


def read_image(path: str | Path) -> np.ndarray:
    """Reads an image file to uint8 `(height, width, channels)`.

    The rule is that of `keras_resnets`: 16 bits are scaled to 8, palettes are looked up,
    transparency is dropped, of an animation the first picture counts, and the orientation tags of
    cameras are ignored.

    Raises:
        ValueError: if it cannot be read; the message names the file.
    """
    path = Path(path)
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        if path.suffix in (".ppm", ".pgm"):
            return _read_netpbm(path.read_bytes())
        from PIL import Image  # For all other files, where it is installed.

        with Image.open(path) as image:
            return _to_rgb(image)
    except ImportError as error:
        raise ValueError(
            "IMAGE must be a .ppm, .pgm or .npy file where Pillow is not installed. "
            f"Received: {str(path)!r}"
        ) from error
    except FileNotFoundError:
        raise
    # Damaged files end in many ways: Pillow's plugins have errors of their own.
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ValueError(f"IMAGE must be readable: {error}. Received: {str(path)!r}") from error


def _to_rgb(image: Any) -> np.ndarray:
    """An image of Pillow's in 8 bits and three channels."""
    # Pillow reads 16 bits of a PNG as 32 in some versions, and clips what it converts.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        levels = (np.asarray(image).astype("int64") + 128) // 257  # 65535 becomes 255.
        return np.repeat(levels.astype("uint8")[..., None], 3, axis=-1)
    if image.mode in ("I", "F"):
        raise ValueError("its numbers have 32 bits and no known range; save it with 8 or 16 bits")
    image.info.pop("transparency", None)  # Pillow warns of it, and RGB has none.
    return np.array(image.convert("RGB"))


def _read_netpbm(data: bytes) -> np.ndarray:
    """Decodes a binary PPM (P6, RGB) or PGM (P5, grey) file of 8 or 16 bits to 8."""
    number = rb"(?:\s|#[^\n]*\n)+(\d+)"  # After spaces and comments.
    header = re.match(rb"P([56])" + 3 * number + rb"\s", data)
    if header is None:
        raise ValueError("not a binary PPM or PGM file")
    kind, width, height, largest = map(int, header.groups())
    if not 0 < largest < 65536:
        raise ValueError(f"the largest value must be from 1 to 65535, and is {largest}")
    channels, dtype = 3 if kind == 6 else 1, np.dtype(">u2" if largest > 255 else "uint8")
    found = len(data) - header.end()
    if found != height * width * channels * dtype.itemsize:
        raise ValueError(f"{height}x{width} pixels announced, {found} bytes found")
    pixels = np.frombuffer(data, dtype, offset=header.end())
    if largest != 255:
        pixels = np.clip(np.rint(pixels / largest * 255), 0, 255).astype("uint8")
    return pixels.reshape(height, width, channels)


def resized_crop(
    image: np.ndarray, size: tuple[int, int], crop_pct: float, interpolation: str
) -> np.ndarray:
    """The centre of an image resized to cover `size / crop_pct`, as models are evaluated.

    Args:
        image: uint8 `(height, width, channels)`.
        size: `(height, width)` of the result.
        crop_pct: side of the crop as a fraction of what the image is resized to cover.
        interpolation: `"bilinear"` or `"bicubic"`, antialiased.

    Returns:
        A uint8 array `(*size, channels)`; it is PIL's to 2 of the 255 levels.
    """
    height, width = image.shape[:2]
    rows, columns = (math.floor(side / crop_pct) for side in size)
    if rows == columns:
        shorter = min(height, width)
        sides = rows * height // shorter, rows * width // shorter
    else:
        ratio = min(height / rows, width / columns)
        sides = round(height / ratio), round(width / ratio)
    top, left = (round((side - wanted) / 2) for side, wanted in zip(sides, size, strict=True))
    # One direction, then the other, and whole grey levels after either: so does PIL.
    across = _weights(width, sides[1], interpolation)[left : left + size[1]]
    down = _weights(height, sides[0], interpolation)[top : top + size[0]]
    image = _whole(np.einsum("xw,hwc->hxc", across, image, optimize=True))
    return _whole(np.einsum("yh,hxc->yxc", down, image, optimize=True))


def _whole(values: np.ndarray) -> np.ndarray:
    return np.clip(np.floor(values + 0.5), 0, 255).astype("uint8")


def _weights(length: int, wanted: int, interpolation: str) -> np.ndarray:
    """The matrix `(wanted, length)` that resizes a line of pixels, with antialiasing."""
    scale = length / wanted
    centres = (np.arange(wanted)[:, None] + 0.5) * scale - 0.5
    distances = np.abs(np.arange(length) - centres) / max(scale, 1)
    if interpolation == "bilinear":
        weights = np.maximum(1 - distances, 0)
    else:  # Keys' cubic with a = -0.5.
        near = (1.5 * distances - 2.5) * distances**2 + 1
        far = ((-0.5 * distances + 2.5) * distances - 4) * distances + 2
        weights = np.where(distances < 1, near, np.where(distances < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", metavar="MODEL.tflite", help="what keras_resnets.export wrote")
    add("images", metavar="IMAGE", nargs="+", help=".ppm, .pgm, .npy, or what Pillow reads")
    add("--top", type=int, help="classes to name (5; of several labels, all over the threshold)")
    add("--threads", type=int, default=1, help="of the processor to use (%(default)s)")
    arguments = parser.parse_args()
    try:
        classifier = Classifier(arguments.model, arguments.threads)
        for path in arguments.images:
            print(path)
            found = classifier.top(read_image(path), arguments.top)
            if not found:
                print(f"  no label reaches {classifier.threshold:.0%}")
            for label, answer in found:
                shown = f"{answer:6.1%}" if classifier.gives_probabilities else f"{answer:.6g}"
                print(f"  {shown}  {label}")
    except (OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

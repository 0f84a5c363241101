"""What a format is, and what is asked of it."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_resnets.deploy.images import Samples
from keras_resnets.deploy.inputs import ImageInputs
from keras_resnets.deploy.prepare import ExportGraph
from keras_resnets.deploy.verify import Load

PRECISIONS = ("float32", "float16", "bfloat16", "int8", "int8-dynamic")
SIGNATURES = ("serve", "features", "serve_bytes")
# Of the precisions that lose something, whatever the format.
LOSSY = {"float16": 1e-2, "bfloat16": 5e-2, "int8": 0.5, "int8-dynamic": 0.5}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What is to be written: the arguments of `export`, checked, with their defaults filled in.

    Attributes:
        path: of the file or the folder.
        format: the format.
        precision: of weights and computation.
        shape: of the images, with the batch.
        fold: whether to fold batch norms.
        normalizes: whether the network normalises uint8 images by itself.
        inputs: how images are prepared, as far as it is known.
        activation: name of the output's, or `"unchanged"`.
        signatures: of a SavedModel.
        labels: names of the classes.
        threshold: the probability from which an image has a label; None where it has one class.
        architecture: name of the network's, if known.
        licence: of the weights, if known.
        samples: images to calibrate int8 with and to compare on, if given.
        keep_float: names of layers that an int8 precision leaves alone.
        tolerance: largest difference of an output, in units of the largest.
    """

    path: Path
    format: Format
    precision: str
    shape: tuple[int | None, ...]
    fold: bool
    normalizes: bool
    inputs: ImageInputs
    activation: str
    signatures: tuple[str, ...]
    labels: list[str]
    threshold: float | None
    architecture: str | None
    licence: str | None
    samples: Samples
    keep_float: tuple[str, ...]
    tolerance: float

    @property
    def spec(self) -> keras.InputSpec:
        """Shape, type and name of the images, for Keras' exporters."""
        dtype = "uint8" if self.normalizes else "float32"
        return keras.InputSpec(shape=self.shape, dtype=dtype, name="image")

    @property
    def keras_dtype(self) -> str:
        """The type that Keras gives the network before the format's own tools have it."""
        lower = self.format.lowered_by_keras and self.precision != "float32"
        return self.precision if lower else "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Format:
    """A format that models are exported to.

    Attributes:
        name: what `export` calls it.
        suffix: what its paths end in; a folder's in nothing.
        companions: suffixes of the files that lie beside that of the path and belong to it.
        backend: Keras' backend that writes it.
        packages: what writing and running it needs: modules by the packages that have them.
        packages_for: what a precision needs besides.
        refused: precisions that it cannot hold: why, and what would work.
        tolerances: largest difference allowed, relative to the largest output, by precision.
        fixed_shape: whether its files are for one image of one size unless told otherwise.
        fixed_shape_for: precisions that there are only for one size and batch.
        signatures: what its files can be asked for.
        lowered_by_keras: whether Keras casts the network to a lower precision. The other formats'
            tools lower the float32 file.
        resizes: whether it has an operator for the antialiased resizing of a `Preprocessor`.
        refuses_quantized: why a model that Keras has quantized cannot be converted, if so.
        oldest_runtimes: the oldest release of the runtime that runs a precision, where it depends
            on the precision; see `docs/compatibility.md`.
        write: writes a network: `(graph, request, path, metadata)`.
        load: loads the file for the check; one of the functions in `deploy.verify`.
    """

    name: str
    suffix: str
    companions: tuple[str, ...] = ()
    backend: str = "tensorflow"
    packages: Mapping[str, str]
    packages_for: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str]
    tolerances: Mapping[str, float]
    fixed_shape: bool = False
    fixed_shape_for: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ("serve",)
    lowered_by_keras: bool = False
    resizes: bool = False
    refuses_quantized: str = ""
    oldest_runtimes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    write: Callable[[ExportGraph, ExportRequest, Path, dict[str, Any]], None]
    load: Load

    @property
    def is_folder(self) -> bool:
        """Whether an export is a folder rather than a file."""
        return not self.suffix

    @property
    def precisions(self) -> list[str]:
        """The precisions that it has."""
        return [precision for precision in PRECISIONS if precision not in self.refused]

    def files(self, path: Path) -> list[Path]:
        """The files or the folder that an export consists of, that of the path first."""
        return [path, *(path.with_suffix(suffix) for suffix in self.companions)]

    def require_packages(self, precision: str) -> None:
        """Raises an ImportError if a package is missing that writes or runs a precision."""
        packages = {**self.packages, **self.packages_for.get(precision, {})}
        missing = [
            package for module, package in packages.items() if not importlib.util.find_spec(module)
        ]
        if missing:
            # No extra but a backend's own brings that.
            extras = [name for name in ("tensorflow",) if name in missing]
            extras += ["export"] if set(missing) - set(extras) else []
            raise ImportError(
                f"format {self.name!r} needs the package{'s' if len(missing) > 1 else ''} "
                f"{', '.join(missing)}: pip install 'keras-resnets[{','.join(extras)}]'. "
                f"Received: format={self.name!r}, precision={precision!r}"
            )

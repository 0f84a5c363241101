"""Which layers int8 hurts most."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.table import Table

from keras_resnets.deploy import int8
from keras_resnets.deploy.export import export
from keras_resnets.deploy.formats import onnx as onnx_format
from keras_resnets.deploy.images import batches, representative
from keras_resnets.deploy.inputs import inputs_of
from keras_resnets.deploy.report import plain_text
from keras_resnets.files import atomic_write
from keras_resnets.graph.walk import flat_layers


@dataclasses.dataclass(frozen=True)
class LayerLoss:
    """What int8 in one layer does to the outputs, all others being in float.

    Attributes:
        layer: its name.
        mean_difference: of an output, in units of the largest output.
        max_difference: the largest, in the same units.
        top1_agreement: share of the images with the same likeliest class; None without classes.
    """

    layer: str
    mean_difference: float
    max_difference: float
    top1_agreement: float | None


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """Which layers lose most by int8; prints as a table.

    Attributes:
        model: its name.
        images: how many were compared.
        layers: what each loses, the worst first.
    """

    model: str
    images: int
    layers: tuple[LayerLoss, ...]

    def worst(self, count: int) -> list[str]:
        """Names for `keep_float`."""
        return [loss.layer for loss in self.layers[:count]]

    def __str__(self) -> str:
        table = Table("layer", "mean difference", "max difference", "top-1 agreement", box=None)
        for loss in self.layers:
            agreement = loss.top1_agreement
            table.add_row(
                loss.layer,
                f"{loss.mean_difference:.2e}",
                f"{loss.max_difference:.2e}",
                "-" if agreement is None else f"{agreement:.1%}",
            )
        return plain_text(table)

    def plot(self, path: str | os.PathLike, most: int = 30) -> None:
        """Writes a `.png` file with a bar for each of the worst layers, the worst on top."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        shown = self.layers[:most]
        figure = Figure(figsize=(8, 1.2 + 0.22 * len(shown)), layout="constrained")
        panel = figure.subplots()
        names = [loss.layer for loss in shown]
        panel.barh(names, [loss.max_difference for loss in shown], color="tab:orange", label="max")
        panel.barh(names, [loss.mean_difference for loss in shown], color="tab:blue", label="mean")
        panel.invert_yaxis()
        panel.set(
            xscale="log",
            xlabel="difference by int8 in this layer alone, of the largest output",
            title=f"{self.model}: {len(shown)} of {len(self.layers)} layers, {self.images} images",
        )
        panel.tick_params(axis="y", labelsize=7)
        panel.grid(axis="x", alpha=0.3)
        panel.legend()
        with atomic_write(path) as unfinished:
            FigureCanvasAgg(figure).print_png(unfinished)


def sensitivity(model: keras.Model, data: Any, *, preprocessing: Any = None) -> Sensitivity:
    """Measures what int8 does to the outputs in each layer alone.

    The model is exported to ONNX with its batch norms folded and logits for outputs. Each layer is
    quantized by itself, all others staying in float; it is calibrated with three quarters of the
    images and run on the others.

    Args:
        model: as for `export`.
        data: representative images, as for `export`.
        preprocessing: as for `export`.

    Returns:
        A `Sensitivity`, which prints as a table; its `plot` draws it, its `worst` has names for
        `keep_float`.

    Raises:
        ValueError: if the images are of another shape or range.
        ImportError: if a package is missing.

    Example:

    >>> found = keras_resnets.deploy.quantize.sensitivity(model, images)
    >>> keras_resnets.export(
    ...     model, "m.onnx", format="onnx", precision="int8", data=images, keep_float=found.worst(3)
    ... )
    """
    import onnx
    from onnxruntime.quantization.registry import QDQRegistry

    with tempfile.TemporaryDirectory() as folder:
        path, single, ranges = (Path(folder, name) for name in ("m.onnx", "s.onnx", "ranges.json"))
        report = export(
            model, path, format="onnx", activation="linear", preprocessing=preprocessing, data=data
        )
        samples = representative(
            data,
            precision="int8",
            shape=report.input_shape,
            uint8=False,
            inputs=inputs_of(model, preprocessing).at_shape(report.input_shape),
        )
        images = samples.compared
        expected = _outputs(path, images)
        operators = [node for node in onnx.load(path).graph.node if node.op_type in QDQRegistry]
        names = {layer.name for layer in flat_layers(model)} - int8.PREPROCESSING
        found = [name for node in operators for name in onnx_format.layers_of(node) & names]
        losses = []
        for layer in dict.fromkeys(found):
            onnx_format.quantize_static(
                path, samples.calibration, only=[layer], target=single, cache=ranges
            )
            losses.append(_loss(layer, expected, _outputs(single, images)))
    worst_first = sorted(losses, key=lambda loss: -loss.mean_difference)
    return Sensitivity(model.name, len(images), tuple(worst_first))


def _outputs(path: Path, images: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    size = source.shape[0] if isinstance(source.shape[0], int) else None
    rows = [session.run(None, {source.name: rows})[0] for rows in batches(images, size)]
    return np.concatenate(rows)


def _loss(layer: str, expected: np.ndarray, found: np.ndarray) -> LayerLoss:
    differences = np.abs(found - expected) / np.abs(expected).max()
    agreement = None
    if expected.ndim == 2 and expected.shape[1] > 1:
        agreement = float((found.argmax(1) == expected.argmax(1)).mean())
    return LayerLoss(layer, float(differences.mean()), float(differences.max()), agreement)

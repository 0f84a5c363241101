"""What is known of an exported file once it has been run."""

from __future__ import annotations

import dataclasses
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Importing the package stays cheap.
    from rich.table import Table


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportReport:
    """An exported file, and how its outputs differ from the model's on the same images.

    Attributes:
        path: of the file, or of the folder of a SavedModel.
        format: `"saved_model"`, `"litert"`, `"onnx"` or `"openvino"`.
        precision: of its weights and computation.
        input_shape: `(batch, height, width, channels)`, None where any size goes in.
        size: bytes on the disk, all files together.
        operators: how many of each kind the file has; a SavedModel's are those of `serve`.
        images: how many were compared.
        calibrated: how many others int8 was calibrated with.
        max_difference: the largest difference between an output of the file and of the model, in
            units of the largest magnitude among the model's outputs.
        mean_difference: the mean difference in the same units.
        tolerance: what `max_difference` had to stay within.
        top1_agreement: share of the images with the same likeliest class; None where the output is
            not one of classes.
        latency: median seconds a call, with `latency_batch` images, in this machine's fresh
            process, its runtime's default number of threads.
        latency_batch: images in those calls.
        unfolded: why batch norms were not folded, if they were to be.
        metadata: what is written in the file.
    """

    path: str
    format: str
    precision: str
    input_shape: tuple[int | None, ...]
    size: int
    operators: dict[str, int]
    images: int
    calibrated: int
    max_difference: float
    mean_difference: float
    tolerance: float
    top1_agreement: float | None
    latency: float
    latency_batch: int
    unfolded: str | None
    metadata: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Everything in it, for JSON."""
        return dataclasses.asdict(self)

    def rows(self) -> dict[str, str]:
        """What the table shows: a text for each line."""
        agreement = self.top1_agreement
        operators = sorted(self.operators.items(), key=lambda item: (-item[1], item[0]))
        rows = {
            "file": self.path,
            "format": f"{self.format}, {self.precision}",
            "input": shape_text(self.input_shape),
            "size": f"{self.size / 1e6:.2f} MB",
            "operators": f"{sum(self.operators.values())}: "
            + ", ".join(f"{count} {kind}" for kind, count in operators),
            "difference": f"max {self.max_difference:.1e}, mean {self.mean_difference:.1e} of the "
            f"largest output, {self.images} images (tolerance {self.tolerance:g})",
            "top-1 agreement": "-" if agreement is None else f"{agreement:.1%}",
            "latency here": f"{self.latency * 1e3:.2f} ms for {self.latency_batch} "
            f"image{'s' if self.latency_batch > 1 else ''}",
        }
        if self.calibrated:
            rows["int8"] = f"calibrated with {self.calibrated} other images"
        return rows | ({"batch norms": f"not folded: {self.unfolded}"} if self.unfolded else {})

    def __str__(self) -> str:
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for key, text in self.rows().items():
            table.add_row(key, text)
        return plain_text(table)


def plain_text(table: Table, width: int = 110) -> str:
    """A table as text without colours."""
    from rich.console import Console

    text = io.StringIO()
    console = Console(file=text, width=width, markup=False, highlight=False, color_system=None)
    console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def shape_text(shape: tuple[int | None, ...]) -> str:
    """A shape as people write it: "1 x 224 x 224 x 3", "any" for what is not fixed."""
    return " x ".join("any" if side is None else str(side) for side in shape)

"""One page of all models: a table to sort and filter, and their accuracy by what they cost.

The page is a single file that needs nothing else, no network either. Accuracies are those of
`weights/published.py`; costs are counted by `tools/count_costs.py` (`costs.csv`).
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import string
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from keras_resnets import __version__, catalog
from keras_resnets.commands.scatter import COLORS, STYLE, Point, scatter
from keras_resnets.files import write_text
from keras_resnets.weights.published import Pretrained

COSTS = Path(__file__).with_name("costs.csv")
TEMPLATE = Path(__file__).with_name("models_page.html")

GIGA, MEGA = 1e9, 1e6
IMAGENET = "ImageNet"  # As `Pretrained.dataset` calls it.

# A file of its own takes no colour from a page.
_PAPER = """\
svg { color: #333 }
@media (prefers-color-scheme: dark) { svg { color: #ccc } }
"""


def rows_of_costs() -> list[dict[str, str]]:
    """The table of costs as it is written: architecture, parameters, size, macs."""
    return list(csv.DictReader(COSTS.read_text(encoding="utf-8").splitlines()))


@functools.cache
def costs() -> dict[tuple[str, int], tuple[int, int]]:
    """Parameters and multiply-accumulates by architecture and side of the image."""
    return {
        (row["architecture"], int(row["size"])): (int(row["parameters"]), int(row["macs"]))
        for row in rows_of_costs()
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A checkpoint, or an architecture of which none is published.

    Attributes:
        builder: the public name of the function that builds the network.
        architecture: timm's name of the network.
        family: the family that it belongs to.
        checkpoint: what is published, or None.
        size: side of the images of the accuracy, or the architecture's own.
        parameters: number of trainable parameters, with the default number of classes.
        macs: multiply-accumulates for one image of that size.
    """

    builder: str
    architecture: str
    family: str
    checkpoint: Pretrained | None
    size: int
    parameters: int
    macs: int

    @property
    def name(self) -> str:
        """What `create_model` takes."""
        return self.architecture if self.checkpoint is None else self.checkpoint.name

    @property
    def top1(self) -> float | None:
        return None if self.checkpoint is None else self.checkpoint.top1

    @property
    def data(self) -> str:
        """What the accuracy was measured on."""
        return "" if self.checkpoint is None or self.top1 is None else self.checkpoint.dataset


def rows_of(pattern: str = "*", *, pretrained: bool = False) -> list[Row]:
    """What the page shows, in the families' order.

    Args:
        pattern: as for `list_models`.
        pretrained: True leaves out architectures of which no checkpoint is published.
    """
    wanted = set(catalog.list_models(pattern)) | set(catalog.list_models(pattern, pretrained=True))
    rows = []
    for family, module in catalog.FAMILIES.items():
        for builder in module.__all__:
            variant = getattr(module, builder)
            checkpoints: list[Pretrained | None] = [*variant.pretrained.values()]
            for checkpoint in checkpoints or [None] * (not pretrained):
                reported = checkpoint and checkpoint.results_size
                size = reported or variant.config.image_size
                parameters, macs = costs()[variant.name, size]
                row = Row(
                    builder=builder,
                    architecture=variant.name,
                    family=family,
                    checkpoint=checkpoint,
                    size=size,
                    parameters=parameters,
                    macs=macs,
                )
                if {row.name, row.architecture} & wanted:
                    rows.append(row)
    return rows


# The plots ---------------------------------------------------------------------------------------


def accuracy_by(rows: Iterable[Row], cost: str, *, legend: bool = False) -> str:
    """Accuracy by cost as SVG, of the rows that have an accuracy; nothing where none has.

    Args:
        rows: of `rows_of`.
        cost: `"macs"` or `"parameters"`.
        legend: whether the families' names stand in the plot.
    """
    unit, label = {
        "macs": (GIGA, "billion multiply-accumulates, at the size of the accuracy"),
        "parameters": (MEGA, "million parameters"),
    }[cost]
    families = list(catalog.FAMILIES)
    measured = [row for row in rows if row.top1 is not None and row.data == IMAGENET]
    if not measured:
        return ""
    points = [
        Point(
            x=getattr(row, cost) / unit,
            y=row.top1,
            group=families.index(row.family),
            name=row.name,
            title=f"{row.name}: {row.top1:.2f} % at {row.size}, {row.macs / GIGA:.2f} billion "
            f"multiply-accumulates, {row.parameters / MEGA:.1f} million parameters",
        )
        for row in measured
    ]
    shown = {row.family for row in measured}
    groups = [family if family in shown else "" for family in families] if legend else ()
    return scatter(points, x_label=label, y_label="ImageNet top-1 in percent", groups=groups)


def figure() -> str:
    """A file of SVG: what `weights="imagenet"` means for each architecture, by cost."""
    rows = [row for row in rows_of(pretrained=True) if row.checkpoint and row.checkpoint.imagenet]
    opening, rest = accuracy_by(rows, "macs", legend=True).split("\n", 1)
    return f"{opening}\n<style>{STYLE}{_PAPER}</style>\n{rest}\n"


# The table ---------------------------------------------------------------------------------------

HEADINGS = (
    ("model", "text"),
    ("family", "text"),
    ("top-1", "number"),
    ("top-5", "number"),
    ("on", "text"),
    ("at", "number"),
    ("parameters, million", "number"),
    ("MACs, billion", "number"),
    ("licence", "text"),
)


def _cells(row: Row) -> Sequence[str]:
    checkpoint = row.checkpoint
    return (
        row.name,
        row.family,
        "" if row.top1 is None else f"{row.top1:.2f}",
        "" if checkpoint is None or checkpoint.top5 is None else f"{checkpoint.top5:.2f}",
        row.data,
        str(row.size),
        f"{row.parameters / MEGA:.2f}",
        f"{row.macs / GIGA:.2f}",
        "none published" if checkpoint is None else checkpoint.license,
    )


def _table_row(row: Row) -> str:
    cells = "".join(
        f'<td class="{kind}">{escape(cell)}</td>'
        for cell, (_, kind) in zip(_cells(row), HEADINGS, strict=True)
    )
    permissive = row.checkpoint is not None and row.checkpoint.permissive
    default = row.checkpoint is not None and row.checkpoint.imagenet
    return (
        f'<tr data-name="{escape(row.name)}" data-family="{escape(row.family)}" '
        f'data-permissive="{int(permissive)}" data-default="{int(default)}" '
        f'title="keras_resnets.{escape(row.builder)}">{cells}</tr>'
    )


def page(rows: Sequence[Row]) -> str:
    """The page as HTML."""
    families = list(catalog.FAMILIES)
    legend = "".join(
        f'<label><input type="checkbox" checked value="{escape(family)}">'
        f'<i style="background:{COLORS[families.index(family)]}"></i>{escape(family)}</label>'
        for family in dict.fromkeys(row.family for row in rows)
    )
    headings = "".join(
        f'<th class="{kind}" scope="col"><button>{escape(text)}</button></th>'
        for text, kind in HEADINGS
    )
    return string.Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        style=STYLE,
        version=__version__,
        legend=legend,
        macs=accuracy_by(rows, "macs"),
        parameters=accuracy_by(rows, "parameters"),
        headings=headings,
        rows="\n".join(map(_table_row, rows)),
    )


def write_page(path: str, pattern: str, *, pretrained: bool) -> int:
    """Writes the page, wholly or not at all.

    Args:
        path: of the file.
        pattern: as for `rows_of`.
        pretrained: as for `rows_of`.

    Returns:
        How many models it shows.

    Raises:
        OSError: if it cannot be written.
    """
    rows = rows_of(pattern, pretrained=pretrained)
    write_text(path, page(rows))
    return len(rows)

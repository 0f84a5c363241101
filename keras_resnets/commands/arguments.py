"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Model = Annotated[
    str,
    typer.Option(
        help="An architecture, architecture.tag, hf://owner/repository, a folder, the folder of a "
        "run, a .keras file, or a file of weights that names its architecture."
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        help="For an architecture: a tag, a file, a folder, hf://owner/repository or none. "
        'Default: "imagenet".'
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        help="Probability from which an image has a label, of a model of several labels an image. "
        "Default: what the model states."
    ),
]
OfWeights = Annotated[
    str,
    typer.Argument(
        help="architecture.tag, hf://owner/repository, a folder, the folder of a run, or a file of "
        "weights that names its architecture."
    ),
]

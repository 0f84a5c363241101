"""What an exported file says about itself.

The keys are the same in every format, and so are their values, JSON; how a file holds them is its
format's.

- `architecture`: name of the network's.
- `labels`: names of the classes in the order of the outputs; empty where they are not known.
- `input_size`: `[channels, height, width]`, what the weights were evaluated at.
- `dynamic`: whether images of other heights and widths go in as well.
- `crop_pct`, `interpolation`: how images are brought to their size.
- `mean`, `std`: what images are normalised with, on a scale from 0 to 1, a number a channel.
- `test_input_size`, `test_crop_pct`: the larger size that weights are best evaluated at.
- `include_preprocessing`: whether uint8 RGB goes in; otherwise normalised float32.
- `activation`: that of the output, `"linear"` for logits.
- `multi_label`, `threshold`: only of a model whose images may have several labels: true, and the
  probability from which a label is said of an image. Logits become probabilities by a sigmoid then.
- `licence`: of the weights.
- `precision`: that of the file.

What nobody states is left out: a reader asks rather than guesses. The keys about images are those
of `keras_resnets.preparation.Preparation`, which reads them, too.
"""

from __future__ import annotations

from typing import Any

from keras_resnets.deploy.formats.format import ExportRequest
from keras_resnets.deploy.prepare import ExportGraph
from keras_resnets.weights.facts import multi_label_facts


def describe(graph: ExportGraph, request: ExportRequest) -> dict[str, Any]:
    """The metadata of what is about to be written."""
    optional = {"architecture": request.architecture, "licence": request.licence}
    return {
        **{key: value for key, value in optional.items() if value is not None},
        **request.inputs.as_metadata(request.shape),
        "labels": request.labels,
        "include_preprocessing": request.normalizes,
        "activation": graph.activation,
        **multi_label_facts(request.threshold),
        "precision": request.precision,
    }

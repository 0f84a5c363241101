"""Writes keras_resnets/commands/costs.csv: what every network costs, at every size that counts.

    KERAS_BACKEND=torch python tools/count_costs.py                 # all networks, some minutes
    KERAS_BACKEND=torch python tools/count_costs.py "resnest*"      # these, the others as they are

`keras-resnets list --html` and the site show accuracies beside costs, and may not build all models
for it. Sizes are the architecture's own and those at which accuracies of its published checkpoints
were measured. On torch, whose "meta" device makes weights without memory or numbers.
"""

from __future__ import annotations

import csv
import fnmatch
import io
import sys

import keras

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.commands import models_page
from keras_resnets.files import write_text


def sizes_of(name: str) -> list[int]:
    """Sides of the square images that a network's costs are asked for at."""
    variant = catalog.find_variant(name)
    reported = {checkpoint.results_size for checkpoint in variant.pretrained.values()}
    return sorted({variant.config.image_size, *filter(None, reported)})


def rows_of(name: str) -> list[dict[str, object]]:
    """The rows of a network: parameters once more with each size."""
    rows = []
    for size in sizes_of(name):
        with keras.device("meta"):
            model = kr.create_model(name, weights=None, input_shape=(size, size, 3))
        parameters, macs = catalog.costs(model, (size, size))
        rows.append(dict(architecture=name, parameters=parameters, size=size, macs=macs))
    return rows


def main() -> None:
    patterns = sys.argv[1:] or ["*"]
    names = kr.list_models()
    wanted = {name for pattern in patterns for name in fnmatch.filter(names, pattern)}
    kept = models_page.rows_of_costs() if models_page.COSTS.exists() else []
    rows = [row for row in kept if row["architecture"] in set(names) - wanted]
    for name in sorted(wanted):
        print(name, flush=True)
        rows += rows_of(name)
    rows.sort(key=lambda row: (row["architecture"], int(row["size"])))
    text = io.StringIO()
    writer = csv.DictWriter(
        text, ("architecture", "parameters", "size", "macs"), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(rows)
    write_text(models_page.COSTS, text.getvalue())


if __name__ == "__main__":
    main()

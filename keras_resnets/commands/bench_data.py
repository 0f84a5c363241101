"""What `keras-resnets bench-data` does."""

from __future__ import annotations

from keras_resnets.commands.output import print_json, print_lines
from keras_resnets.training import bench_data
from keras_resnets.training.recipe import find_recipe


def run_bench_data(
    data_spec: str,
    recipe: str,
    *,
    batch_size: int | None,
    image_size: int | None,
    seconds: float,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """`keras-resnets bench-data`."""
    chosen = find_recipe(recipe)
    result = bench_data.measure(
        data_spec,
        chosen.augmentation,
        image_size=image_size or chosen.image_size,
        batch_size=batch_size or min(chosen.batch_size, 64),
        seconds=seconds,
        data_dir=data_dir,
    )
    if as_json:
        print_json(result.as_dict())
    else:
        print_lines(
            [
                f"{result.images_per_second:,.0f} images/s: {result.images:,} images in "
                f"{result.seconds:.1f} s; the first batch took {result.first_batch:.1f} s"
            ]
        )

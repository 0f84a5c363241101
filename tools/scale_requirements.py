"""Work out what training on many GPUs needs of the input and of the network, and what limits it.

    python tools/scale_requirements.py
    python tools/scale_requirements.py --throughput 2500 --network 50

Prints the table of docs/many-machines.md; --write puts it there. Parameters and multiply-adds are
counted on our model; everything else is an assumption with an option of its own. Nothing here is
measured.
"""

import argparse
import dataclasses
import math
from pathlib import Path

import keras_resnets
from keras_resnets.training.recipe import find_recipe

PAGE = Path(__file__).resolve().parents[1] / "docs" / "many-machines.md"
BEGIN, END = "<!-- made by tools/scale_requirements.py -->", "<!-- end of the calculation -->"
IMAGENET = 1_281_167  # Training images.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the calculation takes for granted.

    Attributes:
        throughput: images a second that one GPU trains on when it waits for nothing.
        largest_batch: images that fit into one GPU.
        gpus_per_machine: GPUs of a machine.
        image_kilobytes: of an encoded image: ImageNet's training images are 148 GB.
        core_throughput: images a second that one processor core decodes and augments.
        cores: processor cores of a machine.
        storage: GB/s that the shared storage yields to all machines together.
        link: GB/s between two GPUs of a machine, each way.
        network: GB/s between two machines, each way; 12.5 is 100 Gbit/s.
        hop: microseconds that one message takes to get going.
        gradient_bytes: of one parameter's gradient; variables are float32 whatever the dtype.
    """

    throughput: float = 1000.0
    largest_batch: int = 128
    gpus_per_machine: int = 8
    image_kilobytes: float = 115.0
    core_throughput: float = 150.0
    cores: int = 96
    storage: float = 10.0
    link: float = 200.0
    network: float = 12.5
    hop: float = 5.0
    gradient_bytes: int = 4


@dataclasses.dataclass(frozen=True)
class Requirements:
    """What so many GPUs need, in seconds, bytes and images.

    Attributes:
        gpus: how many there are.
        machines: that they are in.
        batch: images a GPU and step.
        accumulated: steps whose gradients make one update.
        images: images a second over all GPUs when none waits.
        input_bytes: encoded bytes a second over all machines.
        cores: processor cores of each machine that are busy decoding.
        step: seconds that a step computes.
        all_reduce: seconds that its gradients take around the ring.
        exposed: seconds of those that the backward pass does not hide.
        load: of each resource, what is needed divided by what there is.
    """

    gpus: int
    machines: int
    batch: int
    accumulated: int
    images: float
    input_bytes: float
    cores: float
    step: float
    all_reduce: float
    exposed: float
    load: dict[str, float]

    @property
    def efficiency(self) -> float:
        """Share of the time in which the GPUs compute, if nothing but the network holds them up."""
        return self.step / (self.step + self.exposed)

    @property
    def limit(self) -> str:
        """The resource that has the least to spare."""
        return max(self.load, key=self.load.__getitem__)


def requirements(gpus: int, parameters: int, batch_size: int, given: Assumptions) -> Requirements:
    """What training on so many GPUs needs.

    The all-reduce is a ring: each GPU sends and receives 2 (n - 1) / n of the gradients' bytes in
    2 (n - 1) messages (Patarasu and Yuan, J. Parallel Distrib. Comput. 69, 2009), as fast as the
    slowest link. The backward pass, two thirds of a step, can hide as much of it.

    Args:
        gpus: how many there are.
        parameters: of the model.
        batch_size: images that one update of the weights rests on.
        given: the assumptions.
    """
    machines = math.ceil(gpus / given.gpus_per_machine)
    accumulated = math.ceil(batch_size / gpus / given.largest_batch)
    batch = batch_size // (gpus * accumulated)
    images = gpus * given.throughput
    input_bytes = images * given.image_kilobytes * 1e3
    cores = images / machines / given.core_throughput
    step = batch / given.throughput
    slowest = (given.link if machines == 1 else given.network) * 1e9
    sent = 2 * (gpus - 1) / gpus * parameters * given.gradient_bytes
    all_reduce = sent / slowest + 2 * (gpus - 1) * given.hop * 1e-6
    backward = 2 / 3 * step
    load = {
        "decoding": cores / given.cores,
        "storage": input_bytes / (given.storage * 1e9),
        "network": all_reduce / backward,
    }
    return Requirements(
        gpus,
        machines,
        batch,
        accumulated,
        images,
        input_bytes,
        cores,
        step,
        all_reduce,
        max(all_reduce - backward, 0.0),
        load,
    )


def page(given: Assumptions) -> str:
    """The calculation as Markdown: what it starts from, and a column for each number of GPUs."""
    info = keras_resnets.model_info("ResNeSt50")
    recipe = find_recipe("resnest")
    columns = [
        requirements(gpus, info.parameters, recipe.batch_size, given) for gpus in (8, 64, 512)
    ]
    hours = IMAGENET * recipe.epochs / 3600
    rows = {
        "machines": [f"{column.machines}" for column in columns],
        "images a GPU and step": [f"{column.batch}" for column in columns],
        "`--accumulate`": [f"{column.accumulated}" for column in columns],
        "images/s": [f"{column.images:,.0f}" for column in columns],
        f"{recipe.epochs} epochs of ImageNet take, hours": [
            f"{hours / (column.images * column.efficiency):.1f}" for column in columns
        ],
        "**input**, all machines, GB/s": [f"{c.input_bytes / 1e9:.2f}" for c in columns],
        "of the shared storage": [f"{column.load['storage']:.0%}" for column in columns],
        "cores busy decoding, a machine": [f"{column.cores:.0f}" for column in columns],
        "of the cores": [f"{column.load['decoding']:.0%}" for column in columns],
        "**all-reduce**, ms": [f"{column.all_reduce * 1e3:.1f}" for column in columns],
        "a step computes, ms": [f"{column.step * 1e3:.0f}" for column in columns],
        "of the backward pass": [f"{column.load['network']:.0%}" for column in columns],
        "not hidden behind it, ms": [f"{column.exposed * 1e3:.1f}" for column in columns],
        "GPUs compute, of the time, with local data": [
            f"{column.efficiency:.0%}" for column in columns
        ],
        "**least to spare**": [column.limit for column in columns],
    }
    work = 6 * info.macs
    return "\n".join(
        [
            f"ResNeSt-50 has {info.parameters:,} parameters, so the gradients of a step are "
            f"{info.parameters * given.gradient_bytes / 1e6:.0f} MB, and {info.macs / 1e9:.2f} "
            f"billion multiply-adds an image of {info.image_size} pixels. Training takes three "
            f"times as many (forward, and backward twice), {work / 1e9:.0f} GFLOP an image: "
            f"{given.throughput:,.0f} images/s are {work * given.throughput / 1e12:.0f} TFLOP/s.",
            "",
            "| GPUs | " + " | ".join(f"{column.gpus}" for column in columns) + " |",
            "|---|" + "--:|" * len(columns),
            *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()),
        ]
    )


def main() -> None:
    """Prints the calculation for the assumptions on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in dataclasses.fields(Assumptions):
        name = "--" + field.name.replace("_", "-")
        parser.add_argument(name, type=type(field.default), default=field.default)
    parser.add_argument("--write", action="store_true", help="put it into the page, too")
    arguments = vars(parser.parse_args())
    write = arguments.pop("write")
    text = page(Assumptions(**arguments))
    print(text)
    if write:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

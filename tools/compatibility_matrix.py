"""Writes docs/compatibility.md: every family in every format and precision, exported and measured.

    python -m tools.compatibility_matrix [--families ResNeXt ...] [--page PATH]

A small network of each family is trained on scikit-learn's digits for some seconds, so that "the
same likeliest class" means something, and exported in every format and precision. The networks have
one block in each of two stages: every kind of layer of their family, in minutes for the whole page.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_resnets as kr
from benchmarks import machine
from keras_resnets.deploy.formats import FORMATS
from keras_resnets.deploy.formats.format import PRECISIONS
from keras_resnets.deploy.formats.onnx import IR_VERSION, ONNX, OPSET

PAGE = Path(__file__).parent.parent / "docs" / "compatibility.md"
SIDE = 32
COMPARED = 128  # Images, of those that were not trained on.
EPOCHS = 4
BATCH = 32

SMALL = dict(depths=(1, 1), planes=(16, 32))
FAMILIES = {
    "ResNet": ("seresnet50", SMALL),
    "ResNeXt": ("resnext50_32x4d", SMALL | dict(cardinality=4, base_width=32)),
    "ResNeSt": ("resnest50d", SMALL),
    "Res2Net": ("res2net50_26w_4s", SMALL | dict(base_width=64)),
    "ReXNet": ("rexnet_100", dict(depth=0.3)),
    "Pruned ResNet": (
        "ecaresnet50d_pruned",
        SMALL | dict(outputs=(48, 90), widths=(((14, 11),), ((30, 25),))),
    ),
    "ResNetV2": ("resnetv2_50x1_bit", dict(depths=(1, 1), planes=(32, 32))),
    "SKNet": ("skresnet50", SMALL),
    "Hybrid": ("resnext26ts", dict(depths=(1, 1), planes=(32, 32))),
    "CLIP": ("resnet50_clip", SMALL | dict(grid=4)),
}
PACKAGES = (
    "keras", "tensorflow", "tensorflow-cpu", "ai-edge-litert", "onnx", "onnxruntime", "tf2onnx",
    "openvino",
)  # fmt: skip


def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as uint8 RGB, and their labels."""
    found = load_digits()
    times = SIDE // 8
    images = (found.images * 15.9).astype("uint8").repeat(times, 1).repeat(times, 2)
    return images[..., None].repeat(3, -1), found.target


def trained(family: str, images: np.ndarray, labels: np.ndarray) -> keras.Model:
    """A small network of a family that tells digits apart; uint8 to logits."""
    name, changes = FAMILIES[family]
    keras.utils.set_random_seed(0)
    model = kr.create_model(
        name,
        weights=None,
        input_shape=(SIDE, SIDE, 3),
        classes=10,
        classifier_activation=None,
        include_preprocessing=True,
        dropout=0.0,
        **changes,
    )
    steps = EPOCHS * len(images) // BATCH
    model.compile(
        keras.optimizers.AdamW(keras.optimizers.schedules.CosineDecay(4e-3, steps), 0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images.astype("float32"), labels, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    return model


def rows(model: keras.Model, images: np.ndarray) -> Iterator[tuple[str, ...]]:
    """The cells of every export of a model, and that there is none where a format refuses."""
    for target in FORMATS.values():
        for precision in PRECISIONS:
            if precision in target.refused:
                yield target.name, precision, "none, see below", "", "", ""
                continue
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                report = kr.export(
                    model,
                    Path(folder, f"model{target.suffix}"),
                    format=target.name,
                    precision=precision,
                    include_preprocessing=True,
                    data=images,
                )
            yield (
                target.name,
                precision,
                f"{report.max_difference:.1e} / {report.mean_difference:.1e}",
                f"{report.top1_agreement:.1%}",
                f"{report.size / 1e6:.2f}",
                f"{report.latency * 1e3:.2f}",
            )


def table(lines: list[tuple[str, ...]]) -> list[str]:
    """Markdown."""
    heading = ("format", "precision", "difference, max / mean", "top-1 agreement", "MB", "ms")
    return [f"| {' | '.join(cells)} |" for cells in (heading, ("---",) * len(heading), *lines)]


def oldest_runtimes() -> list[str]:
    """The section on the runtimes that a file needs."""
    lines = [
        "## Oldest runtimes",
        "",
        f"ONNX files are of opset {OPSET} and IR version {IR_VERSION}. ONNX Runtime 1.15.1, "
        "1.17.3, 1.20.1, 1.23.2 and 1.24.1 were tried on x86; older ones were not.",
        "",
        "| format | precision | ONNX Runtime from |",
        "| --- | --- | --- |",
        *(f"| onnx | {kind} | {release} |" for kind, release in ONNX.oldest_runtimes.items()),
        "",
        "int8-dynamic convolves by ConvInteger with int8 weights, which ONNX Runtime has for "
        "processors since 1.24; before, loading ends in NOT_IMPLEMENTED.",
    ]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--page", type=Path, default=PAGE)
    told = parser.parse_args()
    here = machine.describe(os.cpu_count())
    releases = here["packages"]
    packages = ", ".join(f"{name} {releases[name]}" for name in PACKAGES if name in releases)
    images, labels = digits()
    training = len(images) * 4 // 5
    unseen = images[training:]
    lines = [
        "# Formats and precisions",
        "",
        "What `keras_resnets.export` writes, measured: a network of each family, cut down to one "
        f"block in each of two stages (ReXNet: depth 0.3) and trained on {training:,} of "
        f"scikit-learn's digits, takes uint8 images of {SIDE}x{SIDE} pixels. Its batch norms are "
        f"folded. Each file was run in a fresh process on {COMPARED} other digits; int8 was "
        f"calibrated with {COMPARED * 3 // 4} of those and compared on the other {COMPARED // 4}.",
        "",
        "- **Difference**: of a logit from that of the Keras model, in units of the largest logit.",
        "- **Top-1 agreement**: the share of the digits of which file and model say the same.",
        "- **MB, ms**: the file's size, and the median latency of a call with one image (its "
        "preprocessing included) by the runtime's default number of threads. Networks so small "
        "are mostly overhead: `benchmarks/` measures whole ones.",
        "",
        f"Machine: {machine.in_words(here)}; {packages}.",
        "",
        "Written by `python -m tools.compatibility_matrix`.",
    ]
    for family in told.families:
        model = trained(family, images[:training], labels[:training])
        right = np.argmax(model.predict(unseen.astype("float32"), verbose=0), 1)
        accuracy = np.mean(right == labels[training:])
        name, changes = FAMILIES[family]
        settings = ", ".join(f"{key}={value!r}" for key, value in changes.items())
        lines += [
            "",
            f"## {family}",
            "",
            f'`create_model("{name}", {settings})`, {model.count_params():,} parameters; '
            f"{accuracy:.1%} of {len(unseen)} unseen digits.",
            "",
            *table(list(rows(model, unseen[:COMPARED]))),
        ]
        print(f"{family}: done", flush=True)
    lines += ["", *oldest_runtimes(), "", "## What there is not, and why", ""]
    for target in FORMATS.values():
        lines += [f"- {target.name}, {kind}: {why}." for kind, why in target.refused.items()]
    told.page.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()

"""The model card of a model: what is known of it as Markdown, as the hub shows it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from keras_resnets import catalog
from keras_resnets.markdown import code, escaped, table
from keras_resnets.sharing.about import METRIC, About
from keras_resnets.weights import published

_LISTED = 100  # Classes that a card names; config.json has them all.


def text_of(about: About) -> str:
    """The card.

    Args:
        about: what is known of the model.

    Returns:
        Markdown, with the metadata in front that the hub reads.
    """
    sections = {
        "": _summary(about),
        "Images": _images(about),
        "Metrics": _metrics(about),
        "Training": _training(about),
        "Use": _use(about),
        "Classes": _classes(about),
        "Limitations": [f"- {text}" for text in _limitations(about)],
    }
    lines = [*_front_matter(about), f"# {about.name}", ""]
    for title, body in sections.items():
        if body:
            lines += [f"## {title}", ""] * bool(title) + [*body, ""]
    return "\n".join(lines)


def _front_matter(about: About) -> list[str]:
    """The metadata, by the hub's own writer."""
    from huggingface_hub import ModelCardData

    timm = about.network.in_timm
    base = about.base_model and _hub_id(about.base_model)
    data = ModelCardData(
        license=about.licence,
        library_name="timm" if timm else "keras-resnets",
        pipeline_tag="image-classification" if _classifies(about) else "image-feature-extraction",
        tags=[*(["timm"] if timm else []), "keras", "keras-resnets"],
        base_model=base,
    )
    return ["---", *data.to_yaml().splitlines(), "---", ""]


def _hub_id(model: str) -> str | None:
    """The repository of a model on the hub, if it is there."""
    if model.startswith("hf://"):
        return model.removeprefix("hf://").partition("@")[0]
    architecture, _, tag = model.partition(".")
    known = published.table().get(architecture, {}).get(tag)
    return (known and known.hub_id) or None


def _summary(about: About) -> list[str]:
    network = about.network
    builder, family = catalog.origin(network.variant)
    height, width = network.image_size
    if not network.classes:
        output = f"features, {network.levels[max(network.levels)][1]} channels"
    else:
        output = f"{network.classes} " + ("channels" if network.embeds else "classes")
    rows = {
        "architecture": f"`{network.variant.name}` (`keras_resnets.{builder}`), family {family}",
        "built with": ", ".join(f"`{key}={value!r}`" for key, value in network.arguments.items()),
        "output": output,
        "parameters": f"{network.parameters:,}",
        "multiply-accumulates": f"{network.macs:,} for an image of {height}x{width}",
        "licence of the weights": about.licence or "not stated",
        "origin": about.origin_url,
        "trained on": about.training_data,
        "terms of the data": about.data_terms,
        "training began with": about.base_model and f"`{about.base_model}`",
    }
    return table(("", ""), ((key, value) for key, value in rows.items() if value))


def _classifies(about: About) -> bool:
    return about.network.classes > 0 and not about.network.embeds


def _images(about: About) -> list[str]:
    """How images are prepared, in words and as code."""
    stated, preparation = about.prepared, about.preparation
    channels = about.network.channels
    if preparation is None:
        return ["How images are prepared is not stated."]
    words = []
    if "crop_pct" in stated and "input_size" in stated:
        (height, width), crop = preparation.size, preparation.crop_pct
        words.append(
            f"The image is resized ({preparation.interpolation}) to cover "
            f"{math.floor(height / crop)}x{math.floor(width / crop)} pixels, of which the central "
            f"{height}x{width} are cut out."
        )
    if "mean" in stated:
        mean, std = (
            ", ".join(f"{value:.4g}" for value in values)
            for values in (preparation.mean, preparation.std)
        )
        words.append(
            f"Values from 0 to 255 are divided by 255; then the mean ({mean}) is subtracted, and "
            f"the result divided by the standard deviation ({std}), channel by channel."
        )
    lines = [" ".join(words)] if words else []
    if channels != 3:
        return [*lines, "", f"Images have {channels} channels."]
    lines += [
        "",
        *code("import keras_resnets as kr", "", *_preprocessing(about)),
    ]
    if preparation.test_size is not None:
        height, width = preparation.test_size
        lines += [
            "",
            f"Accuracy is best at {height}x{width}: "
            f"`kr.preprocessor({about.address!r}, test_size=True)`.",
        ]
    return lines


def _preprocessing(about: About) -> list[str]:
    return [
        f'preprocess = kr.preprocessor("{about.address}")',
        'images = preprocess.load("photo.jpg")',
    ]


def _metrics(about: About) -> list[str]:
    columns = [key for key in METRIC if any(key in row for row in about.metrics)]
    rows = [[_cell(key, row.get(key)) for key in columns] for row in about.metrics]
    heading = ["metric" if key == "name" else key for key in columns]
    return table(heading, rows) if rows else []


def _cell(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "command":
        return f"`{value}`"
    return f"{value:.5g}" if key == "value" else str(value)


def _training(about: About) -> list[str]:
    return table(("", ""), about.training.items()) if about.training else []


def _use(about: About) -> list[str]:
    """Code for the package and for timm, each form as it is for this network."""
    parts = {
        "Classify": _classify(about) if _classifies(about) else [],
        "Embed": _embed(about) if about.network.embeds else [],
        "Features": _features(about),
        "Fine-tune": _fine_tune(about),
        "Export": _export(about),
        "timm": _timm(about),
    }
    lines = ["`pip install keras-resnets` with TensorFlow, JAX or PyTorch."]
    if about.address.startswith("./"):
        lines.append(f"`{about.address}` is the folder of this file.")
    for title, body in parts.items():
        if body:
            lines += ["", f"### {title}", "", *body]
    return lines


def _classify(about: About) -> list[str]:
    if about.network.channels != 3:
        return code("import keras_resnets as kr", "", f'model = kr.create_model("{about.address}")')
    lines = [
        "import keras_resnets as kr",
        "from keras_resnets.loading import locate",
        "",
        f'model = kr.create_model("{about.address}")',
        *_preprocessing(about),
        "probabilities = model.predict(images)[0]",
    ]
    if about.class_names:
        names = f'names = locate("{about.address}").class_names'
        if about.threshold is None:
            shown = "print(names[probabilities.argmax()], probabilities.max())"
        else:
            shown = (
                "print([name for name, p in zip(names, probabilities) "
                f"if p >= {about.threshold:g}])"
            )
        lines += [names, shown]
    else:
        lines.remove("from keras_resnets.loading import locate")
        lines.append("print(probabilities.argmax(), probabilities.max())")
    command = f"keras-resnets predict photo.jpg --model {about.address}"
    return [*code(*lines), "", *code(command, language="bash")]


def _embed(about: About) -> list[str]:
    return code(
        "import keras_resnets as kr",
        "",
        f'model = kr.create_model("{about.address}")',
        *_preprocessing(about),
        "embedding = model.predict(images)[0]",
    )


def _features(about: About) -> list[str]:
    levels = about.network.levels
    chosen = [level for level in levels if level != "P1"]
    rows = [(level, *about.network.levels[level]) for level in chosen]
    source = f'"{about.address}", include_top=False'
    return [
        *code(
            "import keras_resnets as kr",
            "",
            f'vectors = kr.create_model({source}, pooling="avg")',
            f"pyramid = kr.feature_pyramid(kr.create_model({source}), {json.dumps(chosen)})",
        ),
        "",
        *table(("level", "stride", "channels"), rows),
    ]


def _fine_tune(about: About) -> list[str]:
    python = code(
        "import keras_resnets as kr",
        "",
        f'model = kr.create_model("{about.address}", classes=5)  # A new classifier.',
    )
    if about.network.channels != 3:
        return python
    command = (
        f"keras-resnets train --data folder:images --model {about.address} --recipe finetune "
        "--out runs/mine"
    )
    return [*code(command, language="bash"), "", "Or by a loop of your own:", "", *python]


def _export(about: About) -> list[str]:
    commands = [
        f"keras-resnets export {file} --model {about.address}"
        for file in ("model.onnx", "model.tflite", "saved_model")
    ]
    return code(*commands, language="bash") if about.network.channels == 3 else []


def _timm(about: About) -> list[str]:
    if about.timm_address is None:
        return []
    return code(
        "import timm",
        "",
        f'model = timm.create_model("{about.timm_address}", pretrained=True).eval()',
    )


def _classes(about: About) -> list[str]:
    names = about.class_names
    # ImageNet's are known everywhere.
    if not names or names == tuple(published.class_names()):
        return []
    shown = [label if label == text else f"{label} ({text})" for label, text in names[:_LISTED]]
    more = f" and {len(names) - _LISTED} more; `config.json` has them all" * (len(names) > _LISTED)
    return [", ".join(map(escaped, shown)) + more + "."]


def _limitations(about: About) -> Iterable[str]:
    """What follows from what is known, and what is not known."""
    network = about.network
    if _classifies(about) and about.threshold is None:
        yield (
            f"The model knows {network.classes} classes and no others: an image of anything else "
            "is given one of them, too."
        )
    if about.preparation is not None:
        yield "Images that are prepared in another way cost accuracy."
    unstated = {
        "how images are prepared": about.preparation,
        "which images it was trained on": about.training_data,
        "the licence of the weights": about.licence and about.licence != "unknown",
        "how accurate it is": about.metrics,
    }
    missing = [what for what, known in unstated.items() if not known]
    if missing:
        yield f"Not stated: {', '.join(missing)}."
    if about.licence is not None and "-nc" in about.licence:
        yield "The licence forbids commercial use."
    yield from about.limitations

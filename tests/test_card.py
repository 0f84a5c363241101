"""Model cards: what is known and nothing else, and code that runs as it stands."""

import dataclasses
import math
import re
import shlex

import keras
import numpy as np
import pytest
import typer
from PIL import Image
from tiny_nets import fill
from tiny_runs import invoke

import keras_resnets as kr
from keras_resnets.commands.app import app
from keras_resnets.preparation import Preparation
from keras_resnets.weights import published

TINY = dict(depths=(1, 1, 1, 1), planes=(8, 16, 24, 32))
FACTS = dict(
    preparation=Preparation(size=64, crop_pct=0.9, mean=(0.5, 0.4, 0.3)),
    class_names=["daisy", "ro|se"],
    licence="apache-2.0",
    training_data="folder:flowers",
    data_terms="Our own photographs, CC-BY",
    base_model="resnet18.a1_in1k",
    metrics=[{"name": "top-1 accuracy", "value": 0.93125, "date": "2026-01-31"}],
    limitations=["Roses by night were not tried."],
)


def card_of(tmp_path, model=None, **facts) -> str:
    model = model or kr.ResNet18(weights=None, classes=2, **TINY)
    folder = kr.save_pretrained(model, tmp_path / "flowers", config_changes=TINY, **facts)
    return (folder / "README.md").read_text()


def blocks(card: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", card, flags=re.MULTILINE | re.DOTALL)


def test_a_card_says_what_is_known(tmp_path):
    model = kr.ResNet18(weights=None, classes=2, **TINY)
    card = card_of(tmp_path, model, **FACTS)
    parameters = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    front, body = re.fullmatch(r"---\n(.*?)---\n(.*)", card, flags=re.DOTALL).groups()
    assert "license: apache-2.0\n" in front
    assert "base_model: timm/resnet18.a1_in1k\n" in front
    assert body.count("\n# flowers\n") == 1
    for line in (
        f"| parameters | {parameters:,} |",
        "| licence of the weights | apache-2.0 |",
        "| terms of the data | Our own photographs, CC-BY |",
        "| training began with | `resnet18.a1_in1k` |",
        "| top-1 accuracy | 0.93125 | 2026-01-31 |",
        "| P5 | 32 | 32 |",
        "daisy, ro\\|se.",
        "- Roses by night were not tried.",
    ):
        assert line in body.splitlines(), line
    assert "(bilinear) to cover 71x71 pixels, of which the central 64x64 are cut out" in body
    assert "the mean (0.5, 0.4, 0.3) is subtracted" in body
    assert "Not stated" not in body


def test_a_card_invents_nothing(tmp_path):
    card = card_of(tmp_path)
    assert "license:" not in card
    assert "base_model" not in card
    assert "How images are prepared is not stated." in card
    assert "## Metrics" not in card
    assert "## Classes" not in card
    assert (
        "- Not stated: how images are prepared, which images it was trained on, the licence of the "
        "weights, how accurate it is." in card
    )


RARE = [pytest.param(kind, marks=pytest.mark.long) for kind in ("labels", "numbers", "one channel")]


@pytest.mark.parametrize("kind", ["classes", "features", *RARE])
def test_the_code_of_a_card_runs_as_it_stands(kind, tmp_path, monkeypatch, capsys):
    arguments, facts = {
        "classes": (dict(classes=2), FACTS),
        "labels": (dict(classes=2), FACTS | dict(threshold=0.25)),
        "numbers": (dict(classes=2), dict(preparation=Preparation(size=64))),
        "features": (dict(include_top=False), {}),
        "one channel": (dict(classes=2, input_shape=(None, None, 1)), {}),
    }[kind]
    card = card_of(tmp_path, fill(kr.ResNet18(weights=None, **TINY, **arguments)), **facts)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((80, 90, 3), 99, "uint8")).save("photo.jpg")
    snippets = blocks(card, "python")
    assert snippets
    for snippet in snippets:
        namespace = {}
        exec(compile(snippet, "README.md", "exec"), namespace)
        for built in filter(lambda value: isinstance(value, keras.Model), namespace.values()):
            assert np.isfinite(keras.ops.convert_to_numpy(built.outputs[0].shape[-1]))
    printed = capsys.readouterr().out
    assert ("daisy" in printed or "ro|se" in printed) == (kind in ("classes", "labels"))
    commands = typer.main.get_command(app).commands
    lines = [line for block in blocks(card, "bash") for line in block.splitlines()]
    assert bool(lines) == (kind not in ("one channel",))
    for line in lines:
        program, name, *rest = shlex.split(line)
        assert program == "keras-resnets"
        commands[name].make_context(name, rest)  # Raises for an option that is not there.
    if kind == "classes":
        code, text = invoke(*shlex.split(lines[0])[1:])
        assert code == 0, text
        assert "daisy" in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("resnet18.fb_ssl_yfcc100m_ft_in1k", ["YFCC100M, ImageNet-1k", "forbids commercial use"]),
        pytest.param(
            "resnetv2_50x1_bit.goog_in21k",
            ["| output | 21843 classes |", "how accurate it is"],
            marks=pytest.mark.long,
        ),
        pytest.param(
            "resnet50_clip.openai",
            ["| output | 1024 channels |", "### Embed", "image-feature-extraction"],
            marks=pytest.mark.long,
        ),
    ],
)
def test_every_published_checkpoint_has_a_card(name, said):
    code, card = invoke("card", name)
    assert code == 0, card
    architecture, _, tag = name.partition(".")
    row = published.find(architecture, tag)
    for text in (
        f"# {name}\n",
        f"license: {row.license}\n",
        f'kr.create_model("{name}")',
        f'timm.create_model("hf-hub:timm/{name}", pretrained=True)',
        *said,
    ):
        assert text in card, text
    assert ("| top-1 accuracy | " in card) == (row.top1 is not None)
    assert "None" not in card


def test_weights_that_come_along_have_a_card(tmp_path, monkeypatch):
    row = dataclasses.replace(
        published.find("resnet18", "a1_in1k"),
        **dict(architecture="resnet20", tag="cifar10", hub_id="", classes=3, dataset="CIFAR-10"),
        **dict(input_size=(32, 32), top1=91.25, top5=None),
        training=published.Training(
            command="keras-resnets train --data keras:cifar10 --model resnet20",
            **dict(seed=3, epochs=20, best_epoch=19, hours=0.5, date="2026-01-31", machine="two"),
        ),
    )
    monkeypatch.setattr(published, "BUNDLED", tmp_path)
    monkeypatch.setattr(published, "table", lambda: {"resnet20": {"cifar10": row}})
    model = kr.ResNet20(weights=None, classes=3)
    kr.save_safetensors(model, row.bundled, metadata={"label_names": ["cat", "dog", "frog"]})
    code, card = invoke("card", "resnet20.cifar10")
    assert code == 0, card
    command = "keras-resnets evaluate --model resnet20.cifar10 --data keras:cifar10 --split test"
    assert f"| 0.9125 | CIFAR-10, test images | 2026-01-31 | `{command}` |" in card
    assert "| seed | 3 |" in card
    assert "cat, dog, frog." in card
    assert "chosen by the accuracy on the same test images" in card
    assert "timm" not in card


def test_a_card_is_printed_of_what_was_written_as_it_was(tmp_path, monkeypatch):
    card = card_of(tmp_path, **FACTS)
    monkeypatch.chdir(tmp_path)
    code, printed = invoke("card", "./flowers")
    assert code == 0
    assert printed == card
    code, printed = invoke("card", "flowers/model.safetensors")
    assert code == 0
    assert "| licence of the weights | apache-2.0 |" in printed
    kr.ResNet18(weights=None, classes=2, **TINY).save("model.keras")
    code, printed = invoke("card", "model.keras")
    assert code == 1
    assert "Error: model must have weights of an architecture" in printed

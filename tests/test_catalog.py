"""What is known of models without their weights: names, costs, published checkpoints, and the CLI.

The table cannot be compared with the hub here, so it is held to its rules; its facts are timm's.
"""

import dataclasses
import json
import re
import subprocess
import sys

import goldens_io
import pytest
import typer
from processes import child_environment
from typer.testing import CliRunner

import keras_resnets as kr
from keras_resnets import catalog
from keras_resnets.commands.app import app
from keras_resnets.commands.errors import errors_to_stderr
from keras_resnets.models.variant import Variant
from keras_resnets.weights import published

CHECKPOINTS = [row for tags in published.table().values() for row in tags.values()]
# Every checkpoint of theirs forbids commercial use, or nobody knows its licence.
CLIP_SIZES = ("50", "101", "50x4", "50x16", "50x64")
UNCHOSEN = {
    *("res2net50_14w_8s", "res2net50_26w_4s", "res2net50_26w_6s", "res2net50_26w_8s"),
    *("res2net50_48w_2s", "res2net50d", "res2net101_26w_4s", "res2net101d", "res2next50"),
    *("resnext101_32x16d", "resnext101_32x32d"),
    # Embeddings.
    *(f"resnet{size}_clip{gap}" for size in CLIP_SIZES for gap in ("", "_gap")),
}


def from_timm() -> set[str]:
    """Our architectures that timm has too: the goldens say where each comes from."""
    facts = goldens_io.architectures().items()
    return {name for name, fact in facts if fact["source"].startswith("timm ")}


def test_which_architectures_timm_has_is_known_without_timm():
    known = {v.name for v in catalog.variants().values() if catalog.in_timm(v)}
    assert known == from_timm()


# The table ---------------------------------------------------------------------------------------


def test_the_table_has_every_published_checkpoint_of_every_architecture_of_timm():
    assert len(CHECKPOINTS) == 217
    assert len(from_timm()) == 144
    assert set(published.table()) == from_timm() - catalog.UNPUBLISHED
    assert set(published.table()) <= set(kr.list_models())


def test_a_name_belongs_to_one_checkpoint():
    assert len({row.name for row in CHECKPOINTS}) == len(CHECKPOINTS)
    assert len({row.hub_id for row in CHECKPOINTS}) == len(CHECKPOINTS)
    for row in CHECKPOINTS:
        assert row.hub_id == f"timm/{row.name}"
        assert row.source == f"hf://timm/{row.name}"
        # Names are looked up in lower case, and the tag begins at the first point.
        assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", row.name)
        assert row.tag != "imagenet"
        assert published.find(row.architecture, row.tag) is row


@pytest.mark.parametrize("row", CHECKPOINTS, ids=lambda row: row.name)
def test_every_number_is_possible(row):
    # Of ImageNet-1k, 12k and 21k; CLIP's are channels of an embedding.
    embedding = (512, 640, 768, 1024) if row.architecture.endswith("_clip") else ()
    assert row.classes in (embedding or (0, 1000, 11821, 21843))
    for size in filter(None, (row.input_size, row.test_input_size)):
        assert len(size) == 2
        assert all(isinstance(side, int) and 160 <= side <= 512 for side in size)
    assert all(0.8 < crop <= 1 for crop in (row.crop_pct, row.test_crop_pct or 1))
    assert row.interpolation in ("bilinear", "bicubic")
    assert len(row.mean) == len(row.std) == 3
    assert all(0.2 < value < 0.6 for value in (*row.mean, *row.std))
    assert not row.origin_url or row.origin_url.startswith("http")
    reported = (row.top1, row.top5, row.results_size)
    if row.classes == 1000:
        assert 60 < row.top1 < row.top5 < 100
        assert row.results_size in (*row.input_size, *(row.test_input_size or ()))
    else:
        assert reported == (None, None, None)


def test_rows_are_the_facts_of_timm():
    """Spot checks, one a kind of cell."""
    plain = published.find("resnest50d", "in1k")
    assert dataclasses.asdict(plain) == dict(
        architecture="resnest50d",
        tag="in1k",
        hub_id="timm/resnest50d.in1k",
        classes=1000,
        input_size=(224, 224),
        test_input_size=None,
        crop_pct=0.875,
        test_crop_pct=None,
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        license="apache-2.0",
        origin_url="",
        top1=80.958,
        top5=95.372,
        results_size=224,
        imagenet=True,
        dataset="ImageNet",
        training=None,
    )
    other = published.find("resnet18d", "ra4_e3600_r224_in1k")
    assert (other.test_input_size, other.test_crop_pct) == ((288, 288), 1.0)
    assert other.mean == other.std == (0.5, 0.5, 0.5)
    assert published.find("rexnetr_200", "sw_in12k").classes == 11821
    assert published.find("resnet50", "bamboo").classes == 0


# Licences and "imagenet" -------------------------------------------------------------------------


def test_licences_are_marked():
    caution = {row.license: row.caution for row in CHECKPOINTS}
    assert caution == {
        "apache-2.0": "",
        "bsd-3-clause": "",
        "mit": "",
        "cc-by-nc-4.0": "non-commercial",
        "unknown": "licence unknown",
    }
    for row in CHECKPOINTS:
        assert row.permissive == (row.caution == "")
        assert row.non_commercial == (row.caution == "non-commercial")
    own = dataclasses.replace(CHECKPOINTS[0], license="cc-by-sa-4.0")
    assert not own.permissive
    assert not own.non_commercial
    assert own.caution == "licence not known to be permissive"


def test_imagenet_is_the_most_accurate_checkpoint_with_a_permissive_licence():
    for architecture, tags in published.table().items():
        allowed = [row for row in tags.values() if row.permissive and row.classes == 1000]
        chosen = [row for row in tags.values() if row.imagenet]
        assert len(chosen) == bool(allowed), architecture
        for row in chosen:
            assert row in allowed
            best = max((other.top1, other.top5) for other in allowed)
            assert (row.top1, row.top5) == best
            assert published.find(architecture, "imagenet") is row
    chosen = {row.architecture for row in CHECKPOINTS if row.imagenet}
    assert set(published.table()) - chosen == UNCHOSEN
    assert len(chosen) == 96


def test_no_checkpoint_is_chosen_whose_licence_the_user_must_accept():
    with pytest.raises(ValueError, match=r"known to be permissive") as error:
        published.find("resnext101_32x16d", "imagenet")
    for tag, row in kr.ResNeXt101_32x16d.pretrained.items():
        assert f"{tag} ({row.license})" in str(error.value)
    with pytest.raises(ValueError, match=r"in1k \(unknown\). Received: weights='imagenet'"):
        published.find("res2net50d", "imagenet")


def test_an_unknown_tag_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"^weights must be a published tag") as error:
        published.find("resnet18", "a1")
    for tag, row in kr.ResNet18.pretrained.items():
        assert f"{tag} ({row.license})" in str(error.value)
    assert str(error.value).endswith("Did you mean 'a1_in1k'? Received: weights='a1'")
    with pytest.raises(ValueError, match=r"no checkpoint of 'resnet200' is published"):
        published.find("resnet200", "imagenet")


def test_a_variant_knows_its_checkpoints():
    assert list(kr.ResNeSt50.pretrained) == ["in1k"]
    assert kr.ResNeSt50.pretrained["in1k"] is published.find("resnest50d", "in1k")
    assert kr.ResNet20.pretrained == {}
    kr.ResNeSt50.pretrained.clear()
    assert list(kr.ResNeSt50.pretrained) == ["in1k"], "a copy, not the table"


def test_classes_of_imagenet_have_names():
    names = published.class_names()
    assert len(names) == len({synset for synset, _ in names}) == 1000
    synsets = [synset for synset, _ in names]
    assert synsets == sorted(synsets), "the order of torchvision and timm"
    assert names[0] == ("n01440764", "tench, Tinca tinca")
    assert names[285] == ("n02124075", "Egyptian cat")
    assert names[999][0] == "n15075141"
    assert all(name and name == name.strip() for _, name in names)


# Names -------------------------------------------------------------------------------------------


def test_checkpoints_are_listed_by_patterns():
    every = kr.list_models(pretrained=True)
    assert every == sorted(row.name for row in CHECKPOINTS)
    assert kr.list_models("resnest50d", pretrained=True) == ["resnest50d.in1k"]
    assert kr.list_models("resnest50d*", pretrained=True) == [
        "resnest50d.in1k",
        "resnest50d_1s4x24d.in1k",
        "resnest50d_4s2x40d.in1k",
    ]
    assert kr.list_models("*.TV2_in1k", pretrained=True) == [
        "resnet101.tv2_in1k",
        "resnet152.tv2_in1k",
        "resnet50.tv2_in1k",
        "resnext101_32x8d.tv2_in1k",
        "resnext50_32x4d.tv2_in1k",
        "wide_resnet101_2.tv2_in1k",
        "wide_resnet50_2.tv2_in1k",
    ]
    assert kr.list_models("resnet200", pretrained=True) == []
    assert kr.list_models("resnest50d.*") == []
    with pytest.raises(ValueError, match=r"pretrained must be True or False.*pretrained='yes'"):
        kr.list_models(pretrained="yes")


def test_a_tag_in_the_name_chooses_the_weights(monkeypatch):
    def called(self, **arguments):
        return self.name, arguments

    monkeypatch.setattr(Variant, "__call__", called)
    asked = dict(classes=10, name="mine")
    wanted = ("resnest50d", dict(weights="in1k", **asked))
    assert kr.create_model("resnest50d.in1k", **asked) == wanted
    assert kr.create_model("ResNeSt50.IN1K", **asked) == wanted
    assert kr.create_model("resnest50d.imagenet", **asked) == wanted
    assert kr.create_model("resnest50d", **asked) == ("resnest50d", asked)


@pytest.mark.parametrize("weights", [None, "imagenet", "in1k"])
def test_name_and_weights_do_not_both_choose(weights):
    with pytest.raises(ValueError, match=r"name must be without a tag where weights is given") as e:
        kr.create_model("resnest50d.in1k", weights=weights)
    assert f"name='resnest50d.in1k', weights={weights!r}" in str(e.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnest5d.in1k", r"Did you mean 'resnest50d'.*Received: name='resnest5d\.in1k'"),
        ("resnest50d.in2k", r"published tag of 'resnest50d': in1k \(apache-2.0\).*mean 'in1k'\?"),
        ("resnest50d.", r"published tag of 'resnest50d'"),
        ("resnet20.in1k", r"no checkpoint of 'resnet20' is published"),
        ("res2net50d.imagenet", r"known to be permissive"),
    ],
)
@pytest.mark.parametrize("function", [kr.create_model, kr.model_info])
def test_names_that_mean_nothing_are_refused(function, name, message):
    with pytest.raises(ValueError, match=message):
        function(name)


# What a model is and costs -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnest14d", "resnet20", "rexnet_100"])
def test_costs_are_those_of_pytorch(name):
    facts = goldens_io.architectures()[name]
    info = kr.model_info(name)
    assert (info.parameters, info.macs, info.image_size) == (
        facts["params"],
        facts["macs"],
        facts["input"],
    )


@pytest.mark.parametrize("name", kr.list_models())
def test_costs_are_asked_for_at_the_size_of_the_goldens(name, monkeypatch):
    monkeypatch.setattr(catalog, "_costs", lambda variant, image_size: (variant.name, image_size))
    info = kr.model_info(name)
    assert (info.parameters, info.image_size) == (name, goldens_io.architectures()[name]["input"])
    assert info.name == name
    variant = getattr(kr, info.builder)
    assert variant.name == name
    assert info.builder in catalog.FAMILIES[info.family].__all__
    assert (info.classes, info.config) == (variant.classes, repr(variant.config))
    assert info.pretrained == tuple(variant.pretrained.values())


@pytest.fixture
def no_building(monkeypatch):
    monkeypatch.setattr(catalog, "_costs", lambda variant, image_size: (1234567, 7654321))


def test_info_prints_as_a_table(no_building):
    assert (
        str(kr.model_info("WideResNet101_2"))
        == f"""\
name        wide_resnet101_2
builder     keras_resnets.WideResNet101_2
family      ResNet
parameters  1,234,567
MACs        7,654,321 at 224x224
classes     1000
config      {kr.WideResNet101_2.config!r}

weights                    top-1  at   licence       note        origin
wide_resnet101_2.tv2_in1k  80.49  176  bsd-3-clause  "imagenet"  https://github.com/pytorch/vision
wide_resnet101_2.tv_in1k   78.86  224  bsd-3-clause              https://github.com/pytorch/vision"""
    )
    assert str(kr.model_info("resnet200")).endswith("\nweights     none published")


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("resnet18.a3_in1k", ["65.67", "160", "apache-2.0"]),
        ("resnet18.a1_in1k", ["71.50", "224", "apache-2.0", '"imagenet"']),
        ("rexnetr_300.sw_in12k", ["apache-2.0", "11821 classes"]),
        ("resnet50.bamboo", ["unknown", "licence unknown, no classifier"]),
        ("resnext101_32x32d.fb_wsl_ig1b_ft_in1k", ["85.09", "224", "cc-by-nc-4.0", "non-commerc"]),
    ],
)
def test_info_of_a_tag_shows_that_tag_only(no_building, name, cells):
    info = kr.model_info(name)
    assert [row.name for row in info.pretrained] == [name]
    line = str(info).splitlines()[-1]
    assert line.startswith(f"{name}  ")
    positions = [line.find(cell) for cell in cells]
    assert -1 not in positions
    assert positions == sorted(positions)


def test_info_is_json_without_loss(no_building):
    info = kr.model_info("resnet18")
    read = json.loads(json.dumps(info.as_dict()))
    checkpoints = read.pop("pretrained")
    for key, value in read.items():
        assert getattr(info, key) == value
    assert set(read) == {field.name for field in dataclasses.fields(info)} - {"pretrained"}
    for row, own in zip(info.pretrained, checkpoints, strict=True):
        for field in dataclasses.fields(row):
            value = getattr(row, field.name)
            assert own[field.name] == (list(value) if isinstance(value, tuple) else value)
        for key in ("name", "source", "permissive", "non_commercial", "caution"):
            assert own[key] == getattr(row, key)


# The command line --------------------------------------------------------------------------------


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def printed(*arguments: str) -> str:
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_cli_lists_names():
    assert printed("list").split() == kr.list_models()
    assert printed("list", "RESNEST*e").split() == ["resnest101e", "resnest200e", "resnest269e"]
    assert json.loads(printed("list", "rexnet_*", "--json")) == kr.list_models("rexnet_*")


def test_cli_lists_checkpoints_with_accuracy_and_licence():
    heading, *lines = printed("list", "resnet18", "--pretrained").splitlines()
    assert heading.split() == ["weights", "top-1", "at", "licence", "note", "origin"]
    assert [line.split()[0] for line in lines] == kr.list_models("resnet18", pretrained=True)
    for row, line in zip(kr.ResNet18.pretrained.values(), lines, strict=True):
        assert f" {row.top1:.2f}  {row.results_size}  {row.license}" in line
        assert ("non-commercial" in line) == row.non_commercial
        assert line.endswith(row.origin_url)
    rows = json.loads(printed("list", "resnet18", "--pretrained", "--json"))
    marked = {row["name"]: row["non_commercial"] for row in rows}
    assert marked == {row.name: row.non_commercial for row in kr.ResNet18.pretrained.values()}
    assert {row["license"] for row in rows} == {"apache-2.0", "bsd-3-clause", "cc-by-nc-4.0"}


@pytest.mark.parametrize("name", ["resnext101_32x16d", "resnet18.a1_in1k", "resnet200"])
def test_cli_info_prints_what_the_library_prints(no_building, name):
    assert printed("info", name) == f"{kr.model_info(name)}\n"
    assert json.loads(printed("info", name, "--json")) == json.loads(
        json.dumps(kr.model_info(name).as_dict())
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "resnest5d"], r"Error: name must be .*'resnest50d'.*Received: name='resnest5d'"),
        (["info", "resnet50.a1_in"], r"Error: weights must be a published tag.*mean 'a1_in1k'\?"),
        (["list", "resnest5d"], r"Error: pattern must match.*'resnest50d'.*pattern='resnest5d'"),
        (["list", "zzz*"], r"Error: pattern must match a name\. Received: pattern='zzz\*'"),
        (["list", "resnet200", "--pretrained"], r"Error: pattern must match a name\."),
    ],
)
def test_cli_says_once_what_is_wrong_and_exits_with_1(arguments, message):
    for extra in ([], ["--json"]):
        result = run(*arguments, *extra)
        assert result.exit_code == 1
        assert result.stdout == ""
        assert re.fullmatch(message + r"[^\n]*\n", result.stderr)


@pytest.mark.parametrize("arguments", [["info"], ["inform"], ["list", "--prefix"], []])
def test_cli_exits_with_2_for_wrong_usage(arguments):
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize("error", [ValueError, TypeError, FileNotFoundError, PermissionError])
def test_errors_of_the_library_become_messages(error, capsys):
    with pytest.raises(typer.Exit) as exit, errors_to_stderr():
        raise error("the rule. Received: x=1")
    assert exit.value.exit_code == 1
    assert capsys.readouterr() == ("", "Error: the rule. Received: x=1\n")


@pytest.mark.parametrize("error", [KeyError, RuntimeError, BrokenPipeError])
def test_other_errors_are_bugs_and_show_their_traceback(error):
    with pytest.raises(error), errors_to_stderr():
        raise error


# Imports -----------------------------------------------------------------------------------------

_FRESH = """
import json
import sys

import keras

before = set(sys.modules)
import keras_resnets
from keras_resnets.weights import published

# What Keras itself brings along, such as rich, is not ours to avoid.
heavy = sorted({"typer", "rich", "huggingface_hub"} & set(sys.modules) - before)
unread = [published.table.cache_info().currsize, published.class_names.cache_info().currsize]
keras_resnets.ResNet50.pretrained
print(json.dumps([heavy, unread, published.table.cache_info().currsize]))
"""


def child(*command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_import_reads_no_table_and_no_command_line():
    fresh = child("-c", _FRESH)
    assert fresh.returncode == 0, fresh.stderr[-3000:]
    assert json.loads(fresh.stdout.splitlines()[-1]) == [[], [0, 0], 1]


def test_the_command_runs_as_a_process():
    done = child("-m", "keras_resnets", "info", "resnest5d")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "Did you mean 'resnest50d'" in done.stderr


# What the command costs ---------------------------------------------------------------------------

_HELP = """
import os, sys
sys.argv = ["keras-resnets", *{arguments}]
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {hidden} else found(name, *rest)
from keras_resnets.commands.app import main
try:
    main()
except SystemExit as ended:
    code = ended.code
heavy = {{"keras", "tensorflow", "jax", "torch"}} & set(sys.modules)
print(sorted(heavy), code, os.times().user < 2)
"""


def command(*arguments: str, hidden: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    """The command in a process of its own, in which some packages are not installed."""
    environment = {k: v for k, v in child_environment().items() if k != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", _HELP.format(arguments=list(arguments), hidden=hidden)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["predict", "--help"]])
def test_help_needs_neither_keras_nor_a_backend(arguments):
    done = command(*arguments, hidden=("tensorflow", "jax", "torch"))
    assert done.stdout.splitlines()[-1] == "[] 0 True", done.stderr
    assert "Usage" in done.stdout or kr.__version__ in done.stdout


def test_a_command_without_any_backend_says_what_to_install():
    done = command("list", hidden=("tensorflow", "jax", "torch"))
    assert done.stdout.splitlines()[-1].endswith("1 True")
    assert "Error: keras_resnets needs a backend of Keras" in done.stderr
    assert "[jax]" in done.stderr
    assert "Traceback" not in done.stderr

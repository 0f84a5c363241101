"""Every pattern that reads layer names, on the names of all variants and with any prefix."""

import re

import pytest
from goldens_io import architectures

from keras_resnets import names

# Paths of networks in timm that have other blocks than any variant here, as far as the naming
# contract foresees them: (module, block, stage).
FORESEEN = [
    ("stages.1.blocks.2.conv3", "stages.1.blocks.2", "stages.1"),
    ("stages.0.3.conv1_1x1.bn", "stages.0.3", "stages.0"),
    ("stages.0.0.conv2b_kxk.conv", "stages.0.0", "stages.0"),
    ("stages.2.1.attn_last.conv_attn", "stages.2.1", "stages.2"),
    ("layer3.1.conv2.attn.fc_reduce", "layer3.1", "layer3"),
    ("patch_embed.proj", None, None),
    ("fc_norm", None, None),
    ("blocks.7.attn.qkv", "blocks.7", "blocks.7"),
    ("attnpool.c_proj", None, None),
]
# A prefix may look like anything, also like a stage or like half of a component.
PREFIXES = ["", "left.", "left", "layer1.0.", "features_1_", "conv_", "system."]


def modules(variant: str) -> list[str]:
    return list(
        dict.fromkeys(path.rpartition(".")[0] for path in architectures()[variant]["state"])
    )


def parts_of(path: str) -> tuple[str | None, str | None]:
    """Block and stage of a module, from its dotted path, by the families' own documentation."""
    first, *rest = path.split(".")
    if re.fullmatch(r"layer\d", first):
        return f"{first}.{rest[0]}", first
    if first == "stages":  # ResNetV2 `stages.0.blocks.1`, ByobNet `stages.0.1`.
        inner = rest[:3] if rest[1] == "blocks" else rest[:2]
        return ".".join([first, *inner]), f"stages.{rest[0]}"
    if first == "features":
        return f"{first}.{rest[0]}", f"{first}.{rest[0]}"
    return None, "stem" if first == "stem" else None


def as_name(path: str | None) -> str | None:
    return path and names.keras_name(path)


@pytest.mark.parametrize("variant", architectures())
def test_names_lead_back_to_module_block_stage_and_head(variant):
    for path in modules(variant):
        name = names.keras_name(path)
        block, stage = parts_of(path)
        assert names.module_path(name) == path
        assert names.block_of(name) == as_name(block)
        assert names.stage_of(name) == as_name(stage)
        assert names.in_head(name) == (path.split(".")[0] in ("fc", "head"))
        assert names.level_of(name) is None


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_changes_nothing_but_the_beginning(prefix):
    """Of one variant of each naming: what differs between variants of a family are numbers."""
    first = names.keras_name(prefix)
    for variant in (
        *("resnest14d", "res2net50_14w_8s", "rexnet_100", "rexnet_lite_100", "skresnet18"),
        *("resnetv2_18d", "resnet50_mlp", "resnet50_clip"),
    ):
        for path in modules(variant):
            name = names.keras_name(prefix + path)
            block, stage = parts_of(path)
            assert names.module_path(name.removeprefix(first)) == path
            if block:
                assert names.block_of(name) == first + as_name(block)
            assert names.stage_of(name, prefix) == as_name(stage)
            assert names.in_head(name, prefix) == (path.split(".")[0] in ("fc", "head"))
    for level in ("P1", "P5"):
        assert names.level_of(names.level_name(level, prefix)) == (first, level)


@pytest.mark.parametrize(("path", "block", "stage"), FORESEEN)
def test_the_paths_of_networks_to_come_are_read(path, block, stage):
    name = names.keras_name(path)
    assert names.module_path(name) == path
    assert names.block_of(name) == as_name(block)
    assert names.stage_of(name) == as_name(stage)


@pytest.mark.parametrize("name", ["P", "P12", "p3", "P3_conv", "fc", ""])
def test_other_names_are_no_levels(name):
    assert names.level_of(name) is None


@pytest.mark.parametrize("name", ["fcn_conv", "header", "layer1_0_fc", "layer4_head_fc", "conv1"])
def test_what_only_looks_like_a_head_is_none(name):
    assert not names.in_head(name)
    assert not names.in_head(f"left_{name}", "left.")


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("layer1_0_conv1", "layer1.0", True),
        ("layer1", "layer1", True),
        ("layer10_0_conv1", "layer1", False),
        ("layer1_0_conv1", "layer1.0.conv", False),
        ("left_layer1_0_bn1", "left.layer1", True),
    ],
)
def test_a_layer_is_part_of_its_modules_only(name, path, expected):
    assert names.is_part_of(name, path) == expected


@pytest.mark.parametrize("variant", architectures())
def test_the_early_layers_are_the_stem_and_two_blocks_of_rexnet(variant):
    layer_names = [names.keras_name(path) for path in modules(variant)]
    first = {"stem", "features.0", "features.1"} if variant.startswith("rexnet") else set()
    expected = [
        names.keras_name(path)
        for path in modules(variant)
        if {path.split(".")[0], ".".join(path.split(".")[:2])} & first
    ]
    assert bool(expected) == bool(first)
    assert names.early_layers(layer_names) == expected


def test_early_layers_are_those_of_their_own_backbone():
    own = [names.keras_name(path) for path in modules("rexnet_100")]
    others = ["system_conv", "stem_conv", "layer1_0_conv1"]
    early = names.early_layers(["left" + name for name in own] + others)
    assert early == ["left" + name for name in names.early_layers(own)]

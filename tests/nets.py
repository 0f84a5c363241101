"""The networks whose outputs are compared with PyTorch's, as plain data.

A case names a variant (the same name on both sides) and what is changed in it: `changes` are fields
of our configuration, `build` are arguments of our builder. What has a counterpart in timm is
translated by `tools/make_goldens.py` (depths -> layers, classes -> num_classes, ...); `timm` holds
the few keywords that it cannot derive. There is one tiny network for each branch of the code, then
whole variants, then the networks that timm lacks (`reference=True`: see `tools/reference_nets.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

# (height, width, batch). 97 leaves an odd size at every level, where padding rules differ;
# 80x112 finds a height taken for a width.
Size = tuple[int, int, int]
TINY_SIZES: tuple[Size, ...] = ((64, 64, 1), (97, 97, 3), (80, 112, 1))
TINY_SMALL_INPUTS: tuple[Size, ...] = ((32, 32, 1), (33, 33, 3), (24, 40, 1))
# Networks that halve an odd map by an average fail in timm, so theirs are even until the last.
TINY_EVEN_SIZES: tuple[Size, ...] = ((64, 64, 1), (97, 97, 3), (64, 96, 1))
# Whole variants, in float64: one size, odd and not square.
FULL_SIZES: tuple[Size, ...] = ((97, 65, 1),)
CIFAR_SIZES: tuple[Size, ...] = ((33, 47, 1),)


@dataclass(frozen=True)
class Case:
    """One network, described for both sides, and the image sizes it runs at."""

    name: str
    variant: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    build: Mapping[str, Any] = field(default_factory=dict)
    timm: Mapping[str, Any] = field(default_factory=dict)
    sizes: tuple[Size, ...] = TINY_SIZES
    reference: bool = False

    @property
    def float64(self) -> bool:
        """Whether it is compared in float64, where rounding can neither hide nor excuse anything.

        Tiny networks are shallow enough for float32.
        """
        return self.name.startswith("full-")

    @property
    def input_channels(self) -> int:
        return self.build.get("input_channels", 3)


def size_key(size: Size) -> str:
    """Return the text under which the goldens of a size are stored: "97x97x3"."""
    return "x".join(map(str, size))


def _tiny(name: str, variant: str, *, build=None, timm=None, sizes=TINY_SIZES, **changes) -> Case:
    if not variant.startswith("rexnet"):
        changes = dict(depths=(1, 2, 1, 1), planes=(8, 16, 24, 32)) | changes
    return Case(name, variant, changes, dict(classes=10) | (build or {}), timm or {}, sizes)


def _split(radix: int, avd_first: bool = False) -> dict[str, Any]:
    return dict(block_args=dict(radix=radix, avd=True, avd_first=avd_first))


def _selective(**changes) -> dict[str, Any]:
    keywords = dict(split_input=True) | changes
    return dict(block_args=dict(sk_kwargs=keywords))


def _scale(scale: int) -> dict[str, Any]:
    return dict(block_args=dict(scale=scale))


def _dilated(variant: str, output_stride: int, **changes) -> Case:
    # Two blocks in the late stages: the first keeps the dilation of the stage before it.
    changes |= {} if variant.startswith("rexnet") else dict(depths=(1, 1, 2, 2))
    build = dict(output_stride=output_stride)
    return _tiny(f"{variant}-stride{output_stride}", variant, build=build, **changes)


_RESNET = (
    _tiny("basic", "resnet18"),
    _tiny("basic-d", "resnet18d", stem_width=4),  # stem 8 wide: no projection in the first stage
    _tiny("basic-t", "resnet10t", stem_width=10),  # tiers 6, 10, 20: a quarter is rounded down
    _tiny("bottleneck", "resnet50"),
    _tiny("bottleneck-same-width", "resnet50", planes=(16, 16, 24, 32)),  # 64 -> 64: no projection
    _tiny("bottleneck-wide", "wide_resnet50_2"),
    _tiny("bottleneck-base-width", "resnet50", base_width=26),  # 3.25 channels are rounded down
    _tiny("bottleneck-c", "resnet50c", stem_width=8),
    _tiny("bottleneck-s", "resnet50s"),
    _tiny("bottleneck-d", "resnet50d", stem_width=8),
    _tiny("bottleneck-t", "resnet50t", stem_width=8),
    _tiny("se-basic", "seresnet18"),
    _tiny("se-bottleneck", "seresnet50"),
    _tiny("se-bottleneck-t", "seresnet50t", stem_width=8),
    # 40 channels / 4 = 10 are squeezed to 8: here a decrease by more than a tenth is allowed.
    _tiny("se-ratio", "seresnet18", planes=(8, 16, 24, 40), attention_ratio=0.25),
    _tiny("eca", "ecaresnetlight", planes=(8, 16, 64, 128)),  # 3 neighbours, and 5
    _tiny("eca-t", "ecaresnet26t", stem_width=8),
    _tiny("rs", "resnetrs50", stem_width=8),
    _tiny("gn", "resnet50_gn", planes=(32, 32, 64, 96)),
    _tiny("blur", "resnetblur50"),
    _tiny("blur-basic", "resnetblur18"),
    _tiny("blur-d", "resnetblur50d", stem_width=8),
    _tiny("aa", "resnetaa50d", stem_width=8, sizes=TINY_EVEN_SIZES),
    _tiny("aa-basic", "resnetaa34d", stem_width=8, sizes=TINY_EVEN_SIZES),
    _tiny("aa-plain", "resnetaa50", sizes=TINY_EVEN_SIZES),
    # Below zero too, in front of the max-pool.
    _tiny("silu", "resnet50d", act="silu", stem_width=8),
    _tiny("gelu-basic", "seresnet18", act="gelu"),
)

_RESNEXT = (
    _tiny("resnext", "resnext50_32x4d", cardinality=4, base_width=16),
    _tiny("resnext-d", "resnext50d_32x4d", cardinality=4, base_width=16, stem_width=8),
    _tiny("resnext-se", "seresnext50_32x4d", cardinality=4, base_width=16),
    _tiny("resnext-t-se", "seresnext26t_32x4d", cardinality=2, base_width=20, stem_width=8),
    _tiny("resnext-eca", "ecaresnext26t_32x4d", cardinality=2, base_width=20, stem_width=8),
)

# `base_width` is chosen so that cardinality x radix divides the width of every stage.
_RESNEST = (
    _tiny("resnest-0s1x", "resnest50d", radix=0, timm=_split(0)),
    _tiny("resnest-0s2x-first", "resnest50d", radix=0, cardinality=2, base_width=40,
          avd_first=True, timm=_split(0, avd_first=True)),
    _tiny("resnest-1s1x", "resnest50d", radix=1, timm=_split(1)),
    _tiny("resnest-1s2x-first", "resnest50d", radix=1, cardinality=2, base_width=40,
          avd_first=True, timm=_split(1, avd_first=True)),
    _tiny("resnest-2s1x", "resnest50d", stem_width=8, timm=_split(2)),
    _tiny("resnest-2s1x-first", "resnest50d", avd_first=True, timm=_split(2, avd_first=True)),
    _tiny("resnest-2s2x", "resnest50d", cardinality=2, base_width=48, timm=_split(2)),
    _tiny("resnest-4s1x", "resnest50d", radix=4, timm=_split(4)),
    _tiny("resnest-4s2x-first", "resnest50d", radix=4, cardinality=2, base_width=32,
          avd_first=True, timm=_split(4, avd_first=True)),
)  # fmt: skip

_RES2NET = (
    _tiny("res2net-1s", "res2net50_26w_4s", scale=1, timm=_scale(1)),
    _tiny("res2net-2s", "res2net50_26w_4s", scale=2, timm=_scale(2)),
    _tiny("res2net-4s", "res2net50_26w_4s"),
    _tiny("res2net-8s", "res2net50_26w_4s", scale=8, timm=_scale(8)),
    # 64 -> 64 at stride 1: no projection, so the first block adds its splits like the later ones.
    _tiny("res2net-same-width", "res2net50_26w_4s", planes=(16, 16, 24, 32)),
    _tiny("res2next", "res2next50", cardinality=2, base_width=16),
    _tiny("res2net-d", "res2net50d", stem_width=8),
)

_REXNET = (
    _tiny("rexnet", "rexnet_100"),
    _tiny("rexnet-narrow", "rexnet_100", initial_channels=8, final_channels=40),
    _tiny("rexnet-half", "rexnet_100", width=0.5),  # below 1 the first channels are kept
    _tiny("rexnet-wide", "rexnet_100", width=1.3, final_channels=60),
    _tiny("rexnetr", "rexnetr_100"),
    _tiny("rexnetr-half", "rexnetr_100", width=0.5),
    _tiny("rexnet-no-se", "rexnet_100", se_ratio=0.0),
    _tiny("rexnet-se", "rexnet_100", se_ratio=0.25),
    _tiny("rexnet-shallow", "rexnet_100", depth=0.5),
)

_SKNET = (
    _tiny("sk", "skresnet50"),
    _tiny("sk-d", "skresnet50d", stem_width=8, fused_ratio=0.5, timm=_selective(rd_ratio=0.5)),
    _tiny("sk-basic", "skresnet18"),
    _tiny("sk-groups", "skresnext50_32x4d", cardinality=4, base_width=16),
    # Each path is grouped within its half of the channels.
    _tiny("sk-split-groups", "skresnext50_32x4d", cardinality=2, base_width=32, split_input=True,
          fused_divisor=4, timm=_selective(rd_divisor=4)),
)  # fmt: skip

# Group norms of 32 groups need multiples of 32.
_BY_32 = dict(planes=(32, 64, 64, 96))
_RESNETV2 = (
    _tiny("v2", "resnetv2_50"),
    _tiny("v2-same-width", "resnetv2_50", planes=(16, 16, 24, 32)),  # 64 -> 64 has a projection
    _tiny("v2-d", "resnetv2_50d", stem_width=8),
    _tiny("v2-t", "resnetv2_50t", stem_width=8),
    _tiny("v2-basic", "resnetv2_18"),
    _tiny("v2-basic-same-width", "resnetv2_18", planes=(64, 64, 24, 32)),  # 64 -> 64 has none
    _tiny("v2-basic-d", "resnetv2_18d", stem_width=8),
    _tiny("v2-gn", "resnetv2_50d_gn", stem_width=32, **_BY_32),
    _tiny("bit", "resnetv2_50x1_bit", **_BY_32),
    _tiny("v2-silu", "resnetv2_18", act="silu"),
)

# The hybrids' groups have 32 channels; their last stages may be as wide as those before.
_HYBRID = (
    _tiny("32ts", "resnet32ts"),
    _tiny("33ts", "resnet33ts", features=40, planes=(8, 16, 24, 24)),
    _tiny("33ts-se", "seresnet33ts", features=40, attention_ratio=0.25),
    _tiny("51q", "resnet51q", planes=(32, 32, 64, 40), features=48),
    _tiny("61q", "resnet61q", planes=(24, 32, 64, 40), features=48),
    _tiny("26ts", "resnext26ts", **_BY_32),
    _tiny("26ts-se", "seresnext26ts", **_BY_32),
    _tiny("mlp", "resnet50_mlp", hidden=48, sizes=TINY_EVEN_SIZES),
)

_CLIP = (
    _tiny("clip", "resnet50_clip", planes=(8, 16, 24, 32), grid=2, timm=dict(img_size=64),
          sizes=((64, 64, 1), (64, 96, 1), (160, 128, 2))),
    _tiny("clip-gap", "resnet50_clip_gap", sizes=TINY_EVEN_SIZES),
    _tiny("clip-bare-gap", "resnet50_clip_gap", build=dict(classes=None), timm=dict(num_classes=0),
          sizes=TINY_EVEN_SIZES),
)  # fmt: skip

_DILATED = tuple(
    _dilated(variant, output_stride)
    for variant in (
        "resnet18", "resnet50", "resnet50d", "resnest50d", "res2net50_26w_4s", "rexnet_100",
        "resnetblur50d",
    )
    for output_stride in (8, 16)
) + tuple(
    _dilated(variant, output_stride, **changes)
    for variant, changes in (
        ("skresnet18", {}), ("skresnext50_32x4d", dict(cardinality=4, base_width=16)),
        ("resnetv2_18d", {}), ("resnetv2_50", {}), ("resnet32ts", dict(planes=(8, 16, 24, 24))),
    )
    for output_stride in (8, 16)
) + tuple(
    # The pooled shortcut looks at the dilation of the stage before.
    replace(_dilated("resnet50_mlp", output_stride, hidden=48), sizes=TINY_EVEN_SIZES)
    for output_stride in (8, 16)
)  # fmt: skip

_CHANNELS = tuple(
    _tiny(f"{variant}-channels{channels}", variant, build=dict(input_channels=channels))
    for variant in ("resnet50d", "rexnet_100")
    for channels in (1, 4)
)

_SMALL_INPUTS = tuple(
    _tiny(f"{variant}-small", variant, small_inputs=True, sizes=TINY_SMALL_INPUTS,
          **(_BY_32 if variant == "resnext26ts" else {}))
    for variant in ("resnet50", "resnet50d", "resnest50d", "rexnet_100", "resnetv2_50",
                    "resnetv2_18d", "skresnet18", "resnext26ts")
)  # fmt: skip
_LARGE_INPUTS = (
    # The stem's values are signed where they are pooled, since no activation comes before.
    Case("wide-large", "wide_resnet28_10",
         dict(small_inputs=False, depths=(1, 1, 1), planes=(16, 32, 64)),
         timm=dict(small_inputs=False, depth=10, widening=1),
         sizes=((64, 64, 1), (97, 97, 3)), reference=True),
)  # fmt: skip

_NO_SHORTCUTS = (
    *(
        _tiny(f"{variant}-no-shortcuts", variant, residual=False)
        for variant in (
            "resnet18",
            "resnet50",
            "resnest50d",
            "res2net50_26w_4s",
            "skresnet18",
            "resnetv2_50",
            "resnetv2_18",
            "resnet32ts",
        )
    ),
    # Sixteen blocks in a row would leave nothing of the images.
    _tiny("rexnet_100-no-shortcuts", "rexnet_100", depth=0.5, residual=False),
)

_FULL = tuple(
    Case(f"full-{variant}", variant, sizes=FULL_SIZES)
    for variant in (
        "resnet18", "resnet50d", "seresnet50t", "resnext50_32x4d", "seresnext26t_32x4d",
        "resnest14d", "resnest50d", "resnest50d_4s2x40d", "resnest50d_1s4x24d",
        "res2net50_26w_4s", "res2next50", "res2net50d", "rexnet_100", "rexnetr_150", "rexnet_200",
        "ecaresnet50d", "resnetblur50", "resnetrs50", "resnet50_gn",
        "ecaresnet50d_pruned", "ecaresnet101d_pruned", "skresnet18", "skresnext50_32x4d",
        "resnetv2_18d", "resnetv2_50t", "resnetv2_50x1_bit", "resnet51q", "resnet61q",
        "seresnext26ts",
    )
) + tuple(
    # The sizes that their positions were learned for.
    Case(f"full-{variant}", variant, sizes=((224, 224, 1),))
    for variant in ("resnet50_clip", "resnet50_clip_gap")
)  # fmt: skip

_REFERENCE = tuple(
    Case(f"full-{variant}", variant, sizes=sizes, reference=True)
    for variant, sizes in (
        ("resnet20", CIFAR_SIZES),
        ("resnet56", CIFAR_SIZES),
        ("resnext29_8x64d", CIFAR_SIZES),
        ("res2next29_6cx24wx4s", CIFAR_SIZES),
        ("resnext20_cifar", CIFAR_SIZES),
        ("res2net20_cifar", CIFAR_SIZES),
        ("resnest20_cifar", CIFAR_SIZES),
        ("rexnet_cifar", CIFAR_SIZES),
        ("wide_resnet28_10", CIFAR_SIZES),
        ("rexnet_lite_100", FULL_SIZES),
        ("rexnet_lite_150", FULL_SIZES),
    )
)

TINY = (
    *_RESNET, *_RESNEXT, *_RESNEST, *_RES2NET, *_REXNET, *_SKNET, *_RESNETV2, *_HYBRID, *_CLIP,
    *_DILATED, *_CHANNELS, *_SMALL_INPUTS, *_NO_SHORTCUTS, *_LARGE_INPUTS,
)  # fmt: skip
FULL = (*_FULL, *_REFERENCE)
CASES: dict[str, Case] = {case.name: case for case in (*TINY, *FULL)}
if len(CASES) != len(TINY) + len(FULL):
    raise ValueError("two cases have the same name.")

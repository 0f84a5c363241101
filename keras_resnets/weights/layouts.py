"""Checkpoints whose tensors are not named as timm names them.

Most are: torchvision's ResNets and ResNeXts, the authors' ResNeSt
(github.com/zhanghang1989/ResNeSt) and the authors' Res2Net and Res2NeXt
(github.com/Res2Net/Res2Net-PretrainedModels) have timm's names, tensor by tensor, because timm took
the modules over as they were. These are recognised from their names and renamed here: the authors'
ReXNet, the ResNet of transformers, the image towers of CLIP and OpenCLIP, and the residual networks
of OpenMMLab (mmpretrain). What no rule knows keeps its name, so that fitting the checkpoint into a
model lists it.

A layout is more than names: the same ones can stand for another network. A much used ResNet for
CIFAR-10, whose classifier is called `linear`, pads its shortcuts with zero channels on both sides
and ours at the end; every shape fits, and the predictions are wrong. So no name is taken for
another because it looks like it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

# The inverted bottleneck of the authors' ReXNet is one `nn.Sequential`, `features.4.out`.
_IN_BLOCK = re.compile(r"features\.(\d+)\.out\.(\d+)\.(.+)")
_OUTSIDE = re.compile(r"(features|output)\.(\d+)\.(\w+)")
_SQUEEZE_EXCITE = {"0": "fc1", "1": "bn", "3": "fc2"}
# ReXNet has a dropout and the classifier, ReXNet-lite a hidden layer before them.
_HEADS = ({1: "head.fc"}, {0: "head.conv", 1: "head.bn", 4: "head.fc"})


def to_timm(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors of a PyTorch checkpoint under timm's names.

    Args:
        arrays: tensors by the names of one of the layouts above, in PyTorch's axis order, behind
            any prefix: `"state_dict/backbone.layer1.0.conv1.weight"`.

    Returns:
        The same tensors; those of a known layout renamed, behind their prefix, and a classifier
        that was a 1x1 convolution as the matrix (classes, channels) that it is.

    Example:

    >>> sorted(to_timm({"features.3.out.0.weight": np.zeros((32, 1, 3, 3)), ...}))
    ['features.0.conv_dw.conv.weight', ...]
    """
    arrays = dict(arrays)
    for sign, rename in _LAYOUTS:
        for prefix in {match[1] for match in map(sign.fullmatch, arrays) if match}:
            inner = {
                name.removeprefix(prefix): arrays.pop(name)
                for name in list(arrays)
                if name.startswith(prefix)
            }
            arrays |= {f"{prefix}{name}": array for name, array in rename(inner).items()}
    return arrays


def _rexnet_to_timm(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The authors' ReXNet and ReXNet-lite, of any width and depth.

    `features` counts stem, blocks and last convolution in one row, and `out` the modules of a
    block, those without tensors included. Source: github.com/clovaai/rexnet, `rexnetv1.py` and
    `rexnetv1_lite.py`.
    """
    convolutions = defaultdict(list)
    for name, array in arrays.items():
        match = _IN_BLOCK.fullmatch(name)
        if match and match[3] == "weight" and array.ndim == 4:
            convolutions[int(match[1])].append(int(match[2]))
    # Every convolution is followed by its batch norm; the first block has none that expands.
    modules = {}
    for block, indices in convolutions.items():
        parts = ("conv_exp", "conv_dw", "conv_pwl")[-len(indices) :]
        for part, index in zip(parts, sorted(indices), strict=False):
            modules[block, index] = f"{part}.conv"
            modules[block, index + 1] = f"{part}.bn"
    first, end = (min(convolutions), max(convolutions) + 1) if convolutions else (0, 0)
    around = {
        "features": {
            0: "stem.conv",
            1: "stem.bn",
            end: f"features.{end - first}.conv",
            end + 1: f"features.{end - first}.bn",
        },
        "output": _HEADS["output.0.weight" in arrays],
    }

    def rename(name: str) -> str:
        if match := _IN_BLOCK.fullmatch(name):
            block, index, rest = int(match[1]), int(match[2]), match[3]
            inner = re.fullmatch(r"fc\.([013])\.(\w+)", rest)
            if inner:
                module, rest = f"se.{_SQUEEZE_EXCITE[inner[1]]}", inner[2]
            else:
                module = modules.get((block, index))
            return f"features.{block - first}.{module}.{rest}" if module else name
        if match := _OUTSIDE.fullmatch(name):
            module = around[match[1]].get(int(match[2]))
            return f"{module}.{match[3]}" if module else name
        return name

    renamed = {rename(name): array for name, array in arrays.items()}
    classifier = renamed.get("head.fc.weight")
    if classifier is not None and classifier.ndim == 4 and classifier.shape[2:] == (1, 1):
        renamed["head.fc.weight"] = classifier[:, :, 0, 0]
    return renamed


_TRANSFORMERS_STEM = re.compile(r"(?:resnet\.)?embedder\.embedder\.(\w+)\.(\w+)")
_TRANSFORMERS_BLOCK = re.compile(
    r"(?:resnet\.)?encoder\.stages\.(\d+)\.layers\.(\d+)\.(shortcut|layer\.\d+)\.(\w+)\.(\w+)"
)
_TRANSFORMERS_MODULES = {"convolution": "conv", "normalization": "bn"}


def _transformers_to_timm(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """`ResNetModel` and `ResNetForImageClassification` of transformers.

    Its strides are in the second convolution, as ours; a configuration that has them elsewhere is
    refused with the repository (see `hub`), for the tensors do not tell. Source:
    github.com/huggingface/transformers, `modeling_resnet.py`.
    """

    def rename(name: str) -> str:
        if match := _TRANSFORMERS_STEM.fullmatch(name):
            return f"{_TRANSFORMERS_MODULES.get(match[1], match[1])}1.{match[2]}"
        if match := _TRANSFORMERS_BLOCK.fullmatch(name):
            stage, block, place, module, leaf = match.groups()
            module = _TRANSFORMERS_MODULES.get(module, module)
            if place == "shortcut":
                inner = f"downsample.{int(module == 'bn')}"
            else:
                inner = f"{module}{int(place.removeprefix('layer.')) + 1}"
            return f"layer{int(stage) + 1}.{block}.{inner}.{leaf}"
        return re.sub(r"classifier\.1\.", "fc.", name)

    return {rename(name): array for name, array in arrays.items()}


_OPENMMLAB = (
    # The three convolutions of a deep stem, each with its batch norm.
    (re.compile(r"stem\.([01])\.conv\.(.*)"), lambda m: f"conv1.{3 * int(m[1])}.{m[2]}"),
    (re.compile(r"stem\.([01])\.bn\.(.*)"), lambda m: f"conv1.{3 * int(m[1]) + 1}.{m[2]}"),
    (re.compile(r"stem\.2\.conv\.(.*)"), lambda m: f"conv1.6.{m[1]}"),
    (re.compile(r"stem\.2\.bn\.(.*)"), lambda m: f"bn1.{m[1]}"),
    (re.compile(r"(.*)\.se_layer\.conv([12])\.conv\.(.*)"), lambda m: f"{m[1]}.se.fc{m[2]}.{m[3]}"),
)
_FIRST_SHORTCUT = re.compile(r"layer1\.0\.downsample\.([01])\.(.*)")


def _openmmlab_to_timm(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The backbones `ResNet`, `ResNetV1d`, `ResNeXt`, `SEResNet`, `ResNeSt` and `Res2Net`.

    Source: github.com/open-mmlab/mmpretrain, `models/backbones`.
    """
    # An average pool without stride has no place of its own there; timm counts it in every stage.
    shifted = all(
        getattr(arrays.get(name), "ndim", 0) == 4
        for name in ("layer1.0.downsample.0.weight", "layer2.0.downsample.1.weight")
    )

    def rename(name: str) -> str:
        for pattern, renamed in _OPENMMLAB:
            if match := pattern.fullmatch(name):
                return renamed(match)
        if shifted and (match := _FIRST_SHORTCUT.fullmatch(name)):
            return f"layer1.0.downsample.{int(match[1]) + 1}.{match[2]}"
        return name

    return {rename(name): array for name, array in arrays.items()}


def _joined_with_head(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """OpenMMLab's classifier stands beside the backbone, `head.fc`; ours is one of its modules."""
    head = {name for name in arrays if name.startswith("head.")}
    if not head or not all(name.startswith("head.fc.") for name in head):
        return dict(arrays)
    return {re.sub(r"^(?:backbone|head)\.", "", name): array for name, array in arrays.items()}


_CLIP = (
    (re.compile(r"(conv|bn)(\d)\.(.*)"), lambda m: f"stem.conv{m[2]}.{m[1]}.{m[3]}"),
    (
        re.compile(r"layer(\d)\.(\d+)\.(conv|bn)(\d)\.(.*)"),
        lambda m: (
            f"stages.{int(m[1]) - 1}.{m[2]}.{_CLIP_CONVOLUTIONS[int(m[4]) - 1]}.{m[3]}.{m[5]}"
        ),
    ),
    (
        re.compile(r"layer(\d)\.(\d+)\.downsample\.([01])\.(.*)"),
        lambda m: (
            f"stages.{int(m[1]) - 1}.{m[2]}.shortcut.conv.{('conv', 'bn')[int(m[3])]}.{m[4]}"
        ),
    ),
    (re.compile(r"attnpool\.positional_embedding"), lambda m: "head.pos_embed"),
    (re.compile(r"attnpool\.([qkv])_proj\.(.*)"), lambda m: f"head.{m[1]}.{m[2]}"),
    (re.compile(r"attnpool\.c_proj\.(.*)"), lambda m: f"head.proj.{m[1]}"),
)
_CLIP_CONVOLUTIONS = ("conv1_1x1", "conv2_kxk", "conv3_1x1")


def _clip_to_timm(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The ResNet of CLIP and OpenCLIP, `visual`; the text's tower stands beside it.

    Source: github.com/openai/CLIP, `clip/model.py`, `ModifiedResNet`.
    """

    def rename(name: str) -> str:
        for pattern, renamed in _CLIP:
            if match := pattern.fullmatch(name):
                return renamed(match)
        return name

    return {rename(name): array for name, array in arrays.items()}


# By what a layout is recognised, behind a prefix, and how its names become timm's.
_LAYOUTS = (
    (re.compile(r"(|.*?[./])attnpool\.positional_embedding"), _clip_to_timm),
    (re.compile(r"(|.*?[./])features\.\d+\.out\.\d+\..+"), _rexnet_to_timm),
    (
        re.compile(r"(|.*?[./])(?:resnet\.)?embedder\.embedder\.convolution\.weight"),
        _transformers_to_timm,
    ),
    (re.compile(r"(|.*?[./])layer1\.0\.conv1\.weight"), _openmmlab_to_timm),
    (re.compile(r"(|.*?[./])backbone\.layer1\.0\.conv1\.weight"), _joined_with_head),
)

"""Checkpoints whose tensors are not named as timm names them.

Most are: torchvision's ResNets and ResNeXts, the authors' ResNeSt
(github.com/zhanghang1989/ResNeSt) and the authors' Res2Net and Res2NeXt
(github.com/Res2Net/Res2Net-PretrainedModels) have timm's names, tensor by tensor, because timm took
the modules over as they were. The authors' ReXNet is recognised from its names and renamed here.
What no rule knows keeps its name, so that fitting the checkpoint into a model lists it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

# The inverted bottleneck of the authors' ReXNet is one `nn.Sequential`, `features.4.out`.
_IN_BLOCK = re.compile(r"features\.(\d+)\.out\.(\d+)\.(.+)")
_OUTSIDE = re.compile(r"(features|output)\.(\d+)\.(\w+)")
_SQUEEZE_EXCITE = {"0": "fc1", "1": "bn", "3": "fc2"}
# ReXNet has a dropout and the classifier, ReXNet-lite a hidden layer before them.
_HEADS = ({1: "head.fc"}, {0: "head.conv", 1: "head.bn", 4: "head.fc"})


def to_timm(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tensors of a PyTorch checkpoint under timm's names.

    Args:
        arrays: tensors by the names of one of the layouts above, in PyTorch's axis order.

    Returns:
        The same tensors; those of a known layout renamed, and a classifier that was a 1x1
        convolution as the matrix (classes, channels) that it is.

    Example:

    >>> sorted(to_timm({"features.3.out.0.weight": np.zeros((32, 1, 3, 3)), ...}))
    ['features.0.conv_dw.conv.weight', ...]
    """
    if any(_IN_BLOCK.fullmatch(name) for name in arrays):
        return _rexnet_to_timm(arrays)
    return dict(arrays)


def _rexnet_to_timm(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
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

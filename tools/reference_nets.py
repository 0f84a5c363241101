"""Plain PyTorch networks for the variants that timm does not have.

Written after the papers, with timm's way of naming modules, so that one naming rule covers all
checkpoints. `REFERENCES` names them, says where each one is described and builds it with fresh
weights. Those that differ from a timm variant in numbers only are built from timm's classes.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from timm.models.res2net import Bottle2neck
from timm.models.resnest import ResNestBottleneck
from timm.models.resnet import Bottleneck, ResNet
from timm.models.rexnet import RexNet
from torch import Tensor, nn
from torch.nn import functional as F

CIFAR_CLASSES = 10


class CifarBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters (option A)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.new_channels = channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        # Pairs are given from the last axis: width, height, then zeros behind the old channels.
        return F.relu(y + F.pad(shortcut, (0, 0, 0, 0, 0, self.new_channels)))


class CifarResNet(nn.Module):
    """ResNet of 6n+2 layers for 32x32 images: He et al. 2015, section 4.2."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        if depth % 6 != 2:
            raise ValueError(f"depth must be 6n + 2. Received: depth={depth}.")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.act1 = nn.ReLU()
        self.layer1 = self._stage(16, 16, 1, blocks)
        self.layer2 = self._stage(16, 32, 2, blocks)
        self.layer3 = self._stage(32, 64, 2, blocks)
        self.fc = nn.Linear(64, CIFAR_CLASSES)

    @staticmethod
    def _stage(in_channels: int, channels: int, stride: int, blocks: int) -> nn.Sequential:
        later = (CifarBlock(channels, channels, 1) for _ in range(blocks - 1))
        return nn.Sequential(CifarBlock(in_channels, channels, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act1(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


class PreActivationBlock(nn.Module):
    """Norm and ReLU come before each convolution; a projection sees the activated input."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.downsample = None
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        y = self.conv1(activated)
        y = self.conv2(F.relu(self.bn2(y)))
        return y + (x if self.downsample is None else self.downsample(activated))


class WideResNet(nn.Module):
    """Wide ResNet of 6n+4 layers: Zagoruyko and Komodakis 2016.

    It is for 32x32 images. For larger ones it begins as a ResNet for ImageNet does, with a max-pool
    that sees the bare convolution's values, below zero too.
    """

    def __init__(self, depth: int, widening: int, small_inputs: bool = True) -> None:
        super().__init__()
        if depth % 6 != 4:
            raise ValueError(f"depth must be 6n + 4. Received: depth={depth}.")
        blocks = (depth - 4) // 6
        size, stride = (3, 1) if small_inputs else (7, 2)
        self.conv1 = nn.Conv2d(3, 16, size, stride, padding=size // 2, bias=False)
        self.maxpool = nn.Identity() if small_inputs else nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._stage(16, 16 * widening, 1, blocks)
        self.layer2 = self._stage(16 * widening, 32 * widening, 2, blocks)
        self.layer3 = self._stage(32 * widening, 64 * widening, 2, blocks)
        self.norm = nn.BatchNorm2d(64 * widening)
        self.fc = nn.Linear(64 * widening, CIFAR_CLASSES)

    @staticmethod
    def _stage(in_channels: int, channels: int, stride: int, blocks: int) -> nn.Sequential:
        later = (PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1))
        return nn.Sequential(PreActivationBlock(in_channels, channels, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.maxpool(self.conv1(x)))))
        return self.fc(F.relu(self.norm(x)).mean((2, 3)))


class ConvNorm(nn.Module):
    """A convolution without bias and its batch norm, under timm's names `conv` and `bn`."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        padding = kernel // 2
        self.conv = nn.Conv2d(
            in_channels, channels, kernel, stride, padding, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class LiteBlock(nn.Module):
    """Inverted bottleneck with ReLU6 throughout and a linear end."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.in_channels = in_channels
        self.use_shortcut = stride == 1 and in_channels <= channels
        self.conv_exp = ConvNorm(in_channels, inner) if expansion != 1 else None
        self.conv_dw = ConvNorm(inner, inner, kernel=3, stride=stride, groups=inner)
        self.conv_pwl = ConvNorm(inner, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.conv_exp is None else F.relu6(self.conv_exp(x))
        y = self.conv_pwl(F.relu6(self.conv_dw(y)))
        if not self.use_shortcut:
            return y
        old, new = y[:, : self.in_channels], y[:, self.in_channels :]
        return torch.cat([old + x, new], dim=1)


class LiteHead(nn.Module):
    """Average, a hidden layer of 1024 with bias and norm, the classifier."""

    def __init__(self, in_channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 1024, 1)
        self.bn = nn.BatchNorm2d(1024)
        self.fc = nn.Linear(1024, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x.mean((2, 3), keepdim=True))
        return self.fc(F.relu6(self.bn(x)).flatten(1))


class ReXNetLite(nn.Module):
    """ReXNet-lite: `rexnetv1_lite.py` of github.com/clovaai/rexnet, for widths of at least 1."""

    stage_ends = (0, 2, 4, 10, 15)

    def __init__(self, width: float) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1. Received: width={width}.")
        repeats, first_strides = (1, 2, 2, 3, 3, 5), (1, 2, 2, 2, 1, 2)
        strides = [
            first if index == 0 else 1
            for first, count in zip(first_strides, repeats, strict=True)
            for index in range(count)
        ]
        in_channels = _round_to_8(round(32 * width))
        self.stem = ConvNorm(3, in_channels, kernel=3, stride=2)

        blocks: list[nn.Module] = []
        unrounded = 16.0
        for index, stride in enumerate(strides):
            channels = _round_to_8(round(unrounded * width))
            blocks.append(LiteBlock(in_channels, channels, stride, expansion=6 if index else 1))
            in_channels = channels
            unrounded += 164 / (len(strides) - 1)
        last = int(1280 * width)
        self.features = nn.Sequential(*blocks, ConvNorm(in_channels, last))
        self.head = LiteHead(last, classes=1000)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(x))
        return self.head(F.relu6(self.features(x)))


def _round_to_8(value: float) -> int:
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def use_small_stem(model: ResNet) -> None:
    """Keep the resolution in the stem of a timm ResNet: first convolution at stride 1, no pool."""
    if isinstance(model.conv1, nn.Sequential):
        model.conv1[0].stride = (1, 1)
    else:
        old = model.conv1
        model.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()


def use_small_rexnet_stem(model: RexNet) -> None:
    """Keep the resolution in the stem of a timm ReXNet and in its block 1."""
    model.stem.conv.stride = (1, 1)
    block = model.features[1]
    block.conv_dw.conv.stride = (1, 1)
    # timm's rule for a block built at stride 1 in the first place.
    block.use_shortcut = block.in_channels <= block.out_channels


def cifar_network(block: type[nn.Module], classes: int = CIFAR_CLASSES, **numbers) -> ResNet:
    """A bottleneck network of three stages for 32x32 images; by default of 29 layers."""
    numbers = dict(layers=(3, 3, 3), channels=(64, 128, 256)) | numbers
    model = ResNet(block, num_classes=classes, **numbers)
    use_small_stem(model)
    model.layer4 = nn.Identity()  # timm's forward names four stages
    return model


def cifar_resnext(cardinality: int, base_width: int) -> ResNet:
    """ResNeXt-29: Xie et al. 2017, section 5.3."""
    return cifar_network(Bottleneck, cardinality=cardinality, base_width=base_width)


def cifar_res2next(cardinality: int, base_width: int, scale: int) -> ResNet:
    """Res2NeXt-29: Gao et al. 2019, section 4.3 and table 4."""
    widths = dict(cardinality=cardinality, base_width=base_width)
    return cifar_network(Bottle2neck, classes=100, **widths, block_args=dict(scale=scale))


# The sizes of our own small networks.
_SMALL = dict(layers=(2, 2, 2), channels=(16, 32, 64))


def cifar_resnest() -> ResNet:
    """Our ResNeSt of 20 layers, in the fast form."""
    return cifar_network(
        ResNestBottleneck,
        **_SMALL,
        stem_type="deep",
        stem_width=16,
        avg_down=True,
        block_args=dict(radix=2, avd=True, avd_first=True),
    )


def cifar_rexnet() -> RexNet:
    """Our ReXNet of half the width and depth; the stem and block 1 keep the resolution."""
    model = RexNet(width_mult=0.5, depth_mult=0.5, num_classes=CIFAR_CLASSES)
    use_small_rexnet_stem(model)
    return model


def resnest_ablation(setting: str) -> ResNet:
    """ResNeSt-50, fast setting: "2s1x64d" is radix 2, cardinality 1, base width 64."""
    radix, cardinality, base_width = map(int, re.findall(r"\d+", setting))
    return ResNet(
        ResNestBottleneck,
        layers=(3, 4, 6, 3),
        stem_type="deep",
        stem_width=32,
        avg_down=True,
        cardinality=cardinality,
        base_width=base_width,
        block_args=dict(radix=radix, avd=True, avd_first=True),
    )


_HE = "He et al. 2015, arXiv:1512.03385, section 4.2"
_WIDE = "Zagoruyko and Komodakis 2016, arXiv:1605.07146"
_XIE = "Xie et al. 2017, arXiv:1611.05431 (classes of timm 1.0.31)"
_XIE_CIFAR = "Xie et al. 2017, arXiv:1611.05431, section 5.3 (classes of timm 1.0.31)"
_ABLATION = "github.com/zhanghang1989/ResNeSt, ablation.md (classes of timm 1.0.31)"
_GAO = "Gao et al. 2019, arXiv:1904.01169, table 4 (classes of timm 1.0.31)"
_OURS = "keras_resnets (classes of timm 1.0.31)"
_LITE = "github.com/clovaai/rexnet, rexnetv1_lite.py"


class Reference(NamedTuple):
    """Where a network is described, how to build it, and the image size it is meant for."""

    source: str
    create: Callable[..., nn.Module]
    input_size: int = 224


REFERENCES: dict[str, Reference] = {
    **{
        f"resnet{depth}": Reference(_HE, partial(CifarResNet, depth), 32)
        for depth in (20, 32, 44, 56, 110)
    },
    "wide_resnet28_10": Reference(_WIDE, partial(WideResNet, depth=28, widening=10), 32),
    "resnext29_8x64d": Reference(_XIE_CIFAR, partial(cifar_resnext, 8, 64), 32),
    "resnext29_16x64d": Reference(_XIE_CIFAR, partial(cifar_resnext, 16, 64), 32),
    "resnext152_32x4d": Reference(
        _XIE, partial(ResNet, Bottleneck, (3, 8, 36, 3), cardinality=32, base_width=4)
    ),
    **{
        f"resnest50d_{setting}": Reference(_ABLATION, partial(resnest_ablation, setting))
        for setting in ("0s1x64d", "1s1x64d", "2s1x64d", "4s1x64d", "1s2x40d", "2s2x40d")
    },
    **{
        f"res2next29_{c}cx{w}wx{s}s": Reference(_GAO, partial(cifar_res2next, c, w, s), 32)
        for c, w, s in ((6, 24, 4), (8, 25, 4), (6, 24, 6))
    },
    "resnext20_cifar": Reference(
        _OURS, partial(cifar_network, Bottleneck, **_SMALL, cardinality=8, base_width=16), 32
    ),
    "res2net20_cifar": Reference(
        _OURS,
        partial(cifar_network, Bottle2neck, **_SMALL, base_width=32, block_args=dict(scale=4)),
        32,
    ),
    "resnest20_cifar": Reference(_OURS, cifar_resnest, 32),
    "rexnet_cifar": Reference(_OURS, cifar_rexnet, 32),
    **{
        f"rexnet_lite_{percent}": Reference(_LITE, partial(ReXNetLite, percent / 100))
        for percent in (100, 130, 150, 200)
    },
}

"""Attention: what scales or chooses feature maps by what the whole image shows.

An attention is a part like those of `blocks.py`: `attention(x, config, name)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from keras import KerasTensor, layers

from keras_resnets.models import blocks
from keras_resnets.models.blocks import act, conv, global_average, make_divisible
from keras_resnets.names import keras_name


class WithRatio(Protocol):
    """What squeeze-excite reads from a configuration."""

    attention_ratio: float


def squeeze_excite(x: KerasTensor, config: WithRatio, name: str) -> KerasTensor:
    """Scales each channel by a gate computed from the means of all channels.

    Source: Hu et al., arXiv:1709.01507, figure 3. The two fully connected layers are 1x1
    convolutions, as in the checkpoints.
    """
    channels = x.shape[-1]
    squeezed = make_divisible(channels * config.attention_ratio, 8, round_limit=0.0)
    gate = global_average(x, name=f"{name}.mean")
    gate = conv(gate, squeezed, 1, use_bias=True, name=f"{name}.fc1")
    gate = act(gate, name=f"{name}.act")
    gate = conv(gate, channels, 1, use_bias=True, name=f"{name}.fc2")
    gate = act(gate, "sigmoid", name=f"{name}.gate")
    return layers.Multiply(name=keras_name(f"{name}.mul"))([x, gate])


def efficient_channel_attention(x: KerasTensor, config: object, name: str) -> KerasTensor:
    """Scales each channel by a gate computed from the means of its neighbours.

    Source: Wang et al., arXiv:1910.03151 (ECA): the number of neighbours grows with the logarithm
    of the channels. An even result is rounded up and 3 is the least, as in timm.
    """
    return scaled_by_neighbours(x, neighbours_of(x.shape[-1]), name)


def neighbours_of(channels: int) -> int:
    """How many neighbours ECA's gate is computed from."""
    neighbours = int(abs(math.log2(channels) + 1) / 2)
    return max(neighbours if neighbours % 2 else neighbours + 1, 3)


def scaled_by_neighbours(x: KerasTensor, neighbours: int, name: str) -> KerasTensor:
    """ECA with a given number of neighbours."""
    channels = x.shape[-1]
    gate = layers.GlobalAveragePooling2D(name=keras_name(f"{name}.mean"))(x)
    gate = layers.Reshape((channels, 1), name=keras_name(f"{name}.row"))(gate)
    gate = layers.Conv1D(
        1, neighbours, padding="same", use_bias=False, name=keras_name(f"{name}.conv")
    )(gate)
    gate = act(gate, "sigmoid", name=f"{name}.gate")
    gate = layers.Reshape((1, 1, channels), name=keras_name(f"{name}.map"))(gate)
    return layers.Multiply(name=keras_name(f"{name}.mul"))([x, gate])


def weighted_sum(
    pieces: Sequence[KerasTensor], weights: Sequence[KerasTensor], name: str
) -> KerasTensor:
    """The sum of feature maps (N, H, W, C), each times its weights (N, 1, 1, C)."""
    weighted = [
        layers.Multiply(name=keras_name(f"{name}.mul{i}"))([piece, weight])
        for i, (piece, weight) in enumerate(zip(pieces, weights, strict=True))
    ]
    return blocks.add(weighted, name=f"{name}.add")

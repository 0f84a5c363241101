"""Keras layers of the residual families; they know nothing of models."""

from keras_resnets.layers.attention_pool import HeadsAttention, PositionedTokens
from keras_resnets.layers.batch_norm import BatchNormalization
from keras_resnets.layers.blur_pool import BlurPool2D
from keras_resnets.layers.channels import PadChannels, SplitChannels
from keras_resnets.layers.drop_block import DropBlock2D
from keras_resnets.layers.drop_path import DropPath
from keras_resnets.layers.grouped_conv import GroupedConv2D
from keras_resnets.layers.pointwise_dense import PointwiseDense
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.layers.standardized_conv import StandardizedConv2D
from keras_resnets.layers.subsample import Subsample2D

__all__ = [
    "BatchNormalization",
    "BlurPool2D",
    "DropBlock2D",
    "DropPath",
    "GroupedConv2D",
    "HeadsAttention",
    "PadChannels",
    "PointwiseDense",
    "PositionedTokens",
    "Preprocessor",
    "SplitChannels",
    "StandardizedConv2D",
    "Subsample2D",
]


def __dir__() -> list[str]:
    return __all__

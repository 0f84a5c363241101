"""What goes into a model: what is stated about its images, and what its own first layers say.

Nothing is guessed: not from a model's name, and not from what is usual. What nobody states is asked
for where it is needed, and is left out of the metadata where it is not.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_resnets.checks import require
from keras_resnets.graph.endings import normalizing_layer
from keras_resnets.layers.preprocessor import Preprocessor
from keras_resnets.preparation import Preparation
from keras_resnets.preprocessing import preprocessor

_RGB_AS_IT_IS = Preparation().without_normalization()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageInputs:
    """How images are prepared for a model, as far as that is known.

    Attributes:
        preparation: size, crop, interpolation, mean and deviation; None where nobody states them.
        takes_rgb: whether the model's own first layers take RGB values 0 to 255.
    """

    preparation: Preparation | None
    takes_rgb: bool

    def at_shape(self, shape: tuple[int | None, ...]) -> ImageInputs:
        """The same for images of a shape `(batch, height, width, channels)`, None for any."""
        if self.preparation is None:
            return self
        preparation = dataclasses.replace(self.preparation, channels=shape[-1])
        if None not in shape[1:3]:
            preparation = preparation.at_size(shape[1:3])
        return dataclasses.replace(self, preparation=preparation)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and deviation of values from 0 to 1; None where they are not known."""
        known = _RGB_AS_IT_IS if self.takes_rgb else self.preparation
        return known and (known.mean, known.std)

    def require_preparation(self, reason: str) -> Preparation:
        """The preparation; raises a ValueError that asks for it if nobody states it."""
        require(self.preparation is not None, _question(reason), preprocessing=None)
        return self.preparation

    def require_normalization(self, reason: str) -> None:
        """Raises a ValueError that asks how images are normalised if nobody states it."""
        require(self.normalization is not None, _question(reason), preprocessing=None)

    def normalized(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 RGB to the values that the model takes, which must be known."""
        mean, std = map(np.float32, self.normalization)
        return (rgb.astype("float32") / 255 - mean) / std

    def as_metadata(self, shape: tuple[int | None, ...]) -> dict[str, Any]:
        """What is known, under the names of `Preparation.as_metadata`."""
        dynamic = None in shape[1:3]
        if self.preparation is not None:
            stated = self.preparation.as_metadata()
        else:
            stated = {} if dynamic else {"input_size": [shape[-1], *shape[1:3]]}
            if self.takes_rgb:
                stated |= {"mean": list(_RGB_AS_IT_IS.mean), "std": list(_RGB_AS_IT_IS.std)}
        return stated | {"dynamic": dynamic}


def inputs_of(
    model: keras.Model, stated: str | Mapping[str, Any] | Preparation | Preprocessor | None = None
) -> ImageInputs:
    """What is known of a model's images.

    Args:
        model: the model. Where its own first layers normalise, images are given to it as they are;
            where one of them is a `Preprocessor`, nothing else need be stated.
        stated: what else is known: a published checkpoint, a mapping that `Preparation.stated_in`
            reads, or the preparation itself.

    Raises:
        ValueError: if there is no such checkpoint, or the mapping states nothing.
    """
    own = normalizing_layer(model)
    if isinstance(own, Preprocessor):
        # It resizes and crops as well. Squares of the length that it resizes the shorter side to
        # are only cropped by it, so that what it sees is what it would have seen of the image.
        scale = tuple(math.floor(side / own.crop_pct) for side in own.size)
        preparation = dataclasses.replace(own.preparation.at_size(scale), crop_pct=1.0)
    else:
        preparation = _stated(stated)
    if preparation is not None and own is not None:
        preparation = preparation.without_normalization()
    return ImageInputs(preparation=preparation, takes_rgb=own is not None)


def _stated(stated: Any) -> Preparation | None:
    if stated is None or isinstance(stated, Preparation):
        return stated
    if isinstance(stated, Preprocessor):
        return stated.preparation
    if isinstance(stated, Mapping):
        preparation = Preparation.stated_in(stated)
        require(
            preparation is not None,
            "preprocessing must state something about images, such as their input_size",
            preprocessing=stated,
        )
        return preparation
    return preprocessor(stated).preparation


def _question(reason: str) -> str:
    return (
        "preprocessing must state how images are prepared for the model's weights: "
        f"{reason}, and the model's own layers do not say. Pass a published checkpoint such as "
        "'resnest50d.in1k', a Preparation, or a mapping such as {'input_size': (3, 224, 224), "
        "'crop_pct': 0.875, 'interpolation': 'bicubic', 'mean': (0.485, 0.456, 0.406), "
        "'std': (0.229, 0.224, 0.225)}"
    )

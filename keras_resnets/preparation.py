"""How images are prepared for weights: a value that travels with them.

A checkpoint that was evaluated on bicubic 288x288 crops loses accuracy on anything else. So what
its images looked like is read wherever weights are read, and written wherever they are written:
the catalog, a hub's config.json, the metadata of a file, a run's folder.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from keras_resnets.checks import (
    as_plain,
    is_count,
    is_number,
    is_sequence,
    require,
    require_count,
    require_one_of,
)

# ImageNet's training images, RGB from 0 to 1, as torchvision and timm count them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

INTERPOLATIONS = ("bilinear", "bicubic")

# What states a preparation in a hub's config and in a file's metadata, under timm's names.
_STATED = ("input_size", "crop_pct", "interpolation", "mean", "std")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preparation:
    """How images are prepared for weights.

    Attributes:
        size: `(height, width)` of the images that go in; one int for both will do.
        channels: 3 for RGB, or 1.
        crop_pct: side of the central crop as a fraction of the resized image's shorter side.
        interpolation: how images are resized: `"bilinear"` or `"bicubic"`.
        mean: of each channel, in units of the full range 0 to 1.
        std: the standard deviation of each channel, in the same units.
        test_size: the larger size that the weights are best evaluated at, if one is known.
        test_crop_pct: the crop at that size, if it is another.

    Raises:
        ValueError: if a value is out of its range.

    Example:

    >>> Preparation.stated_in({"input_size": [3, 224, 224], "interpolation": "bicubic"}).size
    (224, 224)
    """

    size: tuple[int, int] = (224, 224)
    channels: int = 3
    crop_pct: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    test_size: tuple[int, int] | None = None
    test_crop_pct: float | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            self._set(field.name, as_plain(getattr(self, field.name)))
        self._set("size", _sides(size=self.size))
        if self.test_size is not None:
            self._set("test_size", _sides(test_size=self.test_size))
        require_count(channels=self.channels)
        for key in ("crop_pct", "test_crop_pct"):
            value = getattr(self, key)
            if key == "test_crop_pct" and value is None:
                continue
            require(
                is_number(value) and 0 < value <= 1,
                f"{key} must be a number above 0 and at most 1",
                **{key: value},
            )
            self._set(key, float(value))
        require_one_of(INTERPOLATIONS, interpolation=self.interpolation)
        for key in ("mean", "std"):
            values = getattr(self, key)
            require(
                isinstance(values, (tuple, list))
                and len(values) in (3, self.channels)
                and all(is_number(value) and math.isfinite(value) for value in values)
                and (key == "mean" or min(values) > 0),
                f"{key} must be 3 {'' if key == 'mean' else 'positive '}numbers, one a channel",
                **{key: values},
            )
            self._set(key, tuple(map(float, values)))

    def _set(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)

    @classmethod
    def stated_in(cls, facts: Mapping[str, Any]) -> Preparation | None:
        """Reads what is stated about images, wherever it is stated.

        Args:
            facts: a hub's config.json or the `pretrained_cfg` in it, a file's metadata (whose
                values are JSON texts), or a row of the catalog. `input_size` is
                `(channels, height, width)`, as timm has it, or `(height, width)`.

        Returns:
            The preparation, or None where nothing is stated. What a statement leaves out is
            timm's usual: 0.875, bilinear, ImageNet's mean and deviation.

        Raises:
            ValueError: if something is stated that cannot be followed.
        """
        inner = facts.get("pretrained_cfg", {})
        require(
            isinstance(inner, Mapping), "pretrained_cfg must be a mapping", pretrained_cfg=inner
        )
        facts = {key: parsed(value) for key, value in {**facts, **inner}.items()}
        if all(facts.get(key) is None for key in _STATED):
            return None
        require(
            facts.get("crop_mode", "center") in ("center", None),
            "crop_mode must be 'center'",
            crop_mode=facts.get("crop_mode"),
        )
        channels, size = _stated_size("input_size", facts)
        stated = {
            "channels": channels,
            "size": size,
            "test_size": _stated_size("test_input_size", facts)[1],
            **{key: facts.get(key) for key in (*_STATED[1:], "test_crop_pct")},
        }
        return cls(**{key: value for key, value in stated.items() if value is not None})

    def as_metadata(self) -> dict[str, Any]:
        """The same as `stated_in` reads, under timm's names."""
        size = {"input_size": [self.channels, *self.size]}
        if self.test_size is not None:
            size["test_input_size"] = [self.channels, *self.test_size]
        if self.test_crop_pct is not None:
            size["test_crop_pct"] = self.test_crop_pct
        return size | {
            "crop_pct": self.crop_pct,
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "std": list(self.std),
        }

    def at_test_size(self) -> Preparation:
        """The preparation at the larger size that the weights are best evaluated at, if any."""
        return dataclasses.replace(
            self,
            size=self.test_size or self.size,
            crop_pct=self.test_crop_pct or self.crop_pct,
            test_size=None,
            test_crop_pct=None,
        )

    def at_size(self, size: int | tuple[int, int]) -> Preparation:
        """The same for images of another size."""
        return dataclasses.replace(self, size=size, test_size=None, test_crop_pct=None)

    def without_normalization(self) -> Preparation:
        """The same for a model that normalises by itself: values 0 to 255 stay what they are."""
        return dataclasses.replace(self, mean=(0.0,) * 3, std=(1 / 255,) * 3)

    def __str__(self) -> str:
        """`"224x224, crop 0.875, bilinear, mean 0.485 0.456 0.406, std 0.229 0.224 0.225"`."""
        mean, std = (" ".join(f"{value:.3g}" for value in each) for each in (self.mean, self.std))
        return (
            f"{self.size[0]}x{self.size[1]}, crop {self.crop_pct:.3g}, {self.interpolation}, "
            f"mean {mean}, std {std}"
        )


def stated_by_rescaling(scale: Sequence[float], offset: Sequence[float]) -> dict[str, list[float]]:
    """Mean and standard deviation that a scaling of RGB values 0 to 255 stands for, as metadata."""
    std = [1 / (255 * factor) for factor in scale]
    mean = [-shift * deviation for shift, deviation in zip(offset, std, strict=True)]
    return {"mean": [round(v, 6) for v in mean], "std": [round(v, 6) for v in std]}


def _sides(**size: Any) -> tuple[int, int]:
    [(key, value)] = size.items()
    sides = (value, value) if is_count(value) else value
    require(
        is_sequence(sides, 2) and all(map(is_count, sides)),
        f"{key} must be (height, width) in pixels, or one positive int",
        **size,
    )
    return int(sides[0]), int(sides[1])


def _stated_size(key: str, facts: Mapping[str, Any]) -> tuple[int | None, tuple[int, int] | None]:
    """Channels and sides of `(channels, height, width)` or `(height, width)`; None for unknown."""
    value = as_plain(facts.get(key))
    if value is None:
        return None, None
    require(
        is_sequence(value, 2) or is_sequence(value, 3),
        f"{key} must be (channels, height, width) or (height, width)",
        **{key: value},
    )
    channels = value[0] if len(value) == 3 else None
    # A network for any size has none to state.
    return channels, None if None in value[-2:] else tuple(value[-2:])


def parsed(value: Any) -> Any:
    """The value of a JSON text; a text that is no JSON is meant as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value

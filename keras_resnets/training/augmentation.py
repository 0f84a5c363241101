"""Settings of training as plain data, which recipes write down: imports nothing heavy."""

from __future__ import annotations

import dataclasses
from typing import Any

from keras_resnets.checks import (
    is_count,
    is_number,
    require,
    require_flag,
    require_not_negative,
    require_one_of,
    require_ratio,
)

# Whose operations RandAugment has; see `policies.RAND_AUGMENT_FORMS`.
RAND_AUGMENT_FORMS = ("paper", "timm", "timm_increasing")
ERASED_TO = ("noise", "mean")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training images and labels, in the order in which it happens.

    An image is cropped, flipped, put through at most one policy (AutoAugment, RandAugment,
    TrivialAugment or AugMix), jittered in colour and lighting, and erased in part; a batch is
    mixed; labels are smoothed. The defaults are the crop and the flip that nearly every ImageNet
    recipe has.

    Attributes:
        crop_scale: random resized crop: smallest and largest area, as fractions of the image.
            None resizes the whole image to the square, aspect ratio not kept, as `pad_crop` needs.
        crop_ratio: smallest and largest width / height of that crop.
        pad_crop: pad the resized image with so many black pixels a side and crop it back to its
            size at random (He et al., arXiv:1512.03385, section 4.2: 4). Needs `crop_scale=None`.
        flip: mirror half the images left to right.
        auto_augment: AutoAugment's ImageNet policy (Cubuk et al., arXiv:1805.09501).
        rand_augment: `(layers, magnitude)`: so many random operations an image, of a magnitude
            from 0 to 10 (Cubuk et al., arXiv:1909.13719).
        rand_augment_std: standard deviation of the magnitude, in the same units.
        rand_augment_form: `"paper"` (14 operations with the identity among them, each that is drawn
            is applied), `"timm_increasing"` (timm's 15, each applied with probability a half;
            `inc1` there) or `"timm"` (the same 15, of which some grow weaker with the magnitude).
        trivial_augment: TrivialAugment's one operation of uniform strength, in the wide ranges
            (Mueller and Hutter, arXiv:2103.10158).
        aug_mix: AugMix's mixture of operation chains (Hendrycks et al., arXiv:1912.02781), without
            the consistency loss.
        color_jitter: brightness, contrast and saturation change by a factor within 1 +- this.
        pca_lighting: standard deviation of AlexNet's lighting noise along the principal components
            of ImageNet's colours; 0.1 is usual.
        random_erasing: probability that a rectangle of the image is erased (Zhong et al.,
            arXiv:1708.04896).
        erased_to: what is there then: `"noise"`, or `"mean"` for ImageNet's mean colour.
        mixup: alpha of MixUp's Beta(alpha, alpha) (Zhang et al., arXiv:1710.09412); 0 is off.
        cutmix: alpha of CutMix's (Yun et al., arXiv:1905.04899); 0 is off. With MixUp on as well,
            each batch gets one of the two, half and half.
        hard_targets_above_zero: every class in a mixture gets the target 1, for binary
            cross-entropy (Wightman et al., arXiv:2110.00476).
        label_smoothing: share of the target that is spread evenly over all classes. This is the
            only place where labels are smoothed: the loss does not smooth them again.

    Raises:
        ValueError: if a value is out of its range or two of them exclude each other.

    Example:

    >>> Augmentation(mixup=0.2, label_smoothing=0.1)
    """

    crop_scale: tuple[float, float] | None = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad_crop: int = 0
    flip: bool = True
    auto_augment: bool = False
    rand_augment: tuple[int, float] | None = None
    rand_augment_std: float = 0.0
    rand_augment_form: str = "paper"
    trivial_augment: bool = False
    aug_mix: bool = False
    color_jitter: float = 0.0
    pca_lighting: float = 0.0
    random_erasing: float = 0.0
    erased_to: str = "noise"
    mixup: float = 0.0
    cutmix: float = 0.0
    hard_targets_above_zero: bool = False
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        for key in ("crop_scale", "crop_ratio", "rand_augment"):
            value = getattr(self, key)
            if isinstance(value, list):  # From JSON.
                object.__setattr__(self, key, tuple(value))
        self._check_crop()
        self._check_policy()
        for key in (
            "flip",
            "auto_augment",
            "trivial_augment",
            "aug_mix",
            "hard_targets_above_zero",
        ):
            require_flag(**{key: getattr(self, key)})
        require_one_of(RAND_AUGMENT_FORMS, rand_augment_form=self.rand_augment_form)
        require_one_of(ERASED_TO, erased_to=self.erased_to)
        require_ratio(
            color_jitter=self.color_jitter,
            random_erasing=self.random_erasing,
            label_smoothing=self.label_smoothing,
        )
        for key in ("pca_lighting", "mixup", "cutmix", "rand_augment_std"):
            require_not_negative(**{key: getattr(self, key)})

    def _check_crop(self) -> None:
        scale, ratio = self.crop_scale, self.crop_ratio
        require(
            scale is None or (_is_range(scale) and scale[1] <= 1),
            "crop_scale must be (smallest, largest), above 0 and at most 1, or None",
            crop_scale=scale,
        )
        require(
            _is_range(ratio),
            "crop_ratio must be (smallest, largest), both above 0",
            crop_ratio=ratio,
        )
        require(
            is_count(self.pad_crop, minimum=0),
            "pad_crop must be a number of pixels, 0 for none",
            pad_crop=self.pad_crop,
        )
        require(
            not self.pad_crop or scale is None,
            "pad_crop needs crop_scale=None: an image is cropped in one way",
            pad_crop=self.pad_crop,
            crop_scale=scale,
        )

    def _check_policy(self) -> None:
        value = self.rand_augment
        require(
            value is None
            or (
                isinstance(value, tuple)
                and len(value) == 2
                and is_count(value[0])
                and is_number(value[1])
                and 0 <= value[1] <= 10
            ),
            "rand_augment must be (layers, magnitude), 1 layer or more and a magnitude from 0 to "
            "10, or None",
            rand_augment=value,
        )
        require(
            value is not None or not self.rand_augment_std,
            "rand_augment_std needs rand_augment",
            rand_augment_std=self.rand_augment_std,
        )
        policies = {
            "auto_augment": self.auto_augment,
            "rand_augment": value,
            "trivial_augment": self.trivial_augment,
            "aug_mix": self.aug_mix,
        }
        require(
            sum(map(bool, policies.values())) <= 1,
            "at most one of auto_augment, rand_augment, trivial_augment and aug_mix can be on",
            **policies,
        )


def _is_range(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and all(map(is_number, value))
        and 0 < value[0] <= value[1] < float("inf")
    )

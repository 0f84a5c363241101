"""What weights say about themselves: a hub's config.json, the metadata of a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from keras_resnets.checks import is_number, require
from keras_resnets.preparation import Preparation, parsed

THRESHOLD = 0.5  # Of several labels, where nobody states another.

# In front of the architecture of a network that timm does not build by the name: timm then says
# that it does not know the network, rather than building another one.
OURS = "keras-resnets/"

ABOUT = "keras_resnets"  # The key in a config.json of what timm has no keys for.

_OF_IMAGES = (
    "input_size", "test_input_size", "crop_pct", "test_crop_pct", "interpolation", "mean", "std",
)  # fmt: skip
_OF_THE_WEIGHTS = (
    *_OF_IMAGES, "label_names", "label_descriptions", "license", "multi_label", "threshold",
)  # fmt: skip


def check_threshold(threshold: Any) -> None:
    """Raises a ValueError unless it is None or a probability that labels can reach or miss."""
    require(
        threshold is None or (is_number(threshold) and 0 < threshold < 1),
        "threshold must be a number between 0 and 1",
        threshold=threshold,
    )


def threshold_of(stated: float | None, asked: float | None) -> float | None:
    """The threshold of a model: what is asked for, else what the model states.

    Raises:
        ValueError: if one is asked for and the model is none of several labels an image.
    """
    require(
        asked is None or stated is not None,
        "threshold is for models of several labels an image; leave it out",
        threshold=asked,
    )
    return stated if asked is None else asked


def multi_label_facts(threshold: float | None) -> dict[str, Any]:
    """What is stated of a model of several labels an image; nothing of one for a single class."""
    return {} if threshold is None else {"multi_label": True, "threshold": threshold}


@dataclasses.dataclass(frozen=True)
class Facts:
    """One statement about weights, and the reader of all that it may say.

    A fact is read when it is asked for: a statement that cannot be followed about images is no
    obstacle to who only wants the weights.

    Attributes:
        stated: a hub's config.json, whose `pretrained_cfg` counts as a part of it, or a file's
            metadata, whose values are texts: JSON, or meant as they are.

    Example:

    >>> Facts({"architecture": "resnet50.mine", "mean": "[0.5, 0.5, 0.5]"}).preparation.mean
    (0.5, 0.5, 0.5)
    """

    stated: Mapping[str, Any]

    @property
    def architecture(self) -> str | None:
        """timm's name of the network, or ours where timm has none, without a tag."""
        name = self._value("architecture")
        return name.removeprefix(OURS).split(".")[0] if isinstance(name, str) else None

    @property
    def config_changes(self) -> dict[str, Any]:
        """What the network is built with that its architecture's name does not tell.

        Fields of its configuration, and the builder's `output_stride` and `pooling`.
        """
        changes = self._value("config_changes")
        return dict(changes) if isinstance(changes, Mapping) else {}

    @property
    def classes(self) -> int | None:
        """Number of classes; None also for a bare backbone."""
        return self._value("num_classes") or None

    @property
    def is_backbone(self) -> bool:
        """Whether it is stated that there is no classifier."""
        return self._value("num_classes") == 0

    @property
    def channels(self) -> int | None:
        """Input channels."""
        arguments = self._value("model_args")
        if isinstance(arguments, Mapping) and "in_chans" in arguments:
            return arguments["in_chans"]
        size = self._value("input_size")
        return size[0] if isinstance(size, list) and len(size) == 3 else None

    @property
    def class_names(self) -> tuple[tuple[str, str], ...] | None:
        """Label and description of each class, in the order of the outputs."""
        labels = self._value("label_names")
        numbered = self._value("id2label")  # As transformers has it, with texts for numbers.
        if labels is None and isinstance(numbered, Mapping):
            labels = [numbered.get(str(index)) for index in range(len(numbered))]
        if not isinstance(labels, list) or not labels:
            return None
        descriptions = self._value("label_descriptions")
        descriptions = descriptions if isinstance(descriptions, Mapping) else {}
        return tuple((str(label), str(descriptions.get(label, label))) for label in labels)

    @property
    def threshold(self) -> float | None:
        """The probability from which a label is said of an image that may have several.

        None where an image has one class.
        """
        if self._value("multi_label") is not True:
            return None
        threshold = self._value("threshold")
        threshold = THRESHOLD if threshold is None else threshold
        check_threshold(threshold)
        return float(threshold)

    @property
    def licence(self) -> str | None:
        """The licence; a person's own weights seldom state one."""
        licence = self._value("license")
        return licence if isinstance(licence, str) else None

    @property
    def about(self) -> dict[str, Any]:
        """What `save_pretrained` adds for the model card; see `sharing.about`."""
        about = self._value(ABOUT)
        return dict(about) if isinstance(about, Mapping) else {}

    @property
    def preparation(self) -> Preparation | None:
        """How images are prepared.

        Raises:
            ValueError: if something is stated that cannot be followed.
        """
        return Preparation.stated_in(self.stated)

    def overridden_by(self, other: Facts) -> Facts:
        """Both statements in one, of which the other counts where both say something."""
        said = {key: value for key, value in other.stated.items() if value is not None}
        return Facts({**self.stated, **said})

    def of_the_weights(self) -> dict[str, Any]:
        """What stays true when the weights move to another file, as it is stated."""
        return self._stated(_OF_THE_WEIGHTS)

    def of_images(self) -> dict[str, Any]:
        """How images are prepared, as it is stated."""
        return self._stated(_OF_IMAGES)

    def _stated(self, keys: Iterable[str]) -> dict[str, Any]:
        return {key: value for key in keys if (value := self._value(key)) is not None}

    def _value(self, key: str) -> Any:
        """A fact; new configurations of timm keep most of them in `pretrained_cfg`."""
        inner = self.stated.get("pretrained_cfg")
        value = self.stated.get(key)
        if value is None and isinstance(inner, Mapping):
            value = inner.get(key)
        return parsed(value)

"""Recipes: how a network is trained, as plain data, each in a file of its own in `recipes/`."""

from __future__ import annotations

import dataclasses
import fnmatch
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from keras_resnets.checks import (
    is_count,
    is_number,
    require,
    require_count,
    require_flag,
    require_not_negative,
    require_one_of,
    require_rate,
    require_ratio,
)
from keras_resnets.training.augmentation import Augmentation

OPTIMIZERS = ("sgd", "lamb", "adamw")
SCHEDULES = ("cosine", "steps", "constant")
MULTI_LABEL = "multi_label"
LOSSES = ("cross_entropy", "binary_cross_entropy", MULTI_LABEL)
AUTO = "auto"  # The batch that a device holds, found before training.
BATCH_SCALINGS = ("linear", "sqrt", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained. Every field can be changed on the command line with `--set`.

    Attributes:
        name: of the recipe, that of its file.
        model: the architecture it trains unless told otherwise, as for `create_model`.
        weights: what training starts from, as for `create_model`; None for random weights.
        config_changes: fields of the architecture's configuration that it changes.
        by_model: what differs by architecture: pairs of a pattern of timm's names (`*` and `?`)
            and the fields that it changes; the first pattern that matches counts.

        image_size: side of the training images in pixels.
        eval_image_size: side of the images of validation; None for `image_size`.
        crop_pct: side of validation's central crop as a fraction of the resized shorter side.
        augmentation: what happens to training images and labels.

        epochs: passes over the training images; warm-up and steps move with a change of them.
        batch_size: images a step, over all devices and machines; `"auto"` for as many as fit, found
            before training, to within an eighth.
        optimizer: `"sgd"` (momentum, coupled decay), `"lamb"` or `"adamw"`.
        learning_rate: the highest, for a batch of `reference_batch_size`.
        reference_batch_size: the batch that the learning rate was chosen for.
        batch_scaling: how the learning rate follows the batch: `"linear"` (Goyal et al.,
            arXiv:1706.02677), `"sqrt"` or `"none"`. What counts is the effective batch: images a
            step times accumulated steps.
        layer_decay: by what a stage's learning rate is smaller than that of the one behind it, the
            classifier having all of it; 1 for one learning rate. Usual in fine-tuning: 0.65 to 0.9.
        momentum: of SGD; the decay of the first moment for the others.
        nesterov: whether SGD looks ahead (Nesterov's momentum).
        weight_decay: of convolution and dense kernels; nothing else is decayed.
        clip_norm: largest global norm of the gradient; None for no clipping.
        loss: `"cross_entropy"` (softmax), `"binary_cross_entropy"` (a sigmoid a class, mean over
            the classes), or `"multi_label"` (a sigmoid a class, sum over the classes), where an
            image may have several labels, or none; the mean average precision counts then.
        teacher_share: of a teacher's outputs in the loss, where a run has one.
        teacher_temperature: what both networks' logits are divided by there; higher ones say more
            of the unlikely classes.

        schedule: of the learning rate after warm-up: `"cosine"` (half a period, Loshchilov and
            Hutter, arXiv:1608.03983), `"steps"` or `"constant"`. It moves every step, by formula.
        warmup_epochs: how long the learning rate rises linearly at the beginning.
        warmup_factor: where that begins, as a fraction of the highest.
        final_factor: where the cosine ends, as a fraction of the highest.
        step_epochs: after which epochs `"steps"` multiplies the learning rate.
        step_factor: by what it does.

        dropout: rate in front of the classifier; None for the architecture's.
        drop_path: stochastic depth: rate of the last block, rising linearly from the first.
        drop_block: rate of DropBlock in the last two stages.
        ramp_drop_block: whether that rate rises linearly from 0 over the training.

        ema: momentum of the weights' moving average at each of its updates; 0 for none. With one,
            it is what validation, best weights and exports use.
        ema_every: steps between its updates.

    Raises:
        ValueError: if a value is out of its range.

    Example:

    >>> recipe = find_recipe("resnest")
    >>> dataclasses.replace(recipe, epochs=100).epochs
    100
    """

    name: str
    model: str
    weights: str | None = None
    config_changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    by_model: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    image_size: int = 224
    eval_image_size: int | None = None
    crop_pct: float = 0.875
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)

    epochs: int
    batch_size: int | str
    optimizer: str = "sgd"
    learning_rate: float
    reference_batch_size: int
    batch_scaling: str = "linear"
    layer_decay: float = 1.0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float
    clip_norm: float | None = None
    loss: str = "cross_entropy"
    teacher_share: float = 0.5
    teacher_temperature: float = 2.0

    schedule: str = "cosine"
    warmup_epochs: float = 0.0
    warmup_factor: float = 0.0
    final_factor: float = 0.0
    step_epochs: tuple[int, ...] = ()
    step_factor: float = 0.1

    dropout: float | None = None
    drop_path: float = 0.0
    drop_block: float = 0.0
    ramp_drop_block: bool = False

    ema: float = 0.0
    ema_every: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.augmentation, Mapping):  # From JSON, as are lists below.
            object.__setattr__(self, "augmentation", Augmentation(**self.augmentation))
        object.__setattr__(self, "step_epochs", tuple(self.step_epochs))
        object.__setattr__(
            self, "by_model", tuple((pattern, changes) for pattern, changes in self.by_model)
        )
        for key in ("image_size", "epochs", "reference_batch_size", "ema_every"):
            require_count(**{key: getattr(self, key)})
        require(
            self.batch_size == AUTO or is_count(self.batch_size),
            "batch_size must be a positive int, or 'auto'",
            batch_size=self.batch_size,
        )
        require(
            self.eval_image_size is None or is_count(self.eval_image_size),
            "eval_image_size must be a positive int, or None for image_size",
            eval_image_size=self.eval_image_size,
        )
        for key, choices in dict(
            optimizer=OPTIMIZERS,
            schedule=SCHEDULES,
            loss=LOSSES,
            batch_scaling=BATCH_SCALINGS,
        ).items():
            require_one_of(choices, **{key: getattr(self, key)})
        for key in ("nesterov", "ramp_drop_block"):
            require_flag(**{key: getattr(self, key)})
        self._check_numbers()
        require(
            list(self.step_epochs) == sorted(set(self.step_epochs))
            and all(map(is_count, self.step_epochs)),
            "step_epochs must be rising numbers of epochs",
            step_epochs=self.step_epochs,
        )
        require(
            self.schedule != "steps" or len(self.step_epochs) > 0,
            'schedule="steps" needs step_epochs',
            step_epochs=self.step_epochs,
        )

    def _check_numbers(self) -> None:
        require_ratio(teacher_share=self.teacher_share)
        for key in ("learning_rate", "crop_pct", "layer_decay", "teacher_temperature"):
            value = getattr(self, key)
            require(is_number(value) and value > 0, f"{key} must be above 0", **{key: value})
        for key in ("crop_pct", "layer_decay"):
            value = getattr(self, key)
            require(value <= 1, f"{key} must be at most 1", **{key: value})
        for key in ("momentum", "drop_path", "drop_block", "ema"):
            require_rate(**{key: getattr(self, key)})
        require(
            self.dropout is None or (is_number(self.dropout) and 0 <= self.dropout < 1),
            "dropout must be a number from 0 to below 1, or None for the architecture's",
            dropout=self.dropout,
        )
        for key in ("weight_decay", "warmup_epochs", "warmup_factor", "final_factor"):
            require_not_negative(**{key: getattr(self, key)})
        require(
            self.clip_norm is None or (is_number(self.clip_norm) and self.clip_norm > 0),
            "clip_norm must be above 0, or None",
            clip_norm=self.clip_norm,
        )

    @property
    def multi_label(self) -> bool:
        """Whether an image may have several labels, each a question of its own."""
        return self.loss == MULTI_LABEL

    def for_model(self, architecture: str) -> Recipe:
        """This recipe with what it changes for an architecture (timm's name) applied."""
        for pattern, changes in self.by_model:
            if fnmatch.fnmatchcase(architecture, pattern):
                return dataclasses.replace(self, **changes)
        return self

    def scaled_learning_rate(self, batch_size: int) -> float:
        """The highest learning rate for an effective batch of so many images."""
        ratio = batch_size / self.reference_batch_size
        power = {"linear": 1.0, "sqrt": 0.5, "none": 0.0}[self.batch_scaling]
        return self.learning_rate * ratio**power

    def stretched(self, epochs: int) -> Recipe:
        """This recipe in so many epochs: warm-up and steps move with them."""
        ratio = epochs / self.epochs
        steps = {max(round(epoch * ratio), 1) for epoch in self.step_epochs}
        return dataclasses.replace(
            self,
            epochs=epochs,
            warmup_epochs=self.warmup_epochs * ratio,
            step_epochs=tuple(sorted(steps)),
        )

    def as_dict(self) -> dict[str, Any]:
        """Everything in it, for JSON; `Recipe(**recipe.as_dict())` is the same recipe."""
        fields = dataclasses.asdict(self)
        return fields | {"by_model": [[pattern, changes] for pattern, changes in self.by_model]}


def list_recipes() -> list[str]:
    """Names of the recipes, sorted.

    Example:

    >>> list_recipes()[:3]
    ['a1', 'a2', 'a3']
    """
    from keras_resnets.training import recipes

    return sorted(module.name for module in pkgutil.iter_modules(recipes.__path__))


def find_recipe(name: str) -> Recipe:
    """The recipe of a name.

    Raises:
        ValueError: if there is no such recipe; the message suggests the nearest.

    Example:

    >>> find_recipe("a2").epochs
    300
    """
    require_one_of(list_recipes(), recipe=name)
    return importlib.import_module(f"keras_resnets.training.recipes.{name}").RECIPE


def recipe_source(name: str) -> str:
    """What a recipe's file says of its source: where from, the command, what it reports."""
    find_recipe(name)
    module = importlib.import_module(f"keras_resnets.training.recipes.{name}")
    return (module.__doc__ or "").strip()

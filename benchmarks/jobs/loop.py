"""Some steps of `fit` on images in memory, with what a run has beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import numpy as np


def epoch(variant: str, size: int, batch: int, steps: int, parts: list[str]) -> Callable[[], None]:
    """Prepares a network and returns what trains it for so many steps.

    Args:
        variant: the architecture.
        size: height and width of the images.
        batch: images a step.
        steps: of a call.
        parts: `"input"`, images read, cropped and flipped for every step; `"average"`, the moving
            average after every step; and `"steps"`, what counts the steps and watches over the
            loss.
    """
    import keras

    import keras_resnets as kr
    from keras_resnets.training import callbacks as own
    from keras_resnets.training.augmentation import Augmentation
    from keras_resnets.training.batches import training_batches
    from keras_resnets.training.checkpoints import Progress
    from keras_resnets.training.data import load
    from keras_resnets.training.distribute import Placement, Replicas
    from keras_resnets.training.run_folder import RunFolder

    model = kr.create_model(variant, weights=None, classifier_activation=None)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (10 * batch, size, size, 3), "uint8")
    labels = np.arange(10 * batch) % 10
    examples = load({"train": (images, labels)}, "train")
    augmentation = Augmentation(crop_scale=None, pad_crop=4)
    data = training_batches(examples, augmentation, image_size=size, batch_size=batch, seed=0)
    if "input" not in parts:
        data = data.take(1).cache().repeat()

    average = own.MovingAverage(model, 0.999, 1) if "average" in parts else None
    if "steps" in parts:
        watching = own.Steps(
            RunFolder(tempfile.mkdtemp()),
            Progress(),
            average,
            Replicas(None),
            own.Interrupts(),
            Placement(),
            steps_per_epoch=10**9,
            every=None,
            keep=1,
        )
        watching.save = lambda: None  # A checkpoint belongs to the epoch, not to a step.
        used = [watching]
    elif average is not None:
        used = [
            keras.callbacks.LambdaCallback(on_train_batch_end=lambda i, logs: average.update(i))
        ]
    else:
        used = []

    def call() -> None:
        model.fit(data, steps_per_epoch=steps, callbacks=used, verbose=0)

    return call

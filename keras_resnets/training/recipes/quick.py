"""A small network on small images, in minutes on a processor: for a first try and for tests.

Source: ours.
Command: keras-resnets train --data digits --recipe quick --out runs/digits
Reaches: 97 % and more of the validation digits (`tests/test_train.py` holds it to its floor).

Images are not mirrored, because a mirrored digit is another one or none.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="quick",
    model="ResNet20",
    image_size=32,
    crop_pct=1.0,
    augmentation=Augmentation(crop_scale=(0.7, 1.0), crop_ratio=(0.9, 1.1), flip=False),
    epochs=15,
    batch_size=64,
    learning_rate=0.1,
    reference_batch_size=64,
    weight_decay=5e-4,
    nesterov=True,
    warmup_epochs=1,
    ema=0.98,
)

"""CIFAR in minutes: one cycle of the learning rate.

Source: Smith and Topin, Super-Convergence, arXiv:1708.07120; Page, How to Train Your ResNet
(myrtle.ai, 2018) and its successors, which showed what can be left out.
Command: keras-resnets train --data keras:cifar10 --model ResNet20 --recipe cifar_fast
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="cifar_fast",
    model="ResNet20",
    image_size=32,
    crop_pct=1.0,
    augmentation=Augmentation(crop_scale=None, pad_crop=4),
    dropout=0.0,
    epochs=40,
    batch_size=128,
    learning_rate=0.2,
    reference_batch_size=128,
    nesterov=True,
    weight_decay=5e-4,
    schedule="cosine",
    warmup_epochs=8,
)

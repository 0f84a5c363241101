"""Residual networks of CIFAR's size.

Source: He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385, section 4.2.
Command: keras-resnets train --data tfds:cifar10 --model ResNet20 --recipe cifar
Reported there (table 6), test error on CIFAR-10: ResNet-20 8.75 %, ResNet-32 7.51 %, ResNet-44
7.17 %, ResNet-56 6.97 %, ResNet-110 6.43 % (the best of five).

64,000 steps of 128 images, the learning rate divided by 10 after 32,000 and 48,000: 164, 82 and 123
epochs of the 50,000 training images (the schedule was found on 45,000 of them). ResNet-110 starts
with a tenth of the learning rate, for 400 steps in the paper and for one epoch here, rising.

Departures: images are normalised with one mean and standard deviation a channel instead of the
per-pixel mean. Other batch sizes scale the learning rate linearly.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="cifar",
    model="ResNet20",
    by_model=(("resnet110", dict(warmup_epochs=1, warmup_factor=0.1)),),
    image_size=32,
    crop_pct=1.0,
    augmentation=Augmentation(crop_scale=None, pad_crop=4),
    epochs=164,
    batch_size=128,
    learning_rate=0.1,
    reference_batch_size=128,
    weight_decay=1e-4,
    schedule="steps",
    step_epochs=(82, 123),
)

"""The recipe of torchvision's second weights.

Source: Vryniotis, How to Train State-Of-The-Art Models Using TorchVision's Latest Primitives,
PyTorch's blog, November 2021, and torchvision's references/classification.
Command: keras-resnets train --data tfds:imagenet2012 --model ResNet50 --recipe torchvision_v2
Reported there, top-1 accuracy on ImageNet's validation set at 224: ResNet-50 80.858 %, ResNet-101
81.886 %, ResNet-152 82.284 %, ResNeXt-50 (32x4d) 81.198 %; for torchvision's weights of ResNeXt-101
(32x8d) 82.834 %. ResNet-101, ResNet-152 and ResNeXt-50 were trained at 224, without repeated
augmentation (here `--set image_size=224`); the other two at 176.

MixUp and CutMix are chosen batch by batch in both. The average of the weights is theirs: a momentum
of 1 - 0.00002 * 1024 * 32 / 600 every 32 steps.

Departures: there is no repeated augmentation (there an epoch is a quarter of the images, four crops
of each), because a batch without it is drawn from the whole epoch, whatever reads the images. The
average starts with the first step and forgets it soon; theirs starts after the warm-up. A transform
fills with gray in place of black what it looks for outside of the image.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="torchvision_v2",
    model="ResNet50",
    image_size=176,
    eval_image_size=224,
    crop_pct=224 / 232,
    augmentation=Augmentation(
        trivial_augment=True,
        random_erasing=0.1,
        erased_to="mean",
        mixup=0.2,
        cutmix=1.0,
        label_smoothing=0.1,
    ),
    epochs=600,
    batch_size=1024,
    learning_rate=0.5,
    reference_batch_size=1024,
    weight_decay=2e-5,
    warmup_epochs=5,
    warmup_factor=0.01,
    ema=1 - 0.00002 * 1024 * 32 / 600,
    ema_every=32,
)

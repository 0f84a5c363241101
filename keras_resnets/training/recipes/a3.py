"""Recipe A3 of "ResNet strikes back".

Source: Wightman et al., ResNet strikes back: An improved training procedure in timm,
arXiv:2110.00476, table 2, column A3, and timm, which trained it.
Command: keras-resnets train --data tfds:imagenet2012 --model ResNet50 --recipe a3
    --batch-size 512 --accumulate 4
Reported there: 78.1 % top-1 on ImageNet's validation set for ResNet-50 at 224, crop ratio 0.95.

Every class of a mixture is a target of its own (binary cross-entropy), however small its share:
timm's option for a threshold (`--bce-target-thresh`) is off by default, and others who repeated the
recipes set 0.2. The gradient's global norm is clipped at 1 by timm's LAMB, so it is here, though
table 2 lists no clipping. RandAugment is timm's `rand-m6-mstd0.5-inc1`, each operation applied with
probability a half.

Departures: the learning rate's cosine moves every step instead of every epoch, and ends at 0, in
timm at 1e-6.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="a3",
    model="ResNet50",
    image_size=160,
    eval_image_size=224,
    crop_pct=0.95,
    augmentation=Augmentation(
        rand_augment=(2, 6.0),
        rand_augment_std=0.5,
        rand_augment_form="timm_increasing",
        mixup=0.1,
        cutmix=1.0,
        hard_targets_above_zero=True,
    ),
    epochs=100,
    batch_size=2048,
    optimizer="lamb",
    learning_rate=8e-3,
    reference_batch_size=2048,
    weight_decay=0.02,
    clip_norm=1.0,
    loss="binary_cross_entropy",
    warmup_epochs=5,
)

"""CIFAR in less than an hour on two cores: one cycle of the learning rate.

Source: Smith and Topin, Super-Convergence, arXiv:1708.07120 (one cycle); its numbers are our own.
Command: keras-resnets train --data keras:cifar10 --model ResNet20 --recipe cifar_fast
Reaches: 88.98 % of CIFAR-10's 10,000 test images with ResNet-20 (seed 0, `--dtype bfloat16`, 51
minutes on two cores of an AMD EPYC beside other work; docs/runs/resnet20-cifar_fast.csv). That is
less than the 91.25 % that He et al. report after 164 epochs. The training error ends at 7.2 %, so
the network is not fitted yet: a smaller weight decay is the first thing to try.
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

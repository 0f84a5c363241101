"""Res2Net as in its paper.

Source: Gao et al., Res2Net: A New Multi-scale Backbone Architecture, arXiv:1904.01169, section 4.1,
and the authors' training script, res2net_pami/main.py of Res2Net/Res2Net-ImageNet-Training.
Command: keras-resnets train --data tfds:imagenet2012 --model Res2Net50_26w_4s --recipe res2net
Reported there, top-1 error on ImageNet's validation set with one crop of 224: Res2Net-50 (26w x 4s)
22.01 %, Res2Net-101 (26w x 4s) 20.81 %.

The learning rate is divided by 10 every 30 epochs. Images are cropped and flipped and nothing else;
labels are smoothed, which by the authors is worth 0.2 %. Other batch sizes scale the learning rate
linearly.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="res2net",
    model="Res2Net50_26w_4s",
    augmentation=Augmentation(label_smoothing=0.1),
    epochs=100,
    batch_size=256,
    learning_rate=0.1,
    reference_batch_size=256,
    weight_decay=1e-4,
    schedule="steps",
    step_epochs=(30, 60, 90),
)

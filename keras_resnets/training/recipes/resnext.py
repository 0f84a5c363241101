"""ResNeXt as in its paper.

Source: Xie et al., Aggregated Residual Transformations for Deep Neural Networks, arXiv:1611.05431,
section 4, and the authors' code, facebookresearch/ResNeXt, which is that of fb.resnet.torch: the
number of epochs, colour jitter, lighting and Nesterov's momentum stand there alone.
Command: keras-resnets train --data tfds:imagenet2012 --model ResNeXt50_32x4d --recipe resnext
Reported there, top-1 error on ImageNet's validation set with one crop of 224: ResNeXt-50 (32x4d)
22.2 %, ResNeXt-101 (32x4d) 21.2 %, ResNeXt-101 (64x4d) 20.4 %.

The learning rate is divided by 10 three times. Other batch sizes scale it linearly.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="resnext",
    model="ResNeXt50_32x4d",
    augmentation=Augmentation(color_jitter=0.4, pca_lighting=0.1),
    epochs=100,
    batch_size=256,
    learning_rate=0.1,
    reference_batch_size=256,
    weight_decay=1e-4,
    nesterov=True,
    schedule="steps",
    step_epochs=(30, 60, 90),
)

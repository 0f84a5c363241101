"""ResNet as in its paper.

Source: He et al., Deep Residual Learning for Image Recognition, arXiv:1512.03385, section 3.4.
Command: keras-resnets train --data tfds:imagenet2012 --model ResNet50 --recipe resnet
Reported there: top-1 error on ImageNet's validation set with ten crops (table 3): ResNet-34 B
24.52 %, ResNet-50 22.85 %, ResNet-101 21.75 %, ResNet-152 21.43 %.

Departures: the paper lowers the learning rate when the error stops falling and trains up to 600,000
steps of 256 images, which are 120 epochs; here it falls after 30, 60 and 90 of them. The paper
crops from images resized to a random side of 256 to 480; here the crop's area is random, which is
what later work compares with. Other batch sizes scale the learning rate linearly.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="resnet",
    model="ResNet50",
    augmentation=Augmentation(pca_lighting=0.1),
    epochs=120,
    batch_size=256,
    learning_rate=0.1,
    reference_batch_size=256,
    weight_decay=1e-4,
    schedule="steps",
    step_epochs=(30, 60, 90),
)

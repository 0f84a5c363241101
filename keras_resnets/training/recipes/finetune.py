"""Fine-tuning published weights on images of your own.

Source: ours, in the manner of Kornblith et al., Do Better ImageNet Models Transfer Better?,
arXiv:1805.08974, section 3.1.2 and appendix A.5: SGD with Nesterov's momentum, cosine decay, a
learning rate well below that of training from scratch.
Command: keras-resnets train --data folder:flowers --model ResNeSt50 --weights imagenet
    --recipe finetune --out runs/flowers
Reported: nothing for this setting; what it reaches depends on the images.

`--freeze layer2` keeps the first stages as they are, which helps where images are few.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="finetune",
    model="ResNet50",
    weights="imagenet",
    augmentation=Augmentation(crop_scale=(0.25, 1.0), color_jitter=0.2, label_smoothing=0.1),
    epochs=20,
    batch_size=64,
    learning_rate=0.01,
    reference_batch_size=64,
    weight_decay=1e-4,
    nesterov=True,
    warmup_epochs=1,
)

"""Fine-tuning published weights on images of your own.

Source: ours, in the manner of Kornblith et al., Do Better ImageNet Models Transfer Better?,
arXiv:1805.08974, who fine-tune by SGD with Nesterov's momentum and cosine decay. Its numbers are
ours; the learning rate is well below that of training from scratch.
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

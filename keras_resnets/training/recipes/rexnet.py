"""ReXNet as in its authors' repository.

Source: Han et al., Rethinking Channel Dimensions for Efficient Model Design, arXiv:2007.00992, and
the training command of clovaai/rexnet (timm's script: --opt sgd --lr 0.5 --weight-decay 1e-5, four
times 128 images, --epochs 400 --sched cosine --remode pixel --reprob 0.2 --drop 0.2
--aa rand-m9-mstd0.5).
Command: keras-resnets train --data tfds:imagenet2012 --model ReXNet100 --recipe rexnet
Reported there, top-1 accuracy on ImageNet's validation set at 224: ReXNet 1.0x 77.9 %, 1.3x 79.5 %,
1.5x 80.3 %, 2.0x 81.6 %, 3.0x 82.8 %.

RandAugment is timm's of that time, `rand-m9-mstd0.5`: some of its operations grow weaker with the
magnitude, and each is applied with probability a half. Stochastic depth is for the widths above
1.0, at the rate 0.2, which a reader quotes from the paper in issue 17 of the repository; its author
says there that 1.0x goes without. Five epochs of warm-up are the paper's.

Departures: the command's warm-up by timm's defaults takes three epochs from 1e-4, its cosine ends
at 1e-5, and ten epochs at that rate follow; here the cosine ends at 0 with the last epoch, as it
does in all recipes. Other batch sizes scale the learning rate linearly.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="rexnet",
    model="ReXNet100",
    by_model=(
        ("rexnet*_[123][3-9]0", dict(drop_path=0.2)),
        ("rexnet*_[23]00", dict(drop_path=0.2)),
    ),
    augmentation=Augmentation(
        rand_augment=(2, 9.0),
        rand_augment_std=0.5,
        rand_augment_form="timm",
        random_erasing=0.2,
        label_smoothing=0.1,
    ),
    epochs=400,
    batch_size=512,
    learning_rate=0.5,
    reference_batch_size=512,
    weight_decay=1e-5,
    nesterov=True,
    warmup_epochs=5,
    dropout=0.2,
)

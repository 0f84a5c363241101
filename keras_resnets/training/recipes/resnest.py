"""ResNeSt as in its paper and its authors' repository.

Source: Zhang et al., ResNeSt: Split-Attention Networks, arXiv:2004.08955, section 5, and
zhanghang1989/ResNeSt.
Command: keras-resnets train --data tfds:imagenet2012 --model ResNeSt50 --recipe resnest
    --batch-size 256 --dtype bfloat16
Reported there, top-1 accuracy on ImageNet's validation set (image size in brackets): ResNeSt-50
81.13 % (224), ResNeSt-101 82.83 % (256), ResNeSt-200 83.84 % (320), ResNeSt-269 84.54 % (416).

The last gamma of each block starts at zero: the builders do so. DropBlock's rate rises linearly
from 0, once an epoch here. The authors report that DropBlock brings about 0.2 %, and not always.
The paper's batch is 8,192 for ResNeSt-50 and less for the larger ones; the learning rate is 0.1 for
every 256 images.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="resnest",
    model="ResNeSt50",
    by_model=(
        ("resnest101e", dict(image_size=256, batch_size=4096)),
        ("resnest200e", dict(image_size=320, batch_size=2048)),
        ("resnest269e", dict(image_size=320, eval_image_size=416, batch_size=2048)),
    ),
    augmentation=Augmentation(
        auto_augment=True,
        color_jitter=0.4,
        pca_lighting=0.1,
        mixup=0.2,
        label_smoothing=0.1,
    ),
    epochs=270,
    batch_size=8192,
    learning_rate=0.1,
    reference_batch_size=256,
    weight_decay=1e-4,
    warmup_epochs=5,
    dropout=0.2,
    drop_block=0.1,
    ramp_drop_block=True,
)

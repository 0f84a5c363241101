"""ResNeSt as in its paper and its authors' repository.

Source: Zhang et al., ResNeSt: Split-Attention Networks, arXiv:2004.08955, sections 4.2 and 5.1,
and the authors' code: zhanghang1989/ResNeSt, and the commands in dmlc/web-data.
Command: keras-resnets train --data tfds:imagenet2012 --model ResNeSt50 --recipe resnest
    --batch-size 256 --dtype bfloat16
Reported, top-1 accuracy on ImageNet's validation set (size of the test images in brackets): in the
paper ResNeSt-50 81.13 % (224); in the repository, on PyTorch, ResNeSt-50 81.03 % (224), ResNeSt-101
82.83 % (256), ResNeSt-200 83.84 % (320), ResNeSt-269 84.54 % (416).

Training images are smaller than those of the test for all but ResNeSt-50, and the two largest are
tested on a crop of size / (size + 32). Dropout is theirs alone in the authors' code. The last gamma
of each block starts at zero: the builders do so. The paper's batch is 8,192 for ResNeSt-50 and less
for the larger ones; the learning rate is 0.1 for every 256 images.

Departures: DropBlock is timm's, once a block, in squares of 5 with a quarter of the rate and of 3
with all of it; the authors have it three times a block, in squares of 3, at the whole rate in both
of the last stages. Its rate is here epoch / (epochs - 1), counted from 0, and (epoch + 1) / epochs
there. The authors report that it brings about 0.2 %, and not always. AutoAugment acts on the
cropped and flipped image, so that only the crop has to be decoded; theirs on the whole photograph
before. From 320 pixels on they crop bicubically, at least a tenth of the area, with the height
drawn uniformly; here crops are alike for all.
"""

from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import Recipe

RECIPE = Recipe(
    name="resnest",
    model="ResNeSt50",
    by_model=(
        ("resnest101e", dict(eval_image_size=256, batch_size=4096)),
        (
            "resnest200e",
            dict(
                image_size=256,
                eval_image_size=320,
                crop_pct=320 / 352,
                batch_size=2048,
                dropout=0.2,
            ),
        ),
        (
            "resnest269e",
            dict(
                image_size=320,
                eval_image_size=416,
                crop_pct=416 / 448,
                batch_size=2048,
                dropout=0.2,
            ),
        ),
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
    nesterov=True,
    warmup_epochs=5,
    drop_block=0.1,
    ramp_drop_block=True,
)

"""Every number of the recipes beside its source, written by hand: a slip on either side shows.

A row holds all that a recipe changes for a model, and where each of it stands. What is not in a row
has the default of its field, so a number that is added to a recipe needs its line here, too. "ours"
is what the source does not have or have so; the recipe's docstring says why.
"""

import dataclasses

import pytest

from keras_resnets.training import augmentation, policies
from keras_resnets.training.augmentation import Augmentation
from keras_resnets.training.recipe import find_recipe, list_recipes

RSB = "arXiv:2110.00476, table 2"
TIMM = "huggingface/pytorch-image-models"
XIE = "facebookresearch/ResNeXt"
ZHANG = "zhanghang1989/ResNeSt"
LOGS = "dmlc/web-data, gluoncv/logs/classification/imagenet"
HAN = "clovaai/rexnet, training command"
BLOG = "PyTorch's blog, November 2021"
REFERENCES = "pytorch/vision, references/classification"

# ResNet strikes back: what A1, A2 and A3 share.
STRIKES_BACK = {
    "crop_pct": (0.95, f"{RSB}: test crop ratio"),
    "rand_augment_std": (0.5, f"{RSB}: 7 / 0.5, 7 / 0.5, 6 / 0.5"),
    "rand_augment_form": ("timm_increasing", f"{TIMM}: the `inc1` of rand-m7-mstd0.5-inc1"),
    "cutmix": (1.0, RSB),
    "hard_targets_above_zero": (True, f"{RSB}: BCE loss"),
    "batch_size": (2048, RSB),
    "reference_batch_size": (2048, RSB),
    "optimizer": ("lamb", RSB),
    "clip_norm": (1.0, f"{TIMM}, timm/optim/lamb.py: max_grad_norm; table 2 lists none"),
    "loss": ("binary_cross_entropy", RSB),
    "warmup_epochs": (5, RSB),
}
RESNEST = {
    "auto_augment": (True, "arXiv:2004.08955, section 4.2"),
    "color_jitter": (0.4, f"{ZHANG}, scripts/gluon/train.py: jitter_param"),
    "pca_lighting": (0.1, f"{ZHANG}, scripts/gluon/train.py: lighting_param"),
    "mixup": (0.2, "arXiv:2004.08955, section 4.2"),
    "label_smoothing": (0.1, "arXiv:2004.08955, section 4.2"),
    "epochs": (270, "arXiv:2004.08955, section 5.1"),
    "learning_rate": (0.1, "arXiv:2004.08955, section 4.2: B / 256 x 0.1"),
    "reference_batch_size": (256, "arXiv:2004.08955, section 4.2"),
    "weight_decay": (1e-4, "arXiv:2004.08955, section 5.1"),
    "nesterov": (True, f"{ZHANG}, scripts/gluon/train.py: optimizer nag"),
    "warmup_epochs": (5, "arXiv:2004.08955, section 4.2"),
    "drop_block": (0.1, f"{ZHANG}, resnest/gluon/resnet.py"),
    "ramp_drop_block": (True, f"{ZHANG}, scripts/gluon/train.py"),
}
REXNET = {
    "rand_augment": ((2, 9.0), f"{HAN}: --aa rand-m9-mstd0.5"),
    "rand_augment_std": (0.5, f"{HAN}: --aa rand-m9-mstd0.5"),
    "rand_augment_form": ("timm", f"{HAN}: --aa without inc1"),
    "random_erasing": (0.2, f"{HAN}: --reprob 0.2 --remode pixel"),
    "label_smoothing": (0.1, f"{TIMM}: the default of --smoothing"),
    "epochs": (400, f"{HAN}: --epochs 400"),
    "batch_size": (512, f"{HAN}: -b 128 on four GPUs"),
    "learning_rate": (0.5, f"{HAN}: --lr 0.5"),
    "reference_batch_size": (512, f"{HAN}: -b 128 on four GPUs"),
    "weight_decay": (1e-5, f"{HAN}: --weight-decay 1e-5"),
    "nesterov": (True, f"{TIMM}: --opt sgd is Nesterov's"),
    "warmup_epochs": (5, "arXiv:2007.00992, version 1"),
    "dropout": (0.2, f"{HAN}: --drop 0.2"),
}
LARGE_REXNET = {"drop_path": (0.2, "clovaai/rexnet, issue 17, quoting arXiv:2007.00992")}

# By recipe and timm's name of the model: field, its value, where that stands.
TABLE = {
    ("a1", "resnet50"): {
        **STRIKES_BACK,
        "rand_augment": ((2, 7.0), f"{RSB}, column A1"),
        "mixup": (0.2, f"{RSB}, column A1"),
        "label_smoothing": (0.1, f"{RSB}, column A1"),
        "epochs": (600, f"{RSB}, column A1"),
        "learning_rate": (5e-3, f"{RSB}, column A1"),
        "weight_decay": (0.01, f"{RSB}, column A1"),
        "drop_path": (0.05, f"{RSB}, column A1"),
    },
    ("a2", "resnet50"): {
        **STRIKES_BACK,
        "rand_augment": ((2, 7.0), f"{RSB}, column A2"),
        "mixup": (0.1, f"{RSB}, column A2"),
        "epochs": (300, f"{RSB}, column A2"),
        "learning_rate": (5e-3, f"{RSB}, column A2"),
        "weight_decay": (0.02, f"{RSB}, column A2"),
        "drop_path": (0.05, f"{RSB}, column A2"),
    },
    ("a3", "resnet50"): {
        **STRIKES_BACK,
        "image_size": (160, f"{RSB}, column A3: train resolution"),
        "eval_image_size": (224, f"{RSB}, column A3: test resolution"),
        "rand_augment": ((2, 6.0), f"{RSB}, column A3"),
        "mixup": (0.1, f"{RSB}, column A3"),
        "epochs": (100, f"{RSB}, column A3"),
        "learning_rate": (8e-3, f"{RSB}, column A3"),
        "weight_decay": (0.02, f"{RSB}, column A3"),
    },
    ("cifar", "resnet20"): {
        "image_size": (32, "arXiv:1512.03385, section 4.2"),
        "crop_pct": (1.0, 'arXiv:1512.03385, section 4.2: "the single view of the original image"'),
        "crop_scale": (None, "arXiv:1512.03385, section 4.2"),
        "pad_crop": (4, "arXiv:1512.03385, section 4.2: 4 pixels a side"),
        "epochs": (164, "arXiv:1512.03385, section 4.2: 64k steps of 128 of 50,000 images"),
        "batch_size": (128, "arXiv:1512.03385, section 4.2"),
        "learning_rate": (0.1, "arXiv:1512.03385, section 4.2"),
        "reference_batch_size": (128, "arXiv:1512.03385, section 4.2"),
        "weight_decay": (1e-4, "arXiv:1512.03385, section 4.2"),
        "schedule": ("steps", "arXiv:1512.03385, section 4.2"),
        "step_epochs": ((82, 123), "arXiv:1512.03385, section 4.2: after 32k and 48k steps"),
    },
    ("res2net", "res2net50_26w_4s"): {
        "label_smoothing": (0.1, "res2net_pami/main.py: CrossEntropyLabelSmooth(epsilon=0.1)"),
        "epochs": (100, "arXiv:1904.01169, section 4.1; res2net_pami/main.py: --epochs"),
        "batch_size": (256, "arXiv:1904.01169, section 4.1"),
        "learning_rate": (0.1, "arXiv:1904.01169, section 4.1"),
        "reference_batch_size": (256, "arXiv:1904.01169, section 4.1"),
        "weight_decay": (1e-4, "arXiv:1904.01169, section 4.1"),
        "schedule": ("steps", "res2net_pami/main.py: adjust_learning_rate"),
        "step_epochs": ((30, 60, 90), "res2net_pami/main.py: 0.1 ** (epoch // 30)"),
    },
    ("resnest", "resnest50d"): {
        **RESNEST,
        "batch_size": (8192, "arXiv:2004.08955, section 5.1"),
    },
    ("resnest", "resnest101e"): {
        **RESNEST,
        "eval_image_size": (256, f"{ZHANG}, README: crop size"),
        "batch_size": (4096, "arXiv:2004.08955, section 5.1"),
    },
    ("resnest", "resnest200e"): {
        **RESNEST,
        "image_size": (256, f"{LOGS}/resnest200.sh: --input-size 256"),
        "eval_image_size": (320, f"{ZHANG}, README: crop size"),
        "crop_pct": (320 / 352, f"{ZHANG}, scripts/torch/verify.py: size / (size + 32)"),
        "batch_size": (2048, "arXiv:2004.08955, section 5.1"),
        "dropout": (0.2, f"{ZHANG}, resnest/gluon/resnest.py: final_drop"),
    },
    ("resnest", "resnest269e"): {
        **RESNEST,
        "image_size": (320, f"{LOGS}/resnest269.sh: --input-size 320"),
        "eval_image_size": (416, f"{ZHANG}, README: crop size"),
        "crop_pct": (416 / 448, f"{ZHANG}, scripts/torch/verify.py: size / (size + 32)"),
        "batch_size": (2048, f"{LOGS}/resnest269.sh: 64 processes of 32 images"),
        "dropout": (0.2, f"{ZHANG}, resnest/gluon/resnest.py: final_drop"),
    },
    ("resnet", "resnet50"): {
        "pca_lighting": (
            0.1,
            "arXiv:1512.03385, section 3.4: the colours' augmentation of AlexNet",
        ),
        "epochs": (120, "arXiv:1512.03385, section 3.4: 600,000 steps of 256 images"),
        "batch_size": (256, "arXiv:1512.03385, section 3.4"),
        "learning_rate": (0.1, "arXiv:1512.03385, section 3.4"),
        "reference_batch_size": (256, "arXiv:1512.03385, section 3.4"),
        "weight_decay": (1e-4, "arXiv:1512.03385, section 3.4"),
        "schedule": ("steps", "arXiv:1512.03385, section 3.4"),
        "step_epochs": ((30, 60, 90), "ours; the paper waits for the error to stop falling"),
    },
    ("resnext", "resnext50_32x4d"): {
        "color_jitter": (0.4, f"{XIE}, datasets/imagenet.lua"),
        "pca_lighting": (0.1, f"{XIE}, datasets/imagenet.lua"),
        "epochs": (100, f"{XIE}, opts.lua: nEpochs"),
        "batch_size": (256, "arXiv:1611.05431, section 4"),
        "learning_rate": (0.1, "arXiv:1611.05431, section 4"),
        "reference_batch_size": (256, "arXiv:1611.05431, section 4"),
        "weight_decay": (1e-4, "arXiv:1611.05431, section 4"),
        "nesterov": (True, f"{XIE}, train.lua"),
        "schedule": ("steps", "arXiv:1611.05431, section 4"),
        "step_epochs": ((30, 60, 90), f"{XIE}, train.lua: 0.1 ^ floor((epoch - 1) / 30)"),
    },
    ("rexnet", "rexnet_100"): REXNET,
    ("rexnet", "rexnet_130"): REXNET | LARGE_REXNET,
    ("rexnet", "rexnet_150"): REXNET | LARGE_REXNET,
    ("rexnet", "rexnet_200"): REXNET | LARGE_REXNET,
    ("rexnet", "rexnet_300"): REXNET | LARGE_REXNET,
    ("torchvision_v2", "resnet50"): {
        "image_size": (176, f"{REFERENCES}, README: --train-crop-size 176"),
        "eval_image_size": (224, f"{REFERENCES}, README: the default of --val-crop-size"),
        "crop_pct": (224 / 232, f"{REFERENCES}, README: --val-resize-size 232"),
        "trivial_augment": (True, f"{REFERENCES}, README: --auto-augment ta_wide"),
        "random_erasing": (0.1, f"{REFERENCES}, README: --random-erase 0.1"),
        "erased_to": ("mean", "torchvision.transforms.RandomErasing: value=0, normalised"),
        "mixup": (0.2, f"{REFERENCES}, README: --mixup-alpha 0.2"),
        "cutmix": (1.0, f"{REFERENCES}, README: --cutmix-alpha 1.0"),
        "label_smoothing": (0.1, f"{REFERENCES}, README: --label-smoothing 0.1"),
        "epochs": (600, f"{REFERENCES}, README: --epochs 600"),
        "batch_size": (1024, f"{BLOG}: 8 GPUs, --batch-size 128"),
        "learning_rate": (0.5, f"{REFERENCES}, README: --lr 0.5"),
        "reference_batch_size": (1024, f"{BLOG}: 8 GPUs, --batch-size 128"),
        "weight_decay": (2e-5, f"{REFERENCES}, README: --weight-decay 0.00002"),
        "warmup_epochs": (5, f"{REFERENCES}, README: --lr-warmup-epochs 5"),
        "warmup_factor": (0.01, f"{REFERENCES}, README: --lr-warmup-decay 0.01"),
        "ema": (1 - 0.00002 * 1024 * 32 / 600, f"{REFERENCES}, train.py: model_ema_decay"),
        "ema_every": (32, f"{REFERENCES}, README: --model-ema-steps 32"),
    },
}
TABLE["cifar", "resnet110"] = TABLE["cifar", "resnet20"] | {
    "warmup_epochs": (1, "ours; 400 steps in arXiv:1512.03385, section 4.2"),
    "warmup_factor": (0.1, "arXiv:1512.03385, section 4.2: 0.01 of 0.1"),
}
# Their numbers are "our own", so that there is nothing to compare.
OURS = {"quick", "finetune", "cifar_fast"}


@pytest.mark.parametrize(("name", "model"), TABLE, ids=" ".join)
def test_a_recipe_has_the_numbers_of_its_source_and_no_others(name, model):
    recipe = find_recipe(name).for_model(model)
    found = changed(recipe, {"name", "model", "by_model", "augmentation"})
    found |= changed(recipe.augmentation, set())
    assert found == {field: value for field, (value, _) in TABLE[name, model].items()}


def changed(settings, without: set[str]) -> dict:
    """The fields that do not have their default."""
    return {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name not in without
        and field.default_factory is dataclasses.MISSING
        and getattr(settings, field.name) != field.default
    }


def test_every_recipe_of_a_source_is_in_the_table_with_all_that_differs_by_model():
    assert {name for name, _ in TABLE} == set(list_recipes()) - OURS
    for name in {name for name, _ in TABLE}:
        models = [model for recipe, model in TABLE if recipe == name]
        for _, changes in find_recipe(name).by_model:
            chosen = [find_recipe(name).for_model(model) for model in models]
            assert dataclasses.replace(find_recipe(name), **changes) in chosen


def test_defaults_that_the_sources_share_are_as_they_are():
    """The table leaves them out: 224 pixels, a crop of 0.875, momentum 0.9, a tenth a step."""
    recipe = find_recipe("resnet")
    defaults = (recipe.image_size, recipe.crop_pct, recipe.momentum, recipe.step_factor)
    assert defaults == (224, 0.875, 0.9, 0.1)
    assert (recipe.optimizer, recipe.schedule, recipe.batch_scaling) == ("sgd", "steps", "linear")
    assert find_recipe("rexnet").schedule == "cosine"
    assert (Augmentation().crop_scale, Augmentation().crop_ratio) == ((0.08, 1.0), (3 / 4, 4 / 3))


# timm/data/auto_augment.py, _RAND_TRANSFORMS: the names of what it draws from.
TIMMS = (
    "AutoContrast Equalize Invert Rotate Posterize Solarize SolarizeAdd Color Contrast Brightness "
    "Sharpness ShearX ShearY TranslateX TranslateY"
)
# torchvision/transforms/autoaugment.py, RandAugment and TrivialAugmentWide.
TORCHVISIONS = (
    "Identity ShearX ShearY TranslateX TranslateY Rotate Brightness Color Contrast Sharpness "
    "Posterize Solarize AutoContrast Equalize"
)


def test_what_rand_augment_draws_from_and_how_often_it_applies_it_are_the_sources():
    forms = policies.RAND_AUGMENT_FORMS
    assert tuple(forms) == augmentation.RAND_AUGMENT_FORMS
    assert {form: probability for form, (_, probability) in forms.items()} == {
        "paper": 1.0,
        "timm": 0.5,
        "timm_increasing": 0.5,
    }
    for form, names in {"paper": TORCHVISIONS, "timm": TIMMS, "timm_increasing": TIMMS}.items():
        assert set(forms[form][0]) == set(names.split()), form
    assert set(policies.TRIVIAL_AUGMENT) == set(TORCHVISIONS.split())

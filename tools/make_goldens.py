"""Write the reference values in `tests/goldens`, computed by PyTorch.

    pip install torch==2.13.0 timm==1.0.31
    pip install --no-deps torchvision==0.28.0
    python tools/make_goldens.py

`architectures.json.gz` describes every variant; `parity.npz` and `parity.json.gz` hold the outputs
of the networks in `tests/nets.py`, filled by `tests/deterministic.py`. Their layouts:

    architectures.json.gz
        {variant: {"source": text, "params": int, "macs": int, "input": 224 or 32,
                   "state": {path: shape}}}
    parity.json.gz
        {"versions": {package: release},
         "cases": {case: {"state": {path: shape},
                          "sizes": {"97x97x3": {"P1": {"shape": [N, H, W, C], "max": float}, ...,
                                                "logits": {"shape": [N, classes], "max": float}}}}}}
    parity.npz
        "case/97x97x3/logits": the logits (N, classes)
        "case/97x97x3/P1": the level's values at `sample_positions((N, H, W, C))`
    Values are float32, of whole variants float64: they were computed in it.

A path is a key of PyTorch's state dict and its shape is PyTorch's; "max" is the largest absolute
value; a size is height x width x batch. Multiply-accumulates are those of convolutions and linear
layers for one image of the stated size.
"""

import argparse
import fnmatch
import gzip
import importlib.metadata
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

PINNED = {"torch": "2.13.0", "timm": "1.0.31"}
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))


try:
    import timm
except RuntimeError as error:
    # Torchvision cannot be imported without its compiled operators, and a wheel made for another
    # kind of torch (CPU, CUDA) does not load them. No network here runs one: signatures are enough.
    if "torchvision::" not in str(error):
        raise
    _OPERATORS = torch.library.Library("torchvision", "DEF")  # gone when the object is
    for _name in ("nms", "qnms"):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import timm

from deterministic import random_images, random_state, sample_positions  # noqa: E402
from nets import CASES, Case, size_key  # noqa: E402
from reference_nets import (  # noqa: E402
    REFERENCES,
    Reference,
    use_small_rexnet_stem,
    use_small_stem,
)
from safetensors.torch import load_file  # noqa: E402
from timm.layers import AttentionPool2d, SEModule, StdConv2d  # noqa: E402
from timm.models import byobnet  # noqa: E402
from timm.models.resnetv2 import ResNetV2  # noqa: E402
from timm.models.rexnet import RexNet  # noqa: E402

from keras_resnets.weights import published  # noqa: E402

TIMM_VARIANTS = """
    resnet10t resnet14t resnet18 resnet18d resnet26 resnet26d resnet26t resnet34 resnet34d
    resnet50 resnet50c resnet50d resnet50s resnet50t resnet101 resnet101c resnet101d resnet101s
    resnet152 resnet152c resnet152d resnet152s resnet200 resnet200d
    wide_resnet50_2 wide_resnet101_2
    seresnet18 seresnet34 seresnet50 seresnet50t seresnet101 seresnet152 seresnet152d seresnet200d
    seresnet269d
    ecaresnet26t ecaresnet50d ecaresnet50t ecaresnet101d ecaresnet200d ecaresnet269d ecaresnetlight
    resnetaa34d resnetaa50 resnetaa50d resnetaa101d
    resnetblur18 resnetblur50 resnetblur50d resnetblur101d
    resnetrs50 resnetrs101 resnetrs152 resnetrs200 resnetrs270 resnetrs350 resnetrs420
    resnet50_gn ecaresnet50d_pruned ecaresnet101d_pruned
    resnetv2_18 resnetv2_18d resnetv2_34 resnetv2_34d resnetv2_50 resnetv2_50d resnetv2_50t
    resnetv2_50d_gn resnetv2_101 resnetv2_101d resnetv2_152 resnetv2_152d
    resnetv2_50x1_bit resnetv2_50x3_bit resnetv2_101x1_bit resnetv2_101x3_bit resnetv2_152x2_bit
    resnetv2_152x4_bit
    skresnet18 skresnet34 skresnet50 skresnet50d skresnext50_32x4d
    resnet32ts resnet33ts resnet51q resnet61q resnext26ts seresnet33ts seresnext26ts resnet50_mlp
    resnet50_clip resnet101_clip resnet50x4_clip resnet50x16_clip resnet50x64_clip
    resnet50_clip_gap resnet101_clip_gap resnet50x4_clip_gap resnet50x16_clip_gap
    resnet50x64_clip_gap
    resnext50_32x4d resnext50d_32x4d resnext101_32x4d resnext101_32x8d resnext101_32x16d
    resnext101_32x32d resnext101_64x4d
    seresnext26d_32x4d seresnext26t_32x4d seresnext50_32x4d seresnext101_32x4d seresnext101_32x8d
    seresnext101_64x4d seresnext101d_32x8d
    ecaresnext26t_32x4d ecaresnext50t_32x4d
    resnest14d resnest26d resnest50d resnest101e resnest200e resnest269e resnest50d_4s2x40d
    resnest50d_1s4x24d
    res2net50_14w_8s res2net50_26w_4s res2net50_26w_6s res2net50_26w_8s res2net50_48w_2s res2net50d
    res2net101_26w_4s res2net101d res2next50
    rexnet_100 rexnet_130 rexnet_150 rexnet_200 rexnet_300
    rexnetr_100 rexnetr_130 rexnetr_150 rexnetr_200 rexnetr_300
""".split()

# Our names for what timm names otherwise; names on neither list are the same on both sides.
TIMM_NAMES = {
    "depths": "layers",
    "planes": "channels",
    "width": "width_mult",
    "depth": "depth_mult",
    "initial_channels": "initial_chs",
    "final_channels": "final_chs",
    "divisor": "ch_div",
    "act": "act_layer",
    "classes": "num_classes",
    "input_channels": "in_chans",
}
# Fields that timm takes inside `block_args`, which a case spells out, or does not know at all.
NOT_FOR_TIMM = {
    *("radix", "avd_first", "scale", "small_inputs", "residual", "grid"),
    *("split_input", "fused_ratio", "fused_divisor"),
}

Shapes = dict[str, list[int]]


def timm_keywords(case: Case) -> dict[str, Any]:
    """Translate a case's changes into keywords of `timm.create_model`."""
    given = {**case.changes, **case.build}
    if case.variant in byobnet.model_cfgs:
        given = with_byobnet_stages(case.variant, given)
    elif case.variant.startswith("resnetv2"):
        given = with_resnetv2_widths(case.variant, given)
    keywords = {
        TIMM_NAMES.get(name, name): value
        for name, value in given.items()
        if name not in NOT_FOR_TIMM
    }
    if "attention_ratio" in keywords:
        attention = partial(SEModule, rd_ratio=keywords.pop("attention_ratio"))
        keywords["block_args"] = dict(attn_layer=attention)
    return keywords | dict(case.timm)


def with_byobnet_stages(variant: str, given: dict[str, Any]) -> dict[str, Any]:
    """The changes of a case with its depths and planes put into ByobNet's own list of stages."""
    given = dict(given)
    if "planes" not in given:
        return given
    config = byobnet.model_cfgs[variant]
    depths, planes = given.pop("depths"), given.pop("planes")
    stages = [
        replace(stage, d=depth, c=int(width / (stage.br if stage.type == "bottle" else 1)))
        for stage, depth, width in zip(config.blocks, depths, planes, strict=True)
    ]
    if "attention_ratio" in given:
        given["attn_kwargs"] = dict(rd_ratio=given.pop("attention_ratio"))
    names = {"features": "num_features", "hidden": "head_hidden_size"}
    return {names.get(key, key): value for key, value in given.items()} | {"blocks": stages}


def with_resnetv2_widths(variant: str, given: dict[str, Any]) -> dict[str, Any]:
    """The changes of a case with the widths that ResNetV2 has: those of the blocks' outputs."""
    given = dict(given)
    if "planes" not in given:
        return given
    basic = variant.removesuffix("d") in ("resnetv2_18", "resnetv2_34")
    given["planes"] = [planes * (1 if basic else 4) for planes in given["planes"]]
    if "stem_width" in given:
        deep = variant.removesuffix("_gn").endswith(("d", "t"))
        given["stem_chs"] = given.pop("stem_width") * (2 if deep else 1)
    return given


def create_torch_model(case: Case) -> nn.Module:
    """Build a case's PyTorch network, edited where timm has no option for what ours does."""
    if case.reference:
        return REFERENCES[case.variant].create(**case.timm)
    keywords = timm_keywords(case)
    if case.variant.endswith("_bit") and case.changes:
        # timm's builder fixes the depths, so this is what it does beside that.
        standardized = partial(StdConv2d, eps=1e-8)
        model = ResNetV2(stem_type="fixed", conv_layer=standardized, **keywords)
    else:
        model = timm.create_model(case.variant, **keywords)
    if case.changes.get("small_inputs", False):
        remove_first_strides(model)
    if not case.changes.get("residual", True):
        remove_shortcuts(model)
    return model


def remove_first_strides(model: nn.Module) -> None:
    """Make the network four times finer: the strides of its stem, in ReXNet of stem and block 1."""
    if isinstance(model, ResNetV2 | byobnet.ByobNet):
        stem = model.stem
        first = stem.conv1 if hasattr(stem, "conv1") else stem.conv
        if hasattr(stem, "conv"):
            stem.conv = nn.Conv2d(3, first.out_channels, 3, padding=1, bias=False)
        else:
            getattr(first, "conv", first).stride = (1, 1)
        stem.pool = nn.Identity()
        return
    if not isinstance(model, RexNet):
        use_small_stem(model)
        return
    use_small_rexnet_stem(model)


class Nothing(nn.Module):
    """A shortcut that adds zero."""

    def forward(self, x: torch.Tensor) -> float:
        return 0.0


def remove_shortcuts(model: nn.Module) -> None:
    """Leave the residual branches alone: no additions, no projections."""
    for module in model.modules():
        if hasattr(module, "downsample"):
            module.downsample = Nothing()
        if isinstance(module, byobnet.BottleneckBlock):
            module.shortcut = Nothing()
        if hasattr(module, "use_shortcut"):
            module.use_shortcut = False


def state_shapes(model: nn.Module) -> Shapes:
    """Return the shape of every stored tensor except the batch counters."""
    return {
        path: list(tensor.shape)
        for path, tensor in model.state_dict().items()
        if not path.endswith("num_batches_tracked")
    }


def fill(model: nn.Module, shapes: Shapes) -> None:
    """Set every tensor to its deterministic value."""
    tensors = {path: torch.from_numpy(array) for path, array in random_state(shapes).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    if unexpected or any(not path.endswith("num_batches_tracked") for path in missing):
        raise RuntimeError(f"the state does not fit: {missing}, {unexpected}.")


def pyramid_modules(model: nn.Module) -> list[nn.Module]:
    """Return the modules whose outputs are P1, P2, ...: the last ones at each resolution."""
    if isinstance(model, ResNetV2 | byobnet.ByobNet):
        return [model.get_submodule(info["module"]) for info in model.feature_info]
    if hasattr(model, "stage_ends"):
        return [model.features[index] for index in model.stage_ends]
    stem = model.act1 if hasattr(model, "act1") else model.conv1
    stages = [getattr(model, f"layer{number}", None) for number in (1, 2, 3, 4)]
    return [stem, *(stage for stage in stages if isinstance(stage, nn.Sequential))]


@torch.inference_mode()
def run(model: nn.Module, images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the pyramid levels (NHWC) and the logits for NHWC images."""
    levels: dict[str, np.ndarray] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        # A copy: timm's activations overwrite their input, which may be this very tensor.
        levels[name] = output.permute(0, 2, 3, 1).contiguous().clone().numpy()

    handles = [
        module.register_forward_hook(partial(keep, f"P{number}"))
        for number, module in enumerate(pyramid_modules(model), start=1)
    ]
    logits = model(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous())
    for handle in handles:
        handle.remove()
    return {**levels, "logits": logits.numpy()}


def parity(case: Case) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Run a case at all its sizes; return its record and its arrays."""
    model = create_torch_model(case).eval()
    shapes = state_shapes(model)
    fill(model, shapes)
    dtype = "float64" if case.float64 else "float32"
    model.to(getattr(torch, dtype))
    record: dict[str, Any] = {"state": shapes, "sizes": {}}
    arrays: dict[str, np.ndarray] = {}
    for size in case.sizes:
        height, width, batch = size
        images = random_images(height, width, case.input_channels, batch)
        outputs = run(model, images.astype(dtype))
        sizes = record["sizes"][size_key(size)] = {}
        for name, values in outputs.items():
            largest = float(np.abs(values).max())
            if not 1e-2 < largest < 1e4:  # also false for NaN
                raise RuntimeError(f"{case.name} at {size}: {name} reaches {largest}.")
            sizes[name] = {"shape": list(values.shape), "max": largest}
            if name != "logits":
                values = values.ravel()[sample_positions(values.shape)]
            arrays[f"{case.name}/{size_key(size)}/{name}"] = values
    return record, arrays


def bundled() -> dict[str, np.ndarray]:
    """The logits of the weights that are in the package, for images of their size."""
    values = {}
    rows = [row for tags in published.table().values() for row in tags.values() if row.bundled]
    for row in rows:
        model = REFERENCES[row.architecture].create().eval()
        tensors = {key: tensor.float() for key, tensor in load_file(row.bundled).items()}
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        if unexpected or any(not path.endswith("num_batches_tracked") for path in missing):
            raise RuntimeError(f"{row.name} does not fit: {missing}, {unexpected}.")
        values[row.name] = run(model, random_images(*row.input_size, batch=4))["logits"]
    return values


def count_macs(model: nn.Module, size: int) -> int:
    """Count the multiply-accumulates of convolutions and linear layers for one square image.

    Of attention pooling only what reaches its output: timm's asks for every position, and throws
    away what all but the mean get.
    """
    total = 0
    pools = [module for module in model.modules() if isinstance(module, AttentionPool2d)]
    once = [layer for pool in pools for layer in (pool.q, pool.proj)]

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        # Of a convolution (N, C, H, W), of a linear layer (N, C) or tokens (N, T, C).
        shape = output[0, 0].shape if isinstance(module, nn.Conv2d) else output[0].shape[:-1]
        total += module.weight.numel() * (1 if module in once else shape.numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        model(torch.empty(1, 3, size, size, device="meta"))
    return total


def architecture(name: str) -> dict[str, Any]:
    """Describe a variant; the network is built without memory for its weights."""
    of_timm = Reference(f"timm {PINNED['timm']}", partial(timm.create_model, name))
    size = timm.models.get_pretrained_cfg(name).input_size[1] if "_clip" in name else 224
    reference = REFERENCES.get(name, of_timm._replace(input_size=size))
    with torch.device("meta"):
        model = reference.create().eval()
    return {
        "source": reference.source,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "macs": count_macs(model, reference.input_size),
        "input": reference.input_size,
        "state": state_shapes(model),
    }


def write_json(path: Path, content: Any) -> None:
    """Write gzipped JSON whose bytes depend on the content only."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def check_versions() -> None:
    """Refuse any release but the pinned ones: the values would be another reference."""
    for package, pinned in PINNED.items():
        installed = importlib.metadata.version(package).partition("+")[0]
        if installed != pinned:
            raise SystemExit(f"{package} must be {pinned}. Installed: {installed}.")


def merged(path: Path, keep: bool) -> dict[str, Any]:
    """What a file of goldens holds, or nothing."""
    return json.loads(gzip.decompress(path.read_bytes())) if keep else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, default=ROOT / "tests" / "goldens")
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="PATTERN",
        help="Variants and cases to compute, such as 'ecaresnet*'; the others stay as they are.",
    )
    arguments = parser.parse_args()
    output, patterns = arguments.output, arguments.only or ["*"]
    check_versions()
    # One thread and deterministic kernels: sums are added up in the same order in every run.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    output.mkdir(parents=True, exist_ok=True)

    def chosen(names: Iterable[str]) -> list[str]:
        return [n for n in names if any(fnmatch.fnmatchcase(n, pattern) for pattern in patterns)]

    keep = arguments.only is not None
    every = (*TIMM_VARIANTS, *REFERENCES)
    path = output / "architectures.json.gz"
    architectures = merged(path, keep) | {name: architecture(name) for name in chosen(every)}
    write_json(path, {name: architectures[name] for name in every})
    print(f"{len(every)} architectures")

    path = output / "parity.json.gz"
    records = merged(path, keep).get("cases", {})
    arrays = dict(np.load(output / "parity.npz")) if keep else {}
    for name in chosen(CASES):
        records[name], values = parity(CASES[name])
        arrays = {key: old for key, old in arrays.items() if not key.startswith(f"{name}/")}
        arrays |= values
        sizes = records[name]["sizes"].values()
        largest = max(entry["max"] for levels in sizes for entry in levels.values())
        print(f"{name}: largest value {largest:.3g}", flush=True)
    write_json(path, {"versions": PINNED, "cases": {name: records[name] for name in CASES}})
    known = {key: value for key, value in arrays.items() if key.split("/")[0] in CASES}
    np.savez_compressed(output / "parity.npz", **known)
    np.savez_compressed(output / "bundled.npz", **bundled())


if __name__ == "__main__":
    main()

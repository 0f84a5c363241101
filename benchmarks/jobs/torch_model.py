"""timm's models on PyTorch, in memory format channels_last: a training step and inference."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import nn

# timm imports torchvision, whose wheel for another kind of torch (CPU, CUDA) does not load its
# operators. No network here runs one: signatures are enough to import it.
_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    if not hasattr(torch.ops.torchvision, _name):
        _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import timm  # noqa: E402

torch.set_num_threads(int(os.environ["BENCHMARK_THREADS"]))


def training_step(
    variant: str, size: int, batch: int, dtype: str, compiled: bool
) -> Callable[[], None]:
    """Prepares a step: forward, loss, backward, SGD with momentum (PyTorch's fused one).

    Args:
        variant: name of the network in timm.
        size: height and width of the images.
        batch: images a step.
        dtype: `"float32"`, or `"bfloat16"` for autocast.
        compiled: whether `torch.compile` compiles the model.
    """
    model = create(variant).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, fused=True)
    run = torch.compile(model) if compiled else model
    images = random_images(size, batch)
    labels = torch.arange(batch) % 1000

    def step() -> None:
        optimizer.zero_grad()
        with autocast(dtype):
            loss = nn.functional.cross_entropy(run(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def inference(
    variant: str, size: int, batch: int, dtype: str, compiled: bool, frozen: bool = False
) -> Callable[[], None]:
    """Prepares inference, from images to logits; the arguments are those above.

    Args:
        frozen: whether TorchScript folds batch norms and optimises: `torch.jit.freeze` and
            `torch.jit.optimize_for_inference`.
    """
    model = create(variant).eval()
    images = random_images(size, batch)
    if frozen:
        with torch.inference_mode():
            model = torch.jit.optimize_for_inference(
                torch.jit.freeze(torch.jit.trace(model, images))
            )
    run = torch.compile(model) if compiled else model

    def call() -> None:
        with torch.inference_mode(), autocast(dtype):
            run(images)

    return call


def create(variant: str) -> nn.Module:
    return timm.create_model(variant).to(memory_format=torch.channels_last)


def random_images(size: int, batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)


def autocast(dtype: str) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16")

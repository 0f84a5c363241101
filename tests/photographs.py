"""The photographs of the preprocessing tests, and the configurations they are tested in."""

from typing import Any

import numpy as np
import skimage.data

# They lie in scikit-image's wheel, so nothing is downloaded.
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea")
CONFIGS: tuple[dict[str, Any], ...] = (
    dict(size=(224, 224), crop_pct=0.875, interpolation="bilinear"),
    dict(size=(224, 224), crop_pct=0.95, interpolation="bicubic"),
    dict(size=(288, 288), crop_pct=1.0, interpolation="bicubic"),
    dict(size=(192, 256), crop_pct=0.9, interpolation="bicubic"),
)
SAMPLES = 2048


def photograph(name: str) -> np.ndarray:
    """uint8 RGB (height, width, 3)."""
    return np.asarray(getattr(skimage.data, name)())


def config_key(config: dict[str, Any]) -> str:
    """The text under which the goldens of a configuration are stored: "bicubic-224x224-0.95"."""
    height, width = config["size"]
    return f"{config['interpolation']}-{height}x{width}-{config['crop_pct']}"

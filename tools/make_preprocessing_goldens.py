"""Write `tests/goldens/preprocessing.npz`: photographs as timm's evaluation transform makes them.

    pip install torch==2.13.0 timm==1.0.31 scikit-image
    pip install --no-deps torchvision==0.28.0
    python tools/make_preprocessing_goldens.py

Its layout:

    "astronaut": CRC-32 of the photograph's bytes, uint32 ()
    "astronaut/bicubic-224x224-0.95": the transform's float32 values, (height, width, 3) flattened,
                                      at `sample_positions((height, width, 3), SAMPLES)`

The photographs come with scikit-image as PNG files, which every decoder reads alike.
"""

import sys
from pathlib import Path
from zlib import crc32

import numpy as np
from make_goldens import ROOT, check_versions, timm
from PIL import Image

sys.path.insert(0, str(ROOT / "tests"))

from deterministic import sample_positions
from photographs import CONFIGS, PHOTOGRAPHS, SAMPLES, config_key, photograph


def timm_values(image: np.ndarray, size: tuple[int, int], crop_pct: float, interpolation: str):
    """What timm makes of an RGB image in evaluation: float32 (height, width, 3)."""
    transform = timm.data.create_transform(
        (3, *size), is_training=False, interpolation=interpolation, crop_pct=crop_pct
    )
    return transform(Image.fromarray(image)).permute(1, 2, 0).numpy()


def main() -> None:
    check_versions()
    arrays = {}
    for name in PHOTOGRAPHS:
        image = photograph(name)
        arrays[name] = np.uint32(crc32(image.tobytes()))
        for config in CONFIGS:
            values = timm_values(image, **config)
            positions = sample_positions(values.shape, SAMPLES)
            arrays[f"{name}/{config_key(config)}"] = values.ravel()[positions]
    path: Path = ROOT / "tests" / "goldens" / "preprocessing.npz"
    np.savez_compressed(path, **arrays)
    print(f"{path.name}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()

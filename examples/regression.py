"""Regression: a network that tells by how many degrees a digit is turned.

    pip install "keras-resnets[tensorflow]" scikit-learn
    python examples/regression.py

Recipes, `keras-resnets train` and its reports are for classes. A number instead of a class is one
output without an activation and the `fit` that you know: nothing else differs. The images are
scikit-learn's digits, 8x8 pixels each, turned at random by at most 45 degrees; the network never
saw the digits that it is measured on. It takes less than a minute on two cores.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # The progress bar, not TensorFlow's notes.

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import keras_resnets as kr

SIZE = 24
MOST = 45.0  # Degrees.
TRAINING = 1400  # Of 1,797 digits.


def turned_digits(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Digits as uint8 images (n, 24, 24, 1) and by how many degrees each is turned, (n,)."""
    scans = np.rint(load_digits().images * (255 / 16)).astype("uint8")
    angles = np.random.default_rng(seed).uniform(-MOST, MOST, len(scans)).astype("float32")
    images = [
        Image.fromarray(scan)
        .resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        .rotate(float(angle), Image.Resampling.BILINEAR)
        for scan, angle in zip(scans, angles, strict=True)
    ]
    return np.stack(images)[..., None], angles


def build_model(steps: int) -> keras.Model:
    """A small residual network of one output, which no activation bends."""
    model = kr.ResNet20(
        weights=None,
        input_shape=(SIZE, SIZE, 1),
        classes=1,
        classifier_activation=None,
        planes=(16, 32, 64),
        depths=(1, 1, 1),
    )
    model.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        loss="huber",  # As the squared error near 0; far off, one image does not outweigh the rest.
        metrics=[keras.metrics.MeanAbsoluteError(name="error")],
    )
    return model


def main(epochs: int = 15, batch_size: int = 32) -> tuple[float, float]:
    """Trains and measures.

    Returns:
        The mean error in degrees on digits that were not trained on, and that of who always says
        the mean of the angles that were.
    """
    keras.utils.set_random_seed(0)
    images, angles = turned_digits()
    # What goes in and what comes out are of the order of 1: so are the weights that a network
    # begins with.
    inputs, targets = images.astype("float32") / 255 - 0.5, angles / MOST
    model = build_model(steps=epochs * (TRAINING // batch_size))
    model.fit(
        inputs[:TRAINING], targets[:TRAINING], epochs=epochs, batch_size=batch_size, verbose=2
    )
    predicted = MOST * model.predict(inputs[TRAINING:], verbose=0)[:, 0]
    error = float(np.abs(predicted - angles[TRAINING:]).mean())
    of_the_mean = float(np.abs(angles[:TRAINING].mean() - angles[TRAINING:]).mean())
    print(f"mean error {error:.1f} degrees; always the mean angle: {of_the_mean:.1f} degrees")
    return error, of_the_mean


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=15)
    main(parser.parse_args().epochs)

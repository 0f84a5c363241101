"""Train a small ResNeSt on real images, save it in three formats, and prove that each works.

    make demo                               (installs what this needs, then runs it)
    python examples/quickstart.py --out demo

The images are scikit-learn's digits: 1,797 scans of handwritten digits, 8x8 pixels each. At the end
the output folder holds the model (`.keras`, SavedModel, LiteRT) and `demo.png`, and the last lines
printed are the accuracy on images that the model never saw and how far the reloaded models' outputs
are from its own.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # The progress bar, not TensorFlow's notes.

import keras
import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_resnets as kr

matplotlib.use("Agg")
import matplotlib.pyplot as plt

EPOCHS = 15
BATCH = 64


def load_images() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Digits as float images (n, 32, 32, 1) from 0 to 1, in a fixed split: 1,437 and 360."""
    digits = load_digits()
    small = (digits.images[..., None] / 16).astype("float32")
    images = keras.ops.convert_to_numpy(keras.ops.image.resize(small, (32, 32), "bilinear"))
    return train_test_split(
        images, digits.target, test_size=0.2, stratify=digits.target, random_state=0
    )


def build_model(steps: int) -> keras.Model:
    """A ResNeSt of three stages, a block each, a quarter as wide as ResNeSt-50."""
    # Any field of a variant can be changed in the call. `small_inputs` is the CIFAR stem: 3x3
    # convolutions at full resolution and no max-pool, because 32 pixels are few to begin with.
    model = kr.ResNeSt50(
        weights=None,
        input_shape=(32, 32, 1),
        classes=10,
        depths=(1, 1, 1),
        planes=(16, 32, 64),
        stem_width=8,
        small_inputs=True,
        drop_path=0.1,
        name="small_resnest",
    )
    model.compile(
        optimizer=keras.optimizers.SGD(
            keras.optimizers.schedules.CosineDecay(
                0.0, steps, warmup_target=0.1, warmup_steps=steps // 10
            ),
            momentum=0.9,
            nesterov=True,
            weight_decay=5e-4,
        ),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def training_images(images: np.ndarray, labels: np.ndarray):
    """Batches in which every image is shifted and turned a little, differently in every epoch."""
    import tensorflow as tf

    augment = keras.Sequential(
        [
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant", seed=1),
            keras.layers.RandomRotation(0.03, fill_mode="constant", seed=2),
        ]
    )
    return (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .shuffle(len(images), seed=0)
        .batch(BATCH, drop_remainder=True)
        .map(lambda x, y: (augment(x, training=True), y), num_parallel_calls=1)
        .prefetch(2)
    )


# What a fresh process does with each file. Only the first needs this package.
RELOAD = {
    "keras": """
import keras, keras_resnets
outputs = keras.models.load_model(path).predict(images, verbose=0)
""",
    "saved_model": """
import tensorflow as tf
model = tf.saved_model.load(path)
outputs = model.serve(images).numpy()
""",
    "litert": """
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(path)
interpreter.allocate_tensors()
input, output = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
outputs = []
for image in images:
    interpreter.set_tensor(input["index"], image[None])
    interpreter.invoke()
    outputs.append(interpreter.get_tensor(output["index"])[0])
""",
}


def outputs_in_a_fresh_process(kind: str, path: Path, images: Path) -> np.ndarray:
    """Loads a saved model in a new interpreter and returns its outputs for the images."""
    result = images.with_name(f"{kind}.npy")
    code = f"""
import sys
import numpy as np
path, images = sys.argv[1], np.load(sys.argv[2])
{RELOAD[kind]}
np.save(sys.argv[3], np.asarray(outputs))
"""
    arguments = [sys.executable, "-c", code, str(path), str(images), str(result)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the {kind} model at {path} did not reload:\n{done.stderr}")
    return np.load(result)


def draw(history: dict, images, labels, probabilities, path: Path) -> None:
    """One picture: the learning curves and test images with their predictions."""
    figure = plt.figure(figsize=(12, 8), layout="constrained")
    curves, grid = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    for axes, metric in zip(curves.subplots(1, 2), ("loss", "accuracy"), strict=True):
        epochs = range(1, len(history[metric]) + 1)
        axes.plot(epochs, history[metric], label="training")
        axes.plot(epochs, history[f"val_{metric}"], label="test")
        axes.set(xlabel="epoch", ylabel=metric)
        axes.legend()
        axes.grid(alpha=0.3)
        if metric == "loss":
            axes.set_yscale("log")  # The first epochs' test loss would dwarf the rest.
    # The least certain first: that is where to look.
    order = np.argsort(probabilities.max(axis=1))
    for axes, i in zip(grid.subplots(4, 12).flat, order, strict=False):
        predicted = probabilities[i].argmax()
        axes.imshow(images[i, ..., 0], cmap="gray_r")
        axes.set_title(
            f"{predicted} ({probabilities[i, predicted]:.0%})",
            color="black" if predicted == labels[i] else "red",
            fontsize=8,
        )
        axes.axis("off")
    grid.suptitle("test images, least certain first: prediction (confidence), red if wrong")
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the results")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    arguments = parser.parse_args()
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)

    train_images, test_images, train_labels, test_labels = load_images()
    data = training_images(train_images, train_labels)
    model = build_model(steps=arguments.epochs * len(data))
    print(
        f"{model.name}: {model.count_params():,} parameters, "
        f"{kr.count_macs(model):,} multiply-accumulates an image"
    )
    history = model.fit(
        data,
        epochs=arguments.epochs,
        validation_data=(test_images, test_labels),
        shuffle=False,  # tf.data does it.
    ).history
    probabilities = model.predict(test_images, verbose=0)
    accuracy = (probabilities.argmax(axis=1) == test_labels).mean()
    draw(history, test_images, test_labels, probabilities, out / "demo.png")

    files = {"keras": out / "model.keras", "saved_model": out / "saved_model",
             "litert": out / "model.tflite"}  # fmt: skip
    shutil.rmtree(files["saved_model"], ignore_errors=True)  # Export overwrites files alone.
    model.save(files["keras"])
    model.export(files["saved_model"], format="tf_saved_model", verbose=False)
    model.export(files["litert"], format="litert", verbose=False)

    print(f"\ntest accuracy {accuracy:.2%} on {len(test_labels)} images")
    np.save(out / "images.npy", test_images)
    for kind, path in files.items():
        outputs = outputs_in_a_fresh_process(kind, path, out / "images.npy")
        difference = np.abs(outputs - probabilities).max()
        print(f"{kind:<12} reloaded from {path}: largest difference {difference:.1e}")
    print(f"curves and predictions: {out / 'demo.png'}")


if __name__ == "__main__":
    main()

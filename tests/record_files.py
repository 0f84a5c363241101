"""TFRecords that the tests make."""

import numpy as np
import tensorflow as tf


def write_records(path, labels, name="train", files=3):
    """Images whose red channel is their number, spread over several files."""
    for file in range(files):
        with tf.io.TFRecordWriter(str(path / f"{name}-{file:05}-of-{files:05}")) as writer:
            for number in range(file, len(labels), files):
                pixels = np.full((8, 8, 3), (number, 0, 0), "uint8")
                feature = {
                    "image/encoded": [tf.io.encode_png(pixels).numpy()],
                    "image/class/label": [int(labels[number])],
                }
                writer.write(example(feature))
    return f"tfrecord:{path}/*"


def example(feature):
    values = {
        key: tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
        if isinstance(value[0], bytes)
        else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
        for key, value in feature.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=values)).SerializeToString()

"""MNIST the way Keras users usually write it: arrays in memory, a Sequential model, compile and fit."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from record import Record, options


def lenet5() -> keras.Model:
    """The LeNet-5 of today: dense C3, ReLU, max-pooling."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(6, 5, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="relu"),
            layers.Dense(84, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def convnet() -> keras.Model:
    """The net of Keras' own simple MNIST example: 32 and 64 filters of 3x3, dropout."""
    return keras.Sequential(
        [
            keras.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )


class StopAtTarget(keras.callbacks.Callback):
    """Note each epoch's test accuracy and end the training at the target."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self.record = record

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Called by fit after the epoch's validation."""
        self.model.stop_training = self.record.epoch((logs or {})["val_accuracy"])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--net", choices=("lenet5", "convnet"), default="lenet5")
    args = parser.parse_args()
    record = Record(args.target, args.max_epochs)
    record.mark("import")

    keras.utils.set_random_seed(args.seed)
    with np.load(args.data) as arrays:
        x_train, y_train = arrays["x_train"][: args.limit], arrays["y_train"][: args.limit]
        x_test, y_test = arrays["x_test"][: args.limit], arrays["y_test"][: args.limit]
    x_train = np.expand_dims(x_train.astype("float32") / 255, -1)
    x_test = np.expand_dims(x_test.astype("float32") / 255, -1)
    model = lenet5() if args.net == "lenet5" else convnet()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    record.mark("load")

    model.fit(
        x_train,
        y_train,
        batch_size=128,
        epochs=args.max_epochs,
        validation_data=(x_test, y_test),
        callbacks=[StopAtTarget(record)],
        verbose=2,
    )
    record.finish()


if __name__ == "__main__":
    main()

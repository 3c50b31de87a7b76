"""Training steps as Keras users usually write them: keras.applications, compile, train_on_batch."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers
from train_timing import finish, measure, options


def network(name: str, side: int) -> keras.Model:
    """One of resnet18, resnet50, mobilenet_v1, mobilenet_v2, resnet20, with random weights and softmax outputs."""
    shape = (side, side, 3)
    if name == "resnet20":
        return residual(shape, 16, (3, 3, 3), classes=10, large=False)
    if name == "resnet18":
        return residual(shape, 64, (2, 2, 2, 2), classes=1000, large=True)
    known = {
        "resnet50": keras.applications.ResNet50,
        "mobilenet_v1": keras.applications.MobileNet,
        "mobilenet_v2": keras.applications.MobileNetV2,
    }
    return known[name](weights=None, input_shape=shape)


def residual(
    shape: tuple[int, int, int], width: int, depths: tuple[int, ...], classes: int, large: bool
) -> keras.Model:
    """ResNets of two-layer blocks: those for ImageNet with their stem and pooling, those for CIFAR without."""
    image = keras.Input(shape)
    x = normed(image, width, 7 if large else 3, 2 if large else 1)
    if large:
        x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, depth in enumerate(depths):
        for place in range(depth):
            channels, stride = width << stage, 2 if stage and not place else 1
            shortcut = normed(x, channels, 1, stride, relu=False) if stride > 1 else x
            x = normed(normed(x, channels, 3, stride), channels, 3, 1, relu=False)
            x = layers.ReLU()(layers.Add()([x, shortcut]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes, activation="softmax")(x))


def normed(x: object, channels: int, kernel: int, stride: int, *, relu: bool = True) -> object:
    """Convolution, batch normalisation, activation."""
    x = layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    return layers.ReLU()(x) if relu else x


def main() -> None:
    args = options(__doc__).parse_args()
    keras.utils.set_random_seed(0)
    generator = np.random.default_rng(0)
    images = generator.standard_normal((args.batch_size, args.side, args.side, 3)).astype("float32")
    targets = generator.integers(0, 10, args.batch_size)
    model = network(args.network, args.side)
    model.compile(optimizer=keras.optimizers.SGD(1e-3, momentum=0.9), loss="sparse_categorical_crossentropy")
    record = measure(lambda: float(np.ravel(model.train_on_batch(images, targets))[0]), args)
    finish({**record, "parameters": int(sum(np.prod(one.shape) for one in model.trainable_weights))})


if __name__ == "__main__":
    main()

"""A classifier of three layers as a program: small enough for any kernel, with a layer that is worth a sparse one."""

import numpy as np

from export.program.format import Operation, Program, Tensor

SHAPE, CLASSES = (3, 9, 7), 5


def convolution(weight):
    """A padded 3x3 convolution with the weights (out, in * 9), then ReLU."""
    arrays = {"weight": weight, "bias": np.linspace(-1, 1, len(weight), dtype=np.float32)}
    attributes = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1}
    relu = {"kind": "clip", "low": 0.0, "high": None}
    return Operation("conv", "layer/Conv", (0,), 1, {**attributes, "add": None, "activation": relu}, arrays)


def network(zeros):
    """Convolution with that share of zeros, global average, classifier."""
    draw = np.random.default_rng(3)
    weight = draw.normal(size=(16, 27)).astype(np.float32)
    weight[draw.random(weight.shape) < zeros] = 0
    classifier = {"weight": draw.normal(size=(CLASSES, 16)).astype(np.float32), "bias": np.ones(CLASSES, np.float32)}
    operations = (
        convolution(weight),
        Operation("global_average", "pool", (1,), 2, {}, {}),
        Operation("linear", "classifier", (2,), 3, {"activation": None}, classifier),
    )
    shapes = (SHAPE, (16, *SHAPE[1:]), (16, 1, 1), (CLASSES, 1, 1))
    return Program("tiny", "0" * 64, 0, 3, tuple(Tensor(shape, -1) for shape in shapes), operations)

"""Small ONNX networks of whole numbers with most of their weights zero: float32 computes them exactly.

Weights, biases and images are small integers, pools divide by powers of two: sums in any order are the same bits, so
that a network and its compaction can be held to be equal, not close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

CHANNELS, SIZE, CLASSES = 3, 8, 4


@dataclass
class Drawing:
    """A network that is put together node by node; `density` is the share of weights that are not zero."""

    seed: int
    density: float
    biased: float = 0.5
    """Share of the biases that are not zero."""
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=lambda: {"input": CHANNELS})

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def add(self, op: str, *reads: str, channels: int | None = None, gives: int = 1, **attributes: object) -> str:
        """A node; its first output's name."""
        name = f"{op.lower()}{len(self.nodes)}"
        outputs = [name, *(f"{name}.{count}" for count in range(1, gives))]
        self.nodes.append(helper.make_node(op, reads, outputs, name=f"/{name}", **attributes))
        for output in outputs:
            self.channels[output] = channels if channels is not None else self.channels[reads[0]]
        return name

    def constant(self, value: object, name: str | None = None) -> str:
        """An initializer's name; lists of numbers are int64."""
        name = name or f"constant{len(self.weights)}"
        self.weights[name] = np.asarray(value)
        return name

    def whole(self, *shape: int, share: float) -> NDArray[np.float32]:
        """-1, 1 or 2, and 0 but for a share."""
        drawn = self.random.choice([-1, 1, 1, 2], shape) * (self.random.random(shape) < share)
        return drawn.astype(np.float32)

    def conv(
        self,
        x: str,
        out: int,
        size: int = 3,
        *,
        groups: int = 1,
        pad: int | None = None,
        bias: bool = True,
        step: int = 1,
    ) -> str:
        """A convolution; the padding keeps the image's size unless stated."""
        pad, layer = (size // 2 if pad is None else pad), f"conv{len(self.nodes)}"
        weight = self.whole(out, self.channels[x] // groups, size, size, share=self.density)
        reads = [x, self.constant(weight, f"{layer}.weight")]
        reads += [self.constant(self.whole(out, share=self.biased), f"{layer}.bias")] if bias else []
        return self.add("Conv", *reads, channels=out, group=groups, pads=[pad] * 4, strides=[step] * 2)

    def norm(self, x: str) -> str:
        """A batch normalization that scales by whole numbers, some of them 0."""
        count, layer = self.channels[x], f"norm{len(self.nodes)}"
        scale, shift = self.whole(count, share=0.7), self.whole(count, share=self.biased)
        mean, variance = self.whole(count, share=self.biased), np.ones(count, np.float32)
        held = zip(("weight", "bias", "mean", "var"), (scale, shift, mean, variance), strict=True)
        names = [self.constant(value, f"{layer}.{what}") for what, value in held]
        return self.add("BatchNormalization", x, *names, epsilon=0.0)

    def linear(self, x: str, out: int, features: int | None = None, op: str = "Gemm") -> str:
        """A linear layer on (batch, features)."""
        layer, reads = f"fc{len(self.nodes)}", features or self.channels[x]
        weight = self.whole(out, reads, share=max(self.density, 0.3))
        if op == "MatMul":
            return self.add(op, x, self.constant(weight.T.copy(), f"{layer}.weight"), channels=out)
        names = [self.constant(weight, f"{layer}.weight"), self.constant(self.whole(out, share=0.8), f"{layer}.bias")]
        return self.add("Gemm", x, *names, channels=out, transB=1)

    def head(self, x: str) -> str:
        """Mean over the positions, flattened, and the classes."""
        mean = self.add("GlobalAveragePool", x)
        return self.linear(self.add("Flatten", mean), CLASSES)

    def model(self, last: str, opset: int = 17) -> ModelProto:
        """The graph from "input" to "logits", with a free batch and metadata."""
        self.nodes[-1].output[0] = "logits"
        assert last not in {name for node in self.nodes for name in node.input}
        values = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", CHANNELS, SIZE, SIZE])]
        logits = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])]
        tensors = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, "drawn", values, logits, tensors)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        helper.set_model_props(made, {"edgeprune.network": "drawn"})
        onnx.checker.check_model(made, full_check=True)
        return made


def plain(draw: Drawing) -> str:
    x = draw.add("Relu", draw.conv("input", 8))
    x = draw.add("Relu", draw.conv(x, 8, 1, bias=False))
    x = draw.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return draw.head(draw.add("Relu", draw.norm(draw.conv(x, 6, pad=0))))


def residual(draw: Drawing) -> str:
    x = draw.add("Relu", draw.conv("input", 6, 1))
    for stride in (1, 2):
        inner = draw.add("Relu", draw.conv(x, 6, step=stride))
        short = x if stride == 1 else draw.conv(x, 6, 1, step=2)
        x = draw.add("Relu", draw.add("Add", draw.conv(inner, 6, 1), short))
    return draw.head(x)


def separable(draw: Drawing) -> str:
    x = draw.add("Clip", draw.conv("input", 6, 1), draw.constant(np.float32(0)), draw.constant(np.float32(6)))
    for _ in range(2):
        wide = draw.add("Relu", draw.conv(x, 8, 1))
        deep = draw.add("Relu", draw.conv(wide, 16, 3, groups=8))
        x = draw.add("Add", draw.conv(deep, 6, 1), x)
    return draw.head(x)


def grouped(draw: Drawing) -> str:
    x = draw.add("Relu", draw.conv("input", 8, 1))
    x = draw.add("Relu", draw.conv(x, 8, 3, groups=4))
    return draw.head(draw.conv(x, 4, 1))


def squeezed(draw: Drawing) -> str:
    x = draw.add("Relu", draw.conv("input", 8, 1))
    gate = draw.add("Relu", draw.conv(draw.add("GlobalAveragePool", x), 4, 1))
    gate = draw.add("Clip", draw.conv(gate, 8, 1), draw.constant(np.float32(0)), draw.constant(np.float32(1)))
    return draw.head(draw.conv(draw.add("Mul", gate, x), 6, 3))


def joined(draw: Drawing) -> str:
    x = draw.add("Relu", draw.conv("input", 4, 1))
    pooled = draw.add("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4)
    parts = [draw.conv(x, 3, 1), x, draw.add("Sub", pooled, draw.conv(x, 4, 3))]
    whole = draw.add("Concat", *parts, axis=1, channels=11)
    return draw.head(draw.add("Relu", draw.conv(draw.norm(whole), 6, 3)))


def features(draw: Drawing) -> str:
    x = draw.add("Relu", draw.conv("input", 5, 1))
    x = draw.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[1] * 4, count_include_pad=1)
    x = draw.add("Reshape", x, draw.constant([-1, 125]), channels=125)
    x = draw.add("Relu", draw.linear(x, 12, 125))
    x = draw.linear(x, 12, op="MatMul")
    return draw.linear(draw.add("Add", draw.constant(draw.whole(12, share=0.5)), x, channels=12), CLASSES)


def divided(draw: Drawing) -> str:
    x = draw.conv("input", 10, 1)
    left = draw.add("Split", x, draw.constant([6, 4]), channels=6, gives=2, axis=1)
    draw.channels[f"{left}.1"] = 4
    padded = draw.add("Pad", f"{left}.1", draw.constant([0, 0, 1, 1, 0, 0, 1, 1]))
    right = draw.conv(draw.add("Relu", padded), 6, 3, pad=0)
    ends = draw.add("Max", right, draw.add("Mul", left, draw.constant(draw.whole(6, 1, 1, share=0.5))))
    return draw.linear(draw.add("ReduceMean", ends, axes=[2, 3], keepdims=0), CLASSES)


FAMILIES: dict[str, Callable[[Drawing], str]] = {
    made.__name__: made for made in (plain, residual, separable, grouped, squeezed, joined, features, divided)
}


def drawn(family: str, seed: int, density: float, biased: float = 0.5) -> ModelProto:
    """A network of a family."""
    draw = Drawing(seed, density, biased)
    return draw.model(FAMILIES[family](draw))


def images(seed: int, count: int = 3) -> NDArray[np.float32]:
    """Images of whole numbers from -2 to 2."""
    return np.random.default_rng(seed).integers(-2, 3, (count, CHANNELS, SIZE, SIZE)).astype(np.float32)


def run(model: ModelProto, given: NDArray[np.float32], *asked: str) -> list[NDArray[np.float32]]:
    """Outputs by ONNX Runtime as the file stands, nothing fused; `asked` are values in between."""
    copy = ModelProto.FromString(model.SerializeToString())
    copy.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in asked)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(list(asked) or None, {"input": given})


def in_float64(model: ModelProto) -> ModelProto:
    """The same network in float64."""
    copy = ModelProto.FromString(model.SerializeToString())
    for tensor in copy.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.elem_type = TensorProto.DOUBLE
    return copy


def reference(model: ModelProto, given: NDArray[np.floating]) -> NDArray[np.floating]:
    """The output by ONNX's own evaluator."""
    return ReferenceEvaluator(model).run(None, {"input": given})[0]


def weights_of(model: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def names(values: Sequence[onnx.ValueInfoProto]) -> list[str]:
    """Names of inputs or outputs."""
    return [value.name for value in values]

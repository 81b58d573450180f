"""Small ONNX graphs by hand, and the plan of the one layer in them."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.plan import PlannedLayer, plan
from export.targets import TARGETS


def tensor(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(np.ones(shape, np.float32), name)


def graph(nodes: list[NodeProto], weights: list[TensorProto], **inputs: list[int | str]) -> ModelProto:
    """A model of these nodes whose last output is the graph's."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()]
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    made = helper.make_graph(nodes, "g", values, [output], weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def conv(name: str, *shape: int, groups: int = 1, op: str = "Conv") -> ModelProto:
    """One convolution with a weight of `shape` on an image that fits it."""
    reads = shape[1] * groups if op == "Conv" else shape[0]
    node = helper.make_node(op, ["x", f"{name}.weight"], ["y"], name=f"/{name}", group=groups)
    return graph([node], [tensor(f"{name}.weight", *shape)], x=["n", reads, 8, 8])


def only(model: ModelProto, target: str = "jetson-orin", tensorrt: str | None = None) -> PlannedLayer:
    (layer,) = plan(model, TARGETS[target], name="hand", tensorrt=tensorrt).layers
    return layer


def matmul(*shape: int, name: str = "fc.weight") -> ModelProto:
    return graph([helper.make_node("MatMul", ["x", name], ["y"])], [tensor(name, *shape)], x=["n", 7, shape[-2]])

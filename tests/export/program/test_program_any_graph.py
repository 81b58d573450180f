"""Graphs drawn at random from what is fused and viewed: whatever the rules make of them, the answers stay."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto
from program_graphs import Array, model_of, node, normal, saved, whole
from program_reference import run_program

from export.program import read_program, to_program
from runtimes import ort

C = 4
ONE = ("Relu", "Sigmoid", "HardSwish", "HardSigmoid", "conv", "grouped", "pad", "scale", "shift", "norm", "gate")
TWO = ("Add", "Mul", "Sub", "excite", "shuffle")
CONSTANTS: dict[str, Array] = {
    "w": normal(C, C, 3, 3) / 4,
    "w2": normal(C, 2, 3, 3) / 4,
    "b": normal(C, seed=2),
    "scale": normal(1, C, 1, 1, seed=3),
    "shift": normal(C, 1, 1, seed=4),
    "v": np.abs(normal(C)) + np.float32(0.5),
    "border": whole(0, 0, 1, 1, 0, 0, 1, 1),
    **{name: np.array(value, np.float32) for name, value in (("zero", 0), ("three", 3), ("six", 6))},
    "apart": whole(0, 2, 2, 6, 6),
    "together": whole(0, 4, 6, 6),
}


def step(kind: str, one: str, two: str, to: str) -> list[NodeProto]:
    """The nodes of one drawn step from values `one` and `two` to `to`, all of one shape."""
    same = {"pads": [1, 1, 1, 1]}
    written = {
        "conv": [node("Conv", f"{one} w b", to, **same)],
        "grouped": [node("Conv", f"{one} w2 b", to, group=2, **same)],
        "pad": [node("Pad", f"{one} border", f"{to}p"), node("Conv", f"{to}p w b", to)],
        "scale": [node("Mul", f"scale {one}", to)],
        "shift": [node("Add", f"{one} shift", to)],
        "norm": [node("BatchNormalization", f"{one} b b b v", to)],
        "gate": [
            node("Add", f"{one} three", f"{to}a"),
            node("Clip", f"{to}a zero six", f"{to}c"),
            node("Mul", f"{to}c {two}", f"{to}m"),
            node("Div", f"{to}m six", to),
        ],
        "excite": [node("GlobalAveragePool", two, f"{to}g"), node("Mul", f"{one} {to}g", to)],
        "shuffle": [
            node("Split", one, f"{to}a {to}b", axis=1),
            node("Split", two, f"{to}c {to}d", axis=1),
            node("Concat", f"{to}d {to}a", f"{to}e", axis=1),
            node("Reshape", f"{to}e apart", f"{to}f"),
            node("Transpose", f"{to}f", f"{to}g", perm=[0, 2, 1, 3, 4]),
            node("Reshape", f"{to}g together", to),
        ],
    }
    return written.get(kind) or [node(kind, f"{one} {two}" if kind in TWO else one, to)]


@st.composite
def graphs(draw: st.DrawFn) -> ModelProto:
    """Up to ten steps, each from values before it, the late ones rather than the early ones."""
    names, nodes = ["x"], []
    for index in range(draw(st.integers(1, 10))):
        one, two = (names[-1 - min(draw(st.integers(0, 3)), len(names) - 1)] for _ in range(2))
        names.append("y" if index == 0 else f"v{index}")
        nodes += step(draw(st.sampled_from(ONE + TWO)), one, two, names[-1])
    answer = draw(st.sampled_from(names[-2:]))
    return model_of(nodes, CONSTANTS, ("N", C, 6, 6), (names[-1] if answer == "x" else answer,))


@settings(deadline=None, max_examples=50)
@given(graphs())
def test_any_graph_of_known_operators_answers_as_onnx_runtime(model: ModelProto) -> None:
    images = normal(2, C, 6, 6, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        path = saved(model, Path(folder))
        ours = run_program(read_program(to_program(path).json), images)
        theirs = np.asarray(ort.load(path, {}).run(images)).reshape(2, -1)
    # ONNX Runtime cuts its logistic function off, so a product of gates may be 0 there and 1e-7 here.
    assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max() + 1e-6

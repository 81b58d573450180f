"""Which layers 2:4 can apply to, which of them TensorRT looks at, and which are large enough to win: three rules.

2:4 asks that of every four input channels that lie together two weights are zero, for each output channel and each
place of the kernel. Legal: `export.n_of_m.unfit`, which the gate of the export asks too. Large enough:
NVIDIA/TensorRT#3849 and #4065, a rule of thumb by those who wrote the kernels ("C and K above 256; 3x3 makes C nine
times as large"), nothing that TensorRT promises.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from export.plan.inventory import Work
from export.targets import Target

LARGE = 256
"""Output channels K, and input channels C times the kernel's area, from which on sparse kernels tend to win."""

FIRST_WITH_MATMUL = 10
"""Major release of TensorRT from which on products with a constant matrix are looked at as such."""

Release = tuple[int, ...]


@dataclass(frozen=True)
class Verdict:
    """What the rules say of one layer; `reason` is why the first no is a no, None where there is none."""

    eligible: bool
    considered: bool | None  # None: not known of this runtime
    worth_it: bool
    reason: str | None


def judge(work: Work, target: Target, release: Release | None) -> Verdict:
    """Apply the rules to one layer of a network for `target` under TensorRT `release`; None: a release not known."""
    if (refusal := _illegal(work, target)) is not None:
        return Verdict(False, False, False, refusal)
    if release is not None and release[0] < FIRST_WITH_MATMUL and work.op == "MatMul":
        told = f"TensorRT {release[0]} looks at Conv and Gemm; MatMul from {FIRST_WITH_MATMUL} on"
        return Verdict(True, False, False, told)
    small = _too_small(work)
    return Verdict(True, None if release is None else True, small is None, small)


def _illegal(work: Work, target: Target) -> str | None:
    """Why 2:4 cannot apply, or cannot help: the layer before the device, so that the layer's own reason is told."""
    return work.unfit or (None if target.sparse_tensor_cores else f"{target.name} has no sparse tensor cores")


def _too_small(work: Work) -> str | None:
    outputs, reads = (work.shape or (0, 0))[0], prod((work.shape or (0, 0))[1:])
    short = [told for told, size in ((f"K = {outputs}", outputs), (f"C x kernel = {reads}", reads)) if size < LARGE]
    return f"too small: {' and '.join(short)}, below {LARGE}" if short else None

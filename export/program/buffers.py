"""Which tensors may lie in the same memory: those whose lives do not overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from export.program.format import Operation, Program, floats

Life = tuple[int, int]
"""The first and the last operation that a tensor must be kept for, both included."""


def place(program: Program) -> Program:
    """The same program with a buffer for each tensor, and as little memory as first-fit by size finds.

    The largest tensor chooses first, and each takes the first buffer that is free for its whole life; so no buffer is
    larger than the first tensor in it, and a small tensor does not keep a large one out.
    """
    lives = lives_of(program.operations, len(program.tensors), program.input, program.output)
    order = sorted(range(len(lives)), key=lambda at: (-floats(program.tensors[at].shape), lives[at], at))
    taken: list[list[Life]] = []
    placed = list(program.tensors)
    for at in order:
        chosen = next((index for index, held in enumerate(taken) if _free(held, lives[at])), len(taken))
        if chosen == len(taken):
            taken.append([])
        taken[chosen].append(lives[at])
        placed[at] = replace(placed[at], buffer=chosen)
    return replace(program, tensors=tuple(placed))


def lives_of(operations: Sequence[Operation], tensors: int, first: int, last: int) -> list[Life]:
    """The life of each tensor: from the operation that writes it to the last one that reads it.

    The input `first` lives from before the first operation, the output `last` to after the last one. A tensor that
    nobody reads lives while it is written.
    """
    begins, ends = [len(operations)] * tensors, [-1] * tensors
    begins[first] = -1
    for index, one in enumerate(operations):
        begins[one.output] = index
        ends[one.output] = max(ends[one.output], index)
        for read in one.reads:
            ends[read] = index
    ends[last] = len(operations)
    return list(zip(begins, ends, strict=True))


def _free(taken: Sequence[Life], life: Life) -> bool:
    """An operation reads its inputs while it writes its output, so lives that touch overlap."""
    return all(life[1] < begin or end < life[0] for begin, end in taken)

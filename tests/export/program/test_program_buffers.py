"""Tensors share memory only where their lives do not overlap: held against a replay that remembers who wrote last."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from program_reference import program_of

from export.program.buffers import place
from export.program.format import Operation, Program, Shape, floats


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Any order of reads: each operation reads one to three tensors that are written before it."""
    count = draw(st.integers(1, 14))
    operations = []
    for index in range(count):
        inputs = draw(st.lists(st.integers(0, index), min_size=1, max_size=3))
        added = draw(st.sampled_from([None, *range(index + 1)]))
        operations.append(Operation("conv", str(index), tuple(inputs), index + 1, {"add": added}))
    sizes = draw(st.lists(st.integers(1, 50), min_size=count + 1, max_size=count + 1))
    shapes: list[Shape] = [(size, 1, 1) for size in sizes]
    return program_of(operations, shapes, 0, draw(st.integers(1, count)))


def replayed(program: Program) -> list[str]:
    """What goes wrong when each buffer only holds what was written into it last."""
    buffer = [tensor.buffer for tensor in program.tensors]
    held = {buffer[program.input]: program.input}
    wrong = []
    for one in program.operations:
        wrong += [f"{one.name} reads {read}" for read in one.reads if held.get(buffer[read]) != read]
        wrong += [f"{one.name} writes over {read}" for read in one.reads if buffer[read] == buffer[one.output]]
        held[buffer[one.output]] = one.output
    return wrong if held.get(buffer[program.output]) == program.output else [*wrong, "the answer is gone"]


@settings(deadline=None, max_examples=300)
@given(programs())
def test_no_tensor_is_written_over_while_it_is_needed(program: Program) -> None:
    assert not replayed(program)
    assert {tensor.buffer for tensor in program.tensors} == set(range(program.buffers))


@settings(deadline=None, max_examples=300)
@given(programs())
def test_the_peak_lies_between_what_is_alive_at_once_and_everything(program: Program) -> None:
    size = [floats(tensor.shape) for tensor in program.tensors]
    last = {at: index for index, one in enumerate(program.operations) for at in (*one.reads, one.output)}
    last[program.output] = len(program.operations)
    first = {one.output: index for index, one in enumerate(program.operations)} | {program.input: -1}
    last.setdefault(program.input, -1)
    alive = [
        sum(size[at] for at in range(len(size)) if first[at] <= moment <= last[at])
        for moment in range(-1, len(program.operations) + 1)
    ]
    assert max(alive) <= program.peak_floats <= sum(size)


def test_a_chain_needs_two_buffers_and_a_shortcut_a_third() -> None:
    shapes: list[Shape] = [(4, 8, 8)] * 5
    chain = [Operation("activate", "", (at,), at + 1) for at in range(4)]
    assert (program_of(chain, shapes, 0, 4).buffers, program_of(chain, shapes, 0, 4).peak_floats) == (2, 512)
    shortcut = [*chain[:3], Operation("add", "", (3, 1), 4)]
    assert program_of(shortcut, shapes, 0, 4).buffers == 3


def test_a_small_tensor_does_not_take_the_place_of_a_large_one() -> None:
    shapes: list[Shape] = [(1, 1, 1), (100, 1, 1), (2, 1, 1), (100, 1, 1), (3, 1, 1)]
    chain = [Operation("activate", "", (at,), at + 1) for at in range(4)]
    assert program_of(chain, shapes, 0, 4).peak_floats == 103


def test_the_replay_sees_a_buffer_that_is_shared_wrongly() -> None:
    chain = [Operation("activate", "", (0,), 1), Operation("add", "", (0, 1), 2)]
    program = program_of(chain, [(1, 1, 1)] * 3, 0, 2)
    wrong = Program(program.name, program.source_sha256, 0, 2, (program.tensors[0],) * 3, program.operations)
    assert replayed(wrong)
    assert place(wrong) == program

"""Programs damaged at random, from fixed seeds: the loader in C, watched by sanitizers, loads or refuses each of them.

What it loads is held to Python's own reading, to the liveness of buffers as the exporter reckons it, and to the
reference, which computes every shape again.
"""

import json
import random

import numpy as np
import pytest
from damage import Cases, archive_mutations, array_mutations, text_mutations
from loader import expected, watched_loader
from made_up import as_python_reads, of_everything
from program_reference import run_program

from export.program.buffers import lives_of
from export.program.weights import dense


@pytest.fixture(scope="module")
def loader():
    return watched_loader()


def sound_to_the_reference(program):
    """Shapes and weights as the reference has them, and no buffer shared by two tensors that live at once."""
    shape = program.tensors[program.input].shape
    for index, one in enumerate(program.operations):
        if "counts" in one.arrays:
            dense(one.arrays, expected(program)["operations"][index]["columns"])
    run_program(program, np.ones((1, *shape), np.float32))
    lives = lives_of(program.operations, len(program.tensors), program.input, program.output)
    held = {}
    for tensor, life in sorted(zip(program.tensors, lives, strict=True), key=lambda pair: pair[1]):
        assert held.get(tensor.buffer, -2) < life[0], f"{tensor} overwrites what is still read"
        held[tensor.buffer] = max(life)


def check(loader, cases):
    """Each case is refused in one line that names its file, or is what Python reads. How many were loaded."""
    said = loader.try_all(cases.paths)
    assert len(said) == len(cases.paths)
    loaded, held = 0, set()
    for path, line in zip(cases.paths, said, strict=True):
        name = path.name.removesuffix(".json")
        if line.startswith("no "):
            assert line.startswith((f"no {name}.json: ", f"no {name}.npz: ")), line
            assert len(line) > len(name) + 10, line
            continue
        loaded += 1
        program = as_python_reads(path)
        assert json.loads(line) == expected(program), path
        if line not in held:
            sound_to_the_reference(program)
        held.add(line)
    return loaded


def fuzz(loader, folder, count, seed):
    """`count` cases of all kinds; how many of them were loaded."""
    dice, cases = random.Random(seed), Cases(folder)  # noqa: S311
    for text in text_mutations(2 * count // 5, dice):
        cases.add(text=text)
    for archive in archive_mutations(2 * count // 5, dice, cases.sound.with_suffix(".npz").read_bytes()):
        cases.add(archive=archive)
    for content in array_mutations(count - len(cases.paths), dice):
        cases.add(content=content)
    return check(loader, cases)


def test_programs_damaged_at_random_are_refused_or_read_as_python_reads_them(loader, tmp_path):
    loaded = fuzz(loader, tmp_path, 2000, seed=1)
    assert 100 < loaded < 1000  # names, weights and what is equal: there are harmless changes, and others


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 7))
def test_many_more_programs_damaged_at_random(loader, tmp_path, seed):
    assert fuzz(loader, tmp_path, 10_000, seed) > 250


def test_a_program_cut_at_any_byte_of_its_archives_ends_is_refused(loader, tmp_path):
    cases = Cases(tmp_path)
    sound = cases.sound.with_suffix(".npz").read_bytes()
    for end in [*range(0, 400), *range(len(sound) - 400, len(sound))]:
        cases.add(archive=sound[:end])
    assert check(loader, cases) == 0


def test_the_sound_program_is_loaded_by_the_same_route(loader, tmp_path):
    cases = Cases(tmp_path)
    cases.add()
    assert check(loader, cases) == 1
    assert as_python_reads(cases.paths[0]).operations[0].name == of_everything().operations[0].name

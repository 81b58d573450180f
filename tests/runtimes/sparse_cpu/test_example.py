"""The example in C: it classifies one image with the library alone, and answers as Python does."""

import shutil
import subprocess

import numpy as np
import pytest
from tiny_programs import CLASSES, SHAPE, network

from export import native
from export.program import write_program
from runtimes import sparse_cpu
from runtimes.sparse_cpu import library

pytestmark = pytest.mark.skipif(native.lacks_compiler() is not None, reason=str(native.lacks_compiler()))
EMULATOR = "qemu-aarch64-static"


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("example") / "net.program.json"
    write_program(network(0.9), path)
    return path


@pytest.fixture(scope="module")
def classify():
    return [str(native.build_example(library.triple()))]


@pytest.fixture
def image(tmp_path):
    values = np.random.default_rng(0).normal(size=(1, *SHAPE)).astype("<f4")
    path = tmp_path / "image.f32"
    path.write_bytes(values.tobytes())
    return values, path


def run(command, *arguments):
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def answers(found):
    """Class -> answer, in the order in which they are printed."""
    assert found.returncode == 0, found.stderr
    lines = [line.split() for line in found.stdout.splitlines()]
    return {int(number): np.float32(value) for number, value in lines}


def expected(program, images, options=None):
    """By this CPU's fastest kernels, as the example takes them, whatever the environment forces on Python."""
    engine = sparse_cpu.load(program, {"kernels": sparse_cpu.kernels()[0], **(options or {})})
    logits = engine.run(images)[0]
    engine.close()
    return {int(number): logits[number] for number in np.argsort(-logits, kind="stable")}


@pytest.mark.parametrize("threads", [1, 2])
def test_it_prints_to_the_last_bit_what_python_answers(classify, program, image, threads):
    values, path = image
    for kernels in sparse_cpu.kernels():
        options = {"kernels": kernels, "threads": str(threads)}
        told = answers(run(classify, program, path, "--top", CLASSES, "--kernels", kernels, "--threads", threads))
        wanted = expected(program, values, options)
        assert list(told.items()) == list(wanted.items())


def test_the_best_classes_come_first_and_no_more_than_are_asked_for(classify, program, image):
    values, path = image
    wanted = list(expected(program, values).items())
    assert list(answers(run(classify, program, path, "--top", 2)).items()) == wanted[:2]


def test_a_picture_is_normalised_as_it_is_told(classify, program, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, size=(*SHAPE[1:], 3), dtype=np.uint8)
    path = tmp_path / "image.ppm"
    path.write_bytes(b"P6\n%d %d\n255\n" % (SHAPE[2], SHAPE[1]) + pixels.tobytes())
    mean, std = np.array([0.5, 0.25, 0.125]), np.array([0.5, 2.0, 0.25])
    planes = ((pixels / 255.0 - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]
    told = answers(run(classify, program, path, "--top", CLASSES, "--mean", "0.5,0.25,0.125", "--std", "0.5,2,0.25"))
    wanted = expected(program, np.ascontiguousarray(planes))
    assert list(told) == list(wanted)
    np.testing.assert_allclose(list(told.values()), list(wanted.values()), rtol=1e-5)


def test_what_is_wrong_is_said_in_a_line_and_ends_with_two(classify, program, image, tmp_path):
    _, path = image
    short = tmp_path / "short.f32"
    short.write_bytes(path.read_bytes()[:-4])
    long = tmp_path / "long.f32"
    long.write_bytes(path.read_bytes() + bytes(4))
    tall = tmp_path / "tall.ppm"
    tall.write_bytes(b"P6 9 7 255\n" + bytes(3 * 63))
    cases = [(program, short), (program, long), (program, tall), (program, tmp_path / "gone.f32"), (program,)]
    cases += [
        (tmp_path / "gone.program.json", path),
        (program, path, "--kernels", "mmx"),
        (program, path, "--top", "x"),
    ]
    for arguments in (
        *cases,
        (program, path, "--threads", "0"),
        (program, path, path),
        (program, path, "--mean", "1,"),
    ):
        found = run(classify, *arguments)
        assert found.returncode == 2, arguments
        assert found.stdout == ""
        assert found.stderr.startswith("classify: ")
        assert len(found.stderr.splitlines()) == 1


@pytest.mark.slow
def test_it_answers_the_same_on_64_bit_arm_but_for_rounding(program, image):
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        pytest.skip(f"{EMULATOR} is not installed (Debian: qemu-user-static)")
    values, path = image
    command = [emulator, str(native.build_example("aarch64-linux-musl"))]
    for kernels in ("neon", "scalar"):
        told = answers(run(command, program, path, "--top", CLASSES, "--kernels", kernels))
        wanted = expected(program, values, {"kernels": "scalar"})
        assert list(told) == list(wanted)
        np.testing.assert_allclose(list(told.values()), list(wanted.values()), rtol=1e-4, atol=1e-5)

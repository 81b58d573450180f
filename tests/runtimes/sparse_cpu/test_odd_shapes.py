"""Programs that the loader accepts and whose shapes are odd: nothing is read outside, and too much is refused."""

import subprocess
import sys

import numpy as np
import pytest
from program_reference import program_of, run_program

from export.native import build_library
from export.program import write_program
from export.program.format import Operation
from runtimes import sparse_cpu
from runtimes.errors import UserError
from runtimes.sparse_cpu import library

RELU = {"kind": "clip", "low": 0.0, "high": None}
WINDOW = {"dilation": [1, 1], "padding": [0, 0, 0, 0]}

# The image ends where a page begins that must not be touched. In a process of its own, since what goes wrong ends it.
AT_THE_EDGE = """
import ctypes, mmap, sys
import numpy as np
from runtimes import sparse_cpu

for kernels in sparse_cpu.kernels():
    from pathlib import Path
    engine = sparse_cpu.load(Path(sys.argv[1]), {"kernels": kernels})
    n = int(np.prod(engine.shape))
    size = -(-4 * n // mmap.PAGESIZE) * mmap.PAGESIZE
    area = mmap.mmap(-1, size + mmap.PAGESIZE)
    begin = ctypes.addressof(ctypes.c_char.from_buffer(area))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert libc.mprotect(begin + size, mmap.PAGESIZE, 0) == 0
    floats = (ctypes.c_float * n).from_address(begin + size - 4 * n)
    image = np.frombuffer(floats, dtype=np.float32).reshape(1, *engine.shape)
    image[:] = np.arange(n).reshape(image.shape) - n / 2
    assert np.array_equal(engine.run(image).ravel(), np.maximum(image, 0).ravel()), kernels
print("whole")
"""


@pytest.fixture(scope="module", autouse=True)
def built():
    build_library(library.triple())


def written(tmp_path, operations, shapes):
    program = program_of(operations, shapes, 0, len(shapes) - 1)
    return write_program(program, tmp_path / "odd.program.json").json, program


def conv(shape, kernel, stride, weight, padding=(0, 0, 0, 0)):
    attributes = {"kernel": list(kernel), "stride": list(stride), "padding": list(padding), "dilation": [1, 1]}
    arrays = {"weight": weight.astype(np.float32), "bias": np.zeros(len(weight), np.float32)}
    return Operation("conv", "conv", (0,), 1, {**attributes, "groups": 1, "add": None, "activation": None}, arrays)


@pytest.mark.parametrize(
    "shape", [(1, 5, 5), (3, 7, 9), (1, 1, 4099), (1, 4, 4), (3, 32, 32), (2, 12, 68), (1, 8, 132)]
)
def test_nothing_beyond_the_image_is_read_and_every_pixel_stays_in_its_place(tmp_path, shape):
    flat = (int(np.prod(shape)), 1, 1)
    operations = [
        Operation("activate", "relu", (0,), 1, {"activation": RELU}, {}),
        Operation("flatten", "flatten", (1,), 2, {}, {}),
    ]
    path, _ = written(tmp_path, operations, [shape, shape, flat])
    done = subprocess.run([sys.executable, "-c", AT_THE_EDGE, str(path)], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "whole", (done.returncode, done.stderr)


def test_a_window_of_the_whole_image_with_a_stride_beyond_it(tmp_path):
    rng = np.random.default_rng(0)
    one = conv(None, (128, 128), (512, 256), rng.standard_normal((1, 128 * 128)))
    path, program = written(tmp_path, [one], [(1, 128, 128), (1, 1, 1)])
    image = rng.standard_normal((1, 1, 128, 128)).astype(np.float32)
    for kernels in sparse_cpu.kernels():
        answer = sparse_cpu.load(path, {"kernels": kernels}).run(image)
        assert np.allclose(answer, run_program(program, image), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("channels", [4096, 65535, 65536])
def test_as_many_weights_of_one_tap_as_there_are_channels(tmp_path, channels):
    weight = np.zeros((1, channels * 9))
    weight[0, 4::9] = 1
    path, _ = written(tmp_path, [conv(None, (3, 3), (1, 1), weight, (1, 1, 1, 1))], [(channels, 4, 4), (1, 4, 4)])
    engine = sparse_cpu.load(path, {})
    answer = engine.run(np.ones((1, channels, 4, 4), np.float32))
    assert np.array_equal(answer, np.full((1, 16), channels, np.float32))


@pytest.mark.parametrize("stride", [100_000_000, 1_000_000_000])
def test_a_layout_of_gigabytes_is_refused_before_it_is_made(tmp_path, stride):
    pool = Operation("max_pool", "pool", (0,), 1, {**WINDOW, "kernel": [1, 1], "stride": [1, stride]}, {})
    path, _ = written(tmp_path, [pool], [(1, 1, 4), (1, 1, 1)])
    for kernels in set(sparse_cpu.kernels()) - {"scalar"}:  # whose one tile takes a tenth of the limit
        with pytest.raises(UserError, match=r"4 GiB|stride"):
            sparse_cpu.load(path, {"kernels": kernels})

"""The sparse runtime's library, built once for all of its tests, and the emulator for the kernels of another CPU."""

import shutil

import pytest
from kernel_library import SETS, Library, Runner, build_runner, static_runner

from export import native
from runtimes.sparse_cpu import library

EMULATOR = "qemu-aarch64-static"


def needs_compiler():
    lacks = native.lacks_compiler()
    if lacks:
        pytest.skip(lacks)


@pytest.fixture(scope="session")
def sparse_library():
    """The library for this machine."""
    needs_compiler()
    return Library(native.build_library(library.triple()))


@pytest.fixture(scope="session")
def neon_runner():
    """`run_program` for 64-bit ARM, in an emulator."""
    needs_compiler()
    emulator = shutil.which(EMULATOR)
    if emulator is None:
        pytest.skip(f"{EMULATOR} is not installed (Debian: qemu-user-static): NEON cannot be tried here")
    return Runner(static_runner("aarch64-linux-musl"), [emulator])


@pytest.fixture(scope="session")
def checked_runner(tmp_path_factory):
    """`run_program` with the library that ASan and UBSan watch; both end it at the first fault."""
    needs_compiler()
    asan = native.asan_runtime()
    if asan is None:
        pytest.skip("no libasan of this machine's gcc: nothing can watch the library")
    built = native.build_library(library.triple(), sanitize=True)
    environment = {"LD_PRELOAD": str(asan), "ASAN_OPTIONS": "detect_leaks=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    return Runner(build_runner(built, tmp_path_factory.mktemp("checked")), environment=environment)


@pytest.fixture(params=[name for name in SETS if name != "neon"])
def kernels(request, sparse_library):
    """The name of each set of kernels that this CPU may have."""
    if request.param not in sparse_library.kernels:
        pytest.skip(f"this CPU, or its system, has no {request.param}")
    return request.param

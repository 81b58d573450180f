"""Where the compiled library is looked for, and what is said where it is not there or is not for this machine."""

import os
import shutil
import subprocess
import sys

import pytest

from export import native
from runtimes import sparse_cpu
from runtimes.errors import UserError
from runtimes.sparse_cpu import library

pytestmark = pytest.mark.skipif(native.lacks_compiler() is not None, reason=str(native.lacks_compiler()))


@pytest.fixture(scope="module")
def built():
    return native.build_library(library.triple())


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No library in the cache, none named."""
    monkeypatch.delenv(library.PATH_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_host_finds_what_it_has_built(built, monkeypatch):
    monkeypatch.delenv(library.PATH_VARIABLE, raising=False)
    assert library.find({}).read_bytes() == built.read_bytes()
    assert sparse_cpu.missing() is None


def test_a_named_library_comes_before_the_bundles_and_the_caches(built, nowhere, monkeypatch):
    program, named, in_environment = nowhere / "net.program.json", nowhere / "named.so", nowhere / "environment.so"
    bundled = nowhere / "libraries" / library.triple() / library.NAME
    for path in (named, in_environment, bundled):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(built, path)
    assert library.find({}, program) == bundled.resolve()
    monkeypatch.setenv(library.PATH_VARIABLE, str(in_environment))
    assert library.find({}, program) == in_environment.resolve()
    assert library.find({"library": str(named)}, program) == named.resolve()


def test_the_newest_build_of_these_sources_is_taken_from_the_cache(built, nowhere):
    places = [library.cache() / f"{library.digest(library.NATIVE)}-{end}" / library.triple() for end in ("a", "b", "c")]
    other = library.cache() / "0123456789ab-d" / library.triple()
    for place in (*places, other):
        place.mkdir(parents=True)
        shutil.copyfile(built, place / library.NAME)
    for age, place in zip((3, 1, 2), places, strict=True):
        stamp = 1e9 - age
        os.utime(place / library.NAME, (stamp, stamp))
    assert library.find({}) == (places[1] / library.NAME).resolve()


def test_a_missing_library_says_how_to_get_one(nowhere):
    told = sparse_cpu.missing()
    assert library.triple() in told
    assert "python -m export.native" in told
    with pytest.raises(UserError, match=r"gone\.so is not there"):
        library.find({"library": str(nowhere / "gone.so")})


def test_a_library_for_another_machine_is_the_users_error(nowhere):
    stranger = nowhere / "stranger.so"
    stranger.write_bytes(b"\x7fELF" + bytes(60))
    with pytest.raises(UserError, match=f"cannot be loaded on this {library.triple()}"):
        library.open_library(stranger)


def test_the_wrapper_declares_every_function_of_the_header(built):
    declared = library.open_library(built)
    header = (library.NATIVE / "edgeprune_sparse.h").read_text()
    for name in ("es_load", "es_run", "es_input_floats", "es_output_floats", "es_describe", "es_profile", "es_free"):
        assert f"{name}(" in header
        assert getattr(declared, name).argtypes is not None
    assert f"ES_MAX_THREADS = {library.MAX_THREADS} " in header
    assert declared.es_kernels().decode().split()[-1] == "scalar"


def test_importing_the_runtime_loads_no_library(nowhere):
    code = "import runtimes.sparse_cpu, runtimes.sparse_cpu.library as l; raise SystemExit(bool(l._loaded))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

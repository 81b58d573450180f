"""Where the compiled library is looked for, and what is said where it is not there or is not for this machine."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import native
from runtimes import sparse_cpu
from runtimes.errors import UserError
from runtimes.files import sha256
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


def put(built, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(built, path)
    return path.resolve()


def bundled(built, root):
    """A library in a bundle, and the manifest that lists it."""
    path = put(built, root / "libraries" / library.triple() / library.NAME)
    (root / "manifest.json").write_text(json.dumps({"files": {path.relative_to(root).as_posix(): sha256(path)}}))
    return path


def test_the_nearest_library_is_taken_and_one_that_is_named_before_all(built, nowhere, monkeypatch):
    program = nowhere / "net.program.json"
    theirs = bundled(built, nowhere)
    assert library.find({}, program) == theirs
    cached = put(built, library.cache() / f"{library.digest(library.NATIVE)}-a" / library.triple() / library.NAME)
    assert library.find({}, program) == cached, "of these sources; the program's bundle may be of others"
    monkeypatch.setattr(library, "_BUNDLE", nowhere / "own")
    assert library.find({}, program) == cached
    own = bundled(built, nowhere / "own")
    assert library.find({}, program) == own
    in_environment, named = put(built, nowhere / "environment.so"), put(built, nowhere / "named.so")
    monkeypatch.setenv(library.PATH_VARIABLE, str(in_environment))
    assert library.find({}, program) == in_environment
    assert library.find({"library": str(named)}, program) == named


@pytest.mark.parametrize("change", ["not listed", "no manifest", "another file"])
def test_a_library_that_its_bundle_does_not_list_is_not_loaded(built, nowhere, change):
    path, manifest = bundled(built, nowhere), nowhere / "manifest.json"
    if change == "not listed":
        manifest.write_text(json.dumps({"files": {}}))
    elif change == "no manifest":
        manifest.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(UserError, match="there is no"):
        library.find({}, nowhere / "net.program.json")


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


def test_something_else_and_the_library_of_another_edgeprune_are_the_users_errors(built, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot be loaded on this"):
        library.open_library(Path(np.random.mtrand.__file__))
    monkeypatch.setattr(library, "ABI", library.ABI + 1)
    copy = put(built, tmp_path / "older.so")
    with pytest.raises(UserError, match=rf"older\.so has interface {library.ABI - 1}, and this edgeprune knows"):
        library.open_library(copy)


@pytest.mark.parametrize("failure", [ValueError, OSError, AttributeError])
def test_a_c_library_that_does_not_know_its_name_is_musl(monkeypatch, failure):
    """musl answers EINVAL, which is an OSError where Python was built beside glibc, and a ValueError elsewhere."""

    def unknown(name):
        raise failure(22, "Invalid argument")

    monkeypatch.setattr(os, "confstr", unknown)
    assert library.triple().endswith("-linux-musl")


def test_a_user_without_a_home_folder_has_no_cache(monkeypatch):
    monkeypatch.delenv(library.PATH_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert "there is no" in sparse_cpu.missing()
    with pytest.raises(UserError, match="no home folder"):
        native.build_library("x86_64-linux-gnu")


def test_bundles_bring_it_for_every_system_with_glibc_that_it_is_built_for():
    assert set(library.BUNDLED) == {name for name, each in native.TRIPLES.items() if not each.musl}


def test_the_wrapper_declares_every_function_of_the_header(built):
    declared = library.open_library(built)
    header = (library.NATIVE / "edgeprune_sparse.h").read_text()
    names = {"es_load", "es_run", "es_input_floats", "es_output_floats", "es_describe", "es_profile", "es_kernels"}
    assert names | {"es_free", "es_abi"} == set(re.findall(r"ES_API[^;(]*?\b(es_\w+)\(", header))
    for name in names:
        assert getattr(declared, name).argtypes is not None
    assert f"ES_MAX_THREADS = {library.MAX_THREADS} " in header
    assert f"ES_ABI = {library.ABI} " in header
    assert declared.es_kernels().decode().split()[-1] == "scalar"


def test_importing_the_runtime_loads_no_library(nowhere):
    code = "import runtimes.sparse_cpu, runtimes.sparse_cpu.library as l; raise SystemExit(bool(l._loaded))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

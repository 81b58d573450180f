"""The compiled library: what it exports and asks of a system, and the cache that holds it."""

import errno
import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from elf import read_elf

from export import native
from runtimes.errors import UserError
from runtimes.sparse_cpu import library

pytestmark = pytest.mark.skipif(native.lacks_compiler() is not None, reason=str(native.lacks_compiler()))

FLOORS = {"x86_64-linux-gnu": (2, 17), "aarch64-linux-gnu": (2, 31)}
HEADER = (library.NATIVE / "edgeprune_sparse.h").read_text()
TOYS = {
    "toy.c": '#include "toy.h"\nES_API int es_answer(void) { return hidden(); }\nint hidden(void) { return 42; }\n',
    "toy.h": '#define ES_API __attribute__((visibility("default")))\nint hidden(void);\n',
    "kernels_avx512.c": "#ifndef __AVX512VL__\n#error its flags are missing\n#endif\nint es_avx512;\n",
    "kernels_avx2.c": "#if !defined __AVX2__ || defined __AVX512F__\n#error other flags\n#endif\nint es_avx2;\n",
    "kernels_neon.c": "#ifndef __aarch64__\n#error not for this architecture\n#endif\nint es_neon;\n",
    "kernels_scalar.c": "#ifdef __AVX2__\n#error flags of another set\n#endif\nint es_scalar;\n",
    "example/classify.c": '#include <stdio.h>\n#include "toy.h"\nint es_answer(void);\n'
    'int main(void) { printf("%d\\n", es_answer()); return 0; }\n',
}


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """Sources that compile in no time, and an empty cache."""
    folder = tmp_path / "native"
    for name, text in TOYS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    zig = os.environ.get("ZIG_GLOBAL_CACHE_DIR") or library.cache().parent.parent / "zig"
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(zig))  # the compiler's own: it has built the C library's stubs
    monkeypatch.setattr(library, "NATIVE", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


def exported_by_the_header():
    return set(re.findall(r"ES_API[^;(]*?\b(es_\w+)\(", HEADER))


@pytest.mark.parametrize("triple", FLOORS)
def test_the_library_exports_its_header_and_runs_on_old_systems(triple):
    found = read_elf(native.build_library(triple))
    assert found.machine == native.TRIPLES[triple].architecture
    assert exported_by_the_header() <= found.exported
    assert all(name.startswith("es_") for name in found.exported)
    assert found.needed
    assert max(found.needed) <= FLOORS[triple]
    assert not found.executable_stack


def test_the_reader_of_shared_objects_sees_an_executable_stack_and_a_newer_system(tmp_path):
    source, made = tmp_path / "new.c", tmp_path / "new.so"
    source.write_text("#include <stdlib.h>\nunsigned stranger(void) { return arc4random(); }\n")  # of glibc 2.36
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "x86_64-linux-gnu.2.36", "-shared", "-O1"]
    subprocess.run([*command, "-o", str(made), str(source)], check=True)
    found = read_elf(made)
    assert "stranger" in found.exported
    assert max(found.needed) == (2, 36)
    assert not found.executable_stack
    data = bytearray(made.read_bytes())
    stack = data.index(struct.pack("<2I", 0x6474E551, 6))  # PT_GNU_STACK, readable and writable
    struct.pack_into("<I", data, stack + 4, 7)
    made.write_bytes(data)
    assert read_elf(made).executable_stack


def test_the_header_compiles_as_c_and_as_cpp_without_a_warning(tmp_path):
    for suffix, language in ((".c", "cc"), (".cpp", "c++")):
        source = tmp_path / f"use{suffix}"
        source.write_text(
            '#include "edgeprune_sparse.h"\nint main(void) { return es_kernels() && es_load("", 0, 0, 0) ? 0 : 1; }\n'
        )
        command = [sys.executable, "-m", "ziglang", language, "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        command += ["-c", "-o", str(tmp_path / "use.o"), f"-I{library.NATIVE}", str(source)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr


@pytest.mark.parametrize("triple", FLOORS)
def test_each_set_of_kernels_is_compiled_with_its_own_flags(toys, triple):
    found = read_elf(native.build_library(triple))
    assert found.exported == {"es_answer"}


def test_a_build_is_taken_from_the_cache_until_a_source_changes(toys):
    first = native.build_library("x86_64-linux-gnu")
    stamp = first.stat().st_mtime_ns
    assert native.build_library("x86_64-linux-gnu") == first
    assert first.stat().st_mtime_ns == stamp
    (toys / "toy.h").write_text(TOYS["toy.h"] + "\n")
    second = native.build_library("x86_64-linux-gnu")
    assert second != first
    assert {path.name for path in library.cache().iterdir()} == {first.parts[-3], second.parts[-3]}, "nothing is left"


def test_other_flags_and_another_compiler_are_other_builds(toys, monkeypatch):
    found = {native.build_library("x86_64-linux-gnu")}
    monkeypatch.setattr(native, "FLAGS", (*native.FLAGS, "-DOTHER"))
    found.add(native.build_library("x86_64-linux-gnu"))
    monkeypatch.setattr(native.importlib.metadata, "version", lambda name: "another")
    found.add(native.build_library("x86_64-linux-gnu"))
    assert len(found) == 3
    assert {library.digest(toys)} == {path.parts[-3].partition("-")[0] for path in found}, "the runtime finds them all"


def test_two_at_once_leave_one_whole_library(toys):
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(native.build_library, ["x86_64-linux-gnu"] * 2)
    assert first == second
    assert read_elf(first).exported == {"es_answer"}
    assert [path.name for path in first.parent.iterdir()] == [library.NAME]


def test_the_same_sources_make_the_same_bytes(toys, tmp_path, monkeypatch):
    first = native.build_library("aarch64-linux-gnu").read_bytes()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert native.build_library("aarch64-linux-gnu").read_bytes() == first


def test_an_example_loads_the_library_that_lies_beside_it(toys):
    if library.triple() not in FLOORS:
        pytest.skip(f"no example for {library.triple()} can run here")
    built = native.build_example(library.triple())
    assert subprocess.run([str(built)], capture_output=True, text=True, check=True).stdout == "42\n"
    (built.parent / library.NAME).unlink()
    assert subprocess.run([str(built)], capture_output=True, check=False).returncode != 0


def test_sources_that_do_not_compile_are_our_bug(toys):
    (toys / "toy.c").write_text("int es_answer(void) { return missing(); }\n")
    with pytest.raises(RuntimeError, match="missing"):
        native.build_library("x86_64-linux-gnu")
    assert not list(library.cache().iterdir())


def test_without_a_compiler_and_for_a_strange_machine_the_user_is_told(toys, monkeypatch):
    with pytest.raises(UserError, match="unknown triple 'riscv64-linux-gnu'"):
        native.build_library("riscv64-linux-gnu")
    monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install ziglang"):
        native.build_library("x86_64-linux-gnu")


def test_a_cache_that_cannot_be_written_is_the_users_error(toys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    with monkeypatch.context() as changed:
        changed.setenv("ZIG_GLOBAL_CACHE_DIR", str(tmp_path / "file"))
        with pytest.raises(UserError, match="cannot be built") as told:
            native.build_library("x86_64-linux-gnu")
        assert "ZIG_GLOBAL_CACHE_DIR" in told.value.hint
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written") as told:
        native.build_library("x86_64-linux-gnu")
    assert "set XDG_CACHE_HOME" in told.value.hint


def test_a_full_disk_is_the_users_error(toys, monkeypatch):
    def full(made, kept):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(native, "_put", full)
    with pytest.raises(UserError, match="no room to write") as told:
        native.build_library("x86_64-linux-gnu")
    assert "set XDG_CACHE_HOME" in told.value.hint


def test_a_compiler_without_a_record_of_its_installation_tells_its_version_itself(monkeypatch):
    def unknown(name):
        raise native.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(native.importlib.metadata, "version", unknown)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", native.compiler_version())


def test_the_command_builds_what_it_is_asked_for_and_says_in_two_lines_what_it_cannot(toys, capsys):
    assert native.main(["x86_64-linux-gnu"]) == 0
    assert Path(capsys.readouterr().out.strip()).name == library.NAME
    assert native.main(["x86_64-linux-gmu"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 2

"""Parsing and building: the way that is taken in each generation, and the two lines where there is none.

The generations are stand-ins with the published names. The building of real files is in `test_trt_check.py`.
"""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path

import pytest
from trt_stand_ins import ELSEWHERE, RELEASES, SPARSITY, Release

from runtimes import null
from runtimes.errors import UserError
from runtimes.trt_adapter import OPTIONAL, Journal, Library, find_library
from runtimes.trt_build import Built, build
from runtimes.trt_wishes import OF_OTHERS, Wishes, read_wishes

TYPED = RELEASES[1:]


@pytest.fixture
def file(tmp_path):
    def write(text: str):
        path = tmp_path / "model.onnx"
        path.write_text(text)
        return path

    return write


def built(release: Release, path, wishes: Wishes = Wishes(), journal: Journal | None = None, **more) -> Built:  # noqa: B008
    return build(Library(release.module), path, wishes, journal or Journal(), **more)


@pytest.mark.parametrize(
    ("held", "flags"), [("fp32", []), ("fp16", ["FP16"]), ("int8", ["INT8"])], ids=["fp32", "fp16", "int8"]
)
def test_8_6_gets_the_precision_flags_that_the_file_needs(file, held: str, flags: list[str]) -> None:
    release = Release("8.6.1")
    record = built(release, file(f"held={held}")).record
    assert record["flags"] == sorted([*flags, "SPARSE_WEIGHTS"])
    assert (record["strongly_typed"], record["precision"]) == (False, held)
    assert record["network_flags"] == ["EXPLICIT_BATCH"]


@pytest.mark.parametrize("held", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("version", TYPED)
def test_later_releases_take_the_types_of_the_file(file, version: str, held: str) -> None:
    release = Release(version)
    record = built(release, file(f"held={held}")).record
    assert record["flags"] == ["SPARSE_WEIGHTS"]
    assert (record["strongly_typed"], record["precision"]) == (True, held)


@pytest.mark.parametrize("version", RELEASES)
def test_network_flags_are_bits_of_the_names_that_exist(file, version: str) -> None:
    release = Release(version)
    record = built(release, file("held=fp32")).record
    flags = release.module.NetworkDefinitionCreationFlag
    assert release.said("network") == [sum(1 << int(flag) for flag in flags)]
    assert record["network_flags"] == sorted(flag.name for flag in flags)


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "10.13.3.9"])
def test_fp16_from_an_fp32_file_is_a_flag_on_a_network_without_strong_types(file, version: str) -> None:
    release = Release(version)
    record = built(release, file("held=fp32"), Wishes(precision="fp16")).record
    assert record["flags"] == ["FP16", "SPARSE_WEIGHTS"]
    assert (record["strongly_typed"], record["precision"], record["network_flags"]) == (
        False,
        "fp16",
        ["EXPLICIT_BATCH"],
    )


@pytest.mark.parametrize(
    ("version", "held", "asked", "words"),
    [
        ("11.4.0.106", "fp32", "fp16", "holds fp32, and TensorRT 11.4.0.106 makes no fp16 of it"),
        ("8.6.1", "fp32", "int8", "holds fp32, and int8 is asked for"),
        ("10.3.0", "int8", "fp16", "holds int8, and fp16 is asked for"),
        ("10.3.0", "fp16", "fp32", "holds fp16, and fp32 is asked for"),
    ],
)
def test_a_precision_that_is_not_there_is_refused(file, version: str, held: str, asked: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        built(Release(version), file(f"held={held}"), Wishes(precision=asked))
    assert f"--precision {asked}" in caught.value.hint


def test_sparse_kernels_are_not_allowed_where_they_are_not_wanted(file) -> None:
    assert built(Release("10.3.0"), file("held=fp16"), Wishes(sparsity=False)).record["flags"] == []


@pytest.mark.parametrize("version", RELEASES)
def test_the_record_says_what_the_release_does_not_have(file, version: str) -> None:
    release = Release(version)
    record = built(release, file("held=fp32")).record
    assert set(record["not_available"]) == set(OPTIONAL) - release.names
    assert record["built_for"] is None


@pytest.mark.parametrize("batch", [1, 8, 100])
def test_one_batch_is_all_that_an_engine_takes(file, batch: int) -> None:
    assert built(Release("10.3.0"), file("held=fp32"), Wishes(batch=batch)).record["batches"] == [batch] * 3


@pytest.mark.parametrize("batch", [4, None])
def test_a_fixed_batch_needs_no_profile(file, batch: int | None) -> None:
    assert built(Release("10.3.0"), file("held=fp32 batch=4"), Wishes(batch=batch)).record["batches"] == [4, 4, 4]


def test_a_fixed_batch_that_is_not_the_one_asked_for_is_refused(file) -> None:
    with pytest.raises(UserError, match=r"model\.onnx takes batches of 4, not of 2") as caught:
        built(Release("10.3.0"), file("held=fp32 batch=4"), Wishes(batch=2))
    assert "--batch" in caught.value.hint


@pytest.mark.parametrize(
    ("wished", "available", "limit"),
    [(256, 100, 256), (None, None, 1024), (None, 8000, 1024), (None, 2000, 500), (None, 2, 1)],
)
def test_the_builder_is_limited_and_keeps_the_names_of_kernels(file, wished, available, limit) -> None:
    release = Release("10.3.0")
    found = built(release, file("held=fp32"), Wishes(workspace_mb=wished), available_mb=available)
    assert release.said("limit") == [("WORKSPACE", limit * 2**20)]
    assert found.record["workspace_mb"] == limit
    assert [verbosity for _, verbosity in release.said("build")] == ["DETAILED"]


@pytest.mark.parametrize(
    ("content", "state", "kept"),
    [(b"", "new", b"+"), (b"timings", "used", b"timings+"), (ELSEWHERE, "replaced", b"+")],
)
def test_a_timing_cache_is_used_where_it_fits(file, content: bytes, state: str, kept: bytes) -> None:
    found = built(Release("10.3.0"), file("held=fp32"), timing_cache=content)
    assert (found.record["timing_cache"], found.timing_cache) == (state, kept)


@pytest.mark.parametrize("version", RELEASES)
def test_an_operator_that_is_refused_is_named_in_every_generation(file, version: str) -> None:
    """8.6 tells layer and operator only in its log."""
    with pytest.raises(UserError) as caught:
        built(Release(version), file("held=fp32 fail=parse"))
    message = caught.value.message
    assert message.startswith(f"TensorRT {version} refuses model.onnx: layer 'layer3/frob' (Frob), UNSUPPORTED_NODE: ")
    assert "no importer for it" in message
    assert ("(in block)" in message) == (version != "8.6.1")
    assert "(and 1 more)" in message
    assert "\n" not in message + caught.value.hint


def test_what_cannot_be_built_is_told_in_tensorrt_s_words(file) -> None:
    journal = Journal()
    with pytest.raises(UserError, match=r"cannot build model\.onnx: no implementation for layer3/frob"):
        built(Release("10.3.0"), file("held=fp32 fail=build"), journal=journal)
    assert journal.kept[0].startswith("[W] [TRT] Skipping tactic")


def test_a_release_that_builds_only_for_its_own_gpu_says_so(file) -> None:
    with pytest.raises(UserError, match="builds only for the GPU that is here"):
        built(Release("10.3.0"), file("held=fp32"), without_gpu=True)


def test_a_missing_file_is_told(tmp_path) -> None:
    with pytest.raises(UserError, match="is missing"):
        built(Release("10.3.0"), tmp_path / "no.onnx")


def test_the_journal_writes_all_and_keeps_what_matters(file, tmp_path) -> None:
    with (tmp_path / "log").open("w+") as log:
        journal = Journal(log)
        built(Release("10.3.0"), file("held=fp32"), journal=journal)
        journal.take("VERBOSE", "chatter")
        log.seek(0)
        assert log.read().splitlines() == [*(f"[V] [TRT] {line}" for line in SPARSITY), "[V] [TRT] chatter"]
    assert journal.kept == [f"[V] [TRT] {line}" for line in SPARSITY]


def test_many_lines_of_one_kind_do_not_push_out_another() -> None:
    journal = Journal()
    for number in range(1000):
        journal.take("VERBOSE", f"Skipping tactic {number} due to exception")
        journal.take("WARNING", f"careful {number}")
    last = [("VERBOSE", "Skipping tactic 1 due to insufficient memory"), ("WARNING", "x was not allocated"),
            ("ERROR", "it broke"), ("VERBOSE", SPARSITY[1])]  # fmt: skip
    for line in last:
        journal.take(*line)
    assert len(journal.kept) < 200
    assert journal.kept[0].startswith("[V] [TRT] Skipping tactic 0 due to exception")
    assert [line.partition("[TRT] ")[2] for line in journal.kept[-4:]] == [message for _, message in last]


def test_chatter_is_not_kept() -> None:
    journal = Journal()
    for line in ("Allocated 5 bytes", "all is well"):
        journal.take("VERBOSE", line)
    assert journal.kept == []


def test_an_error_of_an_earlier_step_is_not_the_cause_of_a_later_failure(file, monkeypatch) -> None:
    release = Release("10.3.0")

    def stale(self, cache, ignore_mismatch):
        if not cache._content:
            return type(self)._set(self, cache, ignore_mismatch)
        journal.take("ERROR", "the timing cache is for another device")
        return False

    journal = Journal()
    kind = release.module.IBuilderConfig
    kind._set = kind.set_timing_cache
    monkeypatch.setattr(kind, "set_timing_cache", stale)
    monkeypatch.setattr(release.module.Builder, "build_serialized_network", lambda self, network, config: None)
    with pytest.raises(UserError, match=r"cannot build model\.onnx: it gave no engine and no reason"):
        built(release, file("held=fp32"), journal=journal, timing_cache=b"old")
    assert any("another device" in line for line in journal.kept)


class FullDisk(io.StringIO):
    """Takes one line."""

    def write(self, text: str) -> int:
        if self.getvalue():
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_a_full_disk_ends_the_log_and_not_the_build(file) -> None:
    journal, beats = Journal(FullDisk()), []
    journal._beat = lambda: beats.append(1)
    assert built(Release("10.3.0"), file("held=fp32"), journal=journal).plan
    assert journal.log_failure == "the log ends early: [Errno 28] No space left on device"
    assert beats == [1]
    journal.end_log()


def test_what_fails_at_the_end_of_the_log_is_told_too() -> None:
    class Last(io.StringIO):
        def close(self) -> None:
            raise OSError(28, "No space left on device")

    journal = Journal(Last())
    journal.end_log()
    assert "No space left" in journal.log_failure


def test_a_beat_is_given_at_most_once_a_second(monkeypatch) -> None:
    now, beats = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    journal = Journal(beat=lambda: beats.append(now[0]))
    for _ in range(50):
        journal.take("VERBOSE", "chatter")
        now[0] += 0.1
    assert 4 <= len(beats) <= 6
    assert min(later - earlier for earlier, later in itertools.pairwise(beats)) >= 1.0


def test_a_failing_beat_ends_the_build_afterwards_and_not_in_the_midst_of_c(file) -> None:
    def broken() -> None:
        raise BrokenPipeError("nobody listens")

    with pytest.raises(BrokenPipeError):
        built(Release("10.3.0"), file("held=fp32"), journal=Journal(beat=broken))


def test_options_are_read() -> None:
    assert read_wishes({}) == Wishes(1, None, True, None, 0)
    asked = {"batch": "4", "precision": "int8", "sparsity": "0", "workspace_mb": "64", "build": "2", "threads": "2"}
    assert read_wishes(asked) == (4, "int8", False, 64, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"batch": "0"},
        {"batch": "x"},
        {"precision": "fp8"},
        {"sparsity": "yes"},
        {"workspace_mb": "-1"},
        {"build": "-1"},
        {"cuda_graph": "yes"},
    ],
)
def test_an_option_out_of_range_is_told(options: dict[str, str]) -> None:
    with pytest.raises(UserError, match=f"the option {next(iter(options))} is"):
        read_wishes(options)


def test_a_name_that_no_runtime_has_is_refused_and_that_of_another_is_not() -> None:
    with pytest.raises(UserError, match="unknown option 'cuda_grap'") as caught:
        read_wishes({"cuda_grap": "1"})
    assert "did you mean 'cuda_graph'?" in caught.value.hint
    assert read_wishes({"busy_us": "5"}) == Wishes()


def test_the_options_of_others_are_theirs() -> None:
    for name in OF_OTHERS:
        with pytest.raises(UserError, match=f"option {name} is 'x'"):
            null.load(Path("none"), {name: "x"})


def test_without_any_tensorrt_the_hint_says_how_to_get_one(monkeypatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="TensorRT is not installed") as caught:
        find_library()
    assert "uv sync --group builder" in caught.value.hint
    assert "pip install tensorrt-rtx-cu13" in caught.value.hint


def test_tensorrt_comes_before_tensorrt_for_rtx(monkeypatch) -> None:
    release = Release("10.3.0")
    monkeypatch.setitem(sys.modules, "tensorrt", release.module)
    assert find_library().title == "TensorRT 10.3.0"

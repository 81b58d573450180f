"""Software of a Jetson: captured release files and package rows, the table of JetPacks, and what comes first."""

from __future__ import annotations

import pytest
from board_prints import CAPTURED, NOTHING, Programs, printed, tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board import releases
from runtimes.board.releases import Release, jetpack_of, parse_nv_tegra_release, parse_packages

# L4T, when it was built (UTC, 24 hours), and the JetPack that brought it: by hand.
RELEASES = {
    "nv_tegra_release-r32.7.1.txt": ("32.7.1", "2022-02-02T21:33:23", "4.6.1"),
    "nv_tegra_release-r35.3.1.txt": ("35.3.1", "2023-03-19T15:19:21", "5.1.1"),
    "nv_tegra_release-r35.4.1.txt": ("35.4.1", "2023-08-01T19:57:35", "5.1.2"),
    "nv_tegra_release-r36.4.0.txt": ("36.4.0", "2024-09-13T04:36:44", "6.1"),
    "nv_tegra_release-r36.4.4.txt": ("36.4.4", "2025-06-16T16:07:13", "6.2.1"),
    "nv_tegra_release-r38.2.0.txt": ("38.2.0", "2025-08-22T00:55:42", "7.0"),
    "nv_tegra_release-r38.4.0.txt": ("38.4.0", "2025-12-31T00:15:19", "7.1"),
    "nv_tegra_release-r39.2.0.txt": ("39.2.0", "2026-06-01T21:28:48", "7.2"),
    "nv_tegra_release-r39.2.1.txt": ("39.2.1", "2026-08-07T05:54:22", "7.2.1"),
}
STATUS = """\
Package: nvidia-l4t-core
Status: install ok installed
Priority: standard
Version: 36.4.3-20250107174145

Package: libnvinfer10
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5
Description: TensorRT
 Package: not-a-package
 Version: 1.2.3

Package: libnvinfer8
Status: deinstall ok config-files
Version: 8.6.2.3-1+cuda12.2

Package: cuda-cudart-12-6
Status: install ok installed
Version: 12.6.68-1

Package: bash
Status: install ok installed
Version: 5.1-6ubuntu1
"""


@pytest.mark.parametrize("name", RELEASES)
def test_a_captured_release_file(name: str) -> None:
    l4t, built, jetpack = RELEASES[name]
    assert parse_nv_tegra_release(printed(name)) == Release(l4t, built)
    assert jetpack_of(l4t) == jetpack


def test_every_captured_release_is_looked_at() -> None:
    assert {path.name for path in CAPTURED.glob("nv_tegra_release-*")} == RELEASES.keys()


@pytest.mark.parametrize(("clock", "hour"), [("12:05:09 AM", "00"), ("12:05:09 PM", "12"), ("01:05:09 PM", "13")])
def test_noon_and_midnight_of_a_clock_with_12_hours(clock: str, hour: str) -> None:
    line = f"# R39 (release), REVISION: 2.0, GCID: 1, BOARD: generic, EABI: aarch64, DATE: Mon Jun  1 {clock} UTC 2026"
    assert parse_nv_tegra_release(line) == Release("39.2.0", f"2026-06-01T{hour}:05:09")


def test_a_release_without_a_known_date_is_still_a_release() -> None:
    assert parse_nv_tegra_release("# R36 (release), REVISION: 4.0, DATE: Mo 1 Mai") == Release("36.4.0", None)
    assert parse_nv_tegra_release("Ubuntu 22.04") is None


def test_captured_package_rows() -> None:
    assert parse_packages(printed("dpkg-tensorrt-jp7.2.1.txt")) == {
        "libnvinfer-bin": "10.16.2.10-1+cuda13.2",
        "libnvinfer10": "10.16.2.10-1+cuda13.2",
        "libnvinfer-lean10": "10.16.2.10-1+cuda13.2",
        "tensorrt": "10.16.2.10-1+cuda13.2",
        "nvidia-jetpack": "7.2.1-b49",
        "nvidia-l4t-core": "39.2.1-20260806224157",
    }


def plain(found: dict) -> dict:
    return {name: reading.value for name, reading in found.items()}


def test_a_board_with_jetpack_7_2_1(tmp_path) -> None:
    files = {
        "etc/nv_tegra_release": printed("nv_tegra_release-r39.2.1.txt"),
        "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "13.2.1"}, "nvcc": {"version": "9"}}',
    }
    rows = Programs({" ".join(releases._ROWS): printed("dpkg-tensorrt-jp7.2.1.txt")})
    found, apart = releases.releases(tree(tmp_path, files), rows)
    assert plain(found) == {
        "l4t": "39.2.1",
        "l4t_built": "2026-08-07T05:54:22",
        "jetpack": "7.2.1",
        "cuda": "13.2.1",
        "tensorrt": "10.16.2.10",
    }
    assert apart == []


def test_without_its_own_files_cuda_is_what_tensorrt_is_built_for(tmp_path) -> None:
    """As a captured board told it: no row of CUDA's own packages."""
    rows = Programs({" ".join(releases._ROWS): printed("dpkg-tensorrt-jp7.2.1.txt")})
    assert releases.releases(tmp_path, rows)[0]["cuda"].value == "13.2 (which TensorRT's package is built for)"
    rows = Programs({" ".join(releases._ROWS): "libnvinfer8 8.6.2-1+cuda12.2\nlibnvinfer10 10.3.0-1+cuda12.5\n"})
    found = releases.releases(tmp_path, rows)[0]
    assert found["cuda"].value is None
    assert found["tensorrt"].value == "10.3.0"


def test_dpkgs_own_file_is_read_without_asking_its_program(tmp_path) -> None:
    """Removed packages do not count, nor do lines of a description; the release file is newer than the package."""
    asked = Programs({})
    files = {"var/lib/dpkg/status": STATUS, "etc/nv_tegra_release": printed("nv_tegra_release-r36.4.0.txt")}
    found, apart = releases.releases(tree(tmp_path, files), asked)
    assert asked.asked == []
    assert releases.packages(tmp_path, asked).keys() == {"nvidia-l4t-core", "libnvinfer10", "cuda-cudart-12-6"}
    assert plain(found) == {
        "l4t": "36.4.0",
        "l4t_built": "2024-09-13T04:36:44",
        "jetpack": "6.1",
        "cuda": "12.6.68",
        "tensorrt": "10.3.0.30",
    }
    assert apart == ["/etc/nv_tegra_release says L4T 36.4.0, the package nvidia-l4t-core 36.4.3"]


def test_without_the_release_file_the_package_tells(tmp_path) -> None:
    found, apart = releases.releases(tree(tmp_path, {"var/lib/dpkg/status": STATUS}), NOTHING)
    assert (found["l4t"].value, found["jetpack"].value, apart) == ("36.4.3", "6.2", [])


def test_a_jetpack_that_is_not_known_is_not_guessed(tmp_path) -> None:
    line = printed("nv_tegra_release-r39.2.1.txt").replace("2.1,", "2.2,")
    found, _ = releases.releases(tree(tmp_path, {"etc/nv_tegra_release": line}), NOTHING)
    assert found["l4t"].value == "39.2.2"
    assert found["jetpack"] == (None, "unknown for L4T 39.2.2")
    assert found["cuda"].value is None
    assert found["tensorrt"].value is None


def test_cuda_10_tells_its_version_in_a_text_file(tmp_path) -> None:
    root = tree(tmp_path, {"usr/local/cuda/version.txt": "CUDA Version 10.2.300\n"})
    assert releases.releases(root, NOTHING)[0]["cuda"].value == "10.2.300"


def test_on_another_machine_every_none_has_its_reason(tmp_path) -> None:
    found, apart = releases.releases(tmp_path, NOTHING)
    assert apart == []
    assert all(reading.value is None and reading.reason for reading in found.values())
    assert found["l4t"].reason == found["jetpack"].reason == releases.NOT_A_JETSON


@given(st.text())
def test_no_text_makes_a_parser_fail(text: str) -> None:
    for parse in (
        parse_nv_tegra_release,
        parse_packages,
        releases.parse_dpkg_status,
        releases.parse_cuda_json,
        releases.parse_cuda_text,
    ):
        parse(text)

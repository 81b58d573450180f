"""What an engine's sidecar and its timing cache know of the machine."""

from __future__ import annotations

import pytest
from trt_stand_ins import Release

from runtimes.trt_adapter import Library
from runtimes.trt_store import Machine, power_mode, this_machine, timing_cache_path


@pytest.mark.parametrize(
    ("status", "modes", "expected"),
    [
        ("pmode:0002 fmode:fan_mode_quiet\n", "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n", "MAXN_SUPER (2)"),
        ("pmode:0001", "# < POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >", "25W (1)"),
        ("pmode:0001", "<POWER_MODEL ID=1 NAME=MODE_15W_6CORE>", "MODE_15W_6CORE (1)"),
        ("pmode:0003", "< POWER_MODEL ID=1 NAME=25W >", "mode 3"),
        ("pmode:0003", None, "mode 3"),
        ("not in a known form", None, None),
        (None, None, None),
    ],
)
def test_the_power_mode_is_read_where_there_is_one(tmp_path, status, modes, expected) -> None:
    for name, text in (("var/lib/nvpmodel/status", status), ("etc/nvpmodel.conf", modes)):
        if text is not None:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    assert power_mode(tmp_path) == expected


def test_the_board_has_a_name_where_the_device_tree_says_it(tmp_path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson Orin Nano Developer Kit\0")
    machine = this_machine(None, tmp_path)
    assert machine.board.endswith(", NVIDIA Jetson Orin Nano Developer Kit")
    assert machine.device is None
    assert "," not in this_machine(None, tmp_path / "nowhere").board


def test_timings_are_kept_apart_by_library_device_power_mode_and_build(tmp_path) -> None:
    library = Library(Release("10.3.0").module)
    orin = Machine("Orin", "8.7", 8, "aarch64", "12.6", "12.6", "25W (1)")
    newer = Library(Release("10.13.3.9").module)
    pairs = [
        (library, orin),
        (newer, orin),
        (library, orin._replace(power_mode="15W (0)")),
        (library, orin._replace(device="Xavier")),
        (library, orin._replace(multiprocessors=16)),
    ]
    caches = {timing_cache_path(tmp_path, *pair) for pair in pairs}
    caches |= {timing_cache_path(tmp_path, library, orin, build) for build in (1, 2)}
    assert len(caches) == len(pairs) + 2
    assert timing_cache_path(tmp_path, library, orin, 0) in caches
    assert timing_cache_path(tmp_path, library, orin) == timing_cache_path(
        tmp_path, library, orin._replace(driver="13")
    )

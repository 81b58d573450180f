"""The watch's samples from tegrastats: when it is taken, what it says, and how it is ended."""

import os
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest
from watched import NANO, WITHOUT_RAILS, Constant, program

from runtimes import watch_files, watch_tegrastats
from runtimes.readings import Reading
from runtimes.watch import Watch, open_source
from runtimes.watch_sources import Sample


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def children() -> str:
    """Of this thread, those that have ended and were not waited for among them."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()


def test_tegrastats_is_taken_where_it_is_on_the_path(tmp_path, nothing_on_the_path):
    program(nothing_on_the_path, f'echo $$ "$@" > {tmp_path}/said\nwhile :; do echo "{NANO}"; sleep 0.05; done')
    before = time.monotonic()
    with Watch(0.05, tmp_path) as watch:
        time.sleep(0.6)
        pid, *arguments = (tmp_path / "said").read_text().split()
        assert alive(int(pid))
    assert not alive(int(pid))
    assert arguments == ["--interval", "50"]
    seen = watch.seen()
    assert (seen.source, seen.power.value) == ("tegrastats", "tegrastats")
    first = seen.samples[0]
    rails = {"VDD_IN": 4825.0, "VDD_CPU_GPU_CV": 600.0, "VDD_SOC": 1400.0}
    assert first == Sample(first.at_s, 0.05, rails, 37, 305, 2133, 1510, 48.25, 1820)
    assert before < first.at_s < time.monotonic()
    times = [sample.at_s for sample in seen.samples]
    assert times == sorted(times)
    assert 5 < seen.rate_hz < 25


def test_somebody_elses_tegrastats_goes_on(tmp_path, nothing_on_the_path):
    program(nothing_on_the_path, f'while :; do echo "{NANO}"; sleep 0.05; done')
    with subprocess.Popen([nothing_on_the_path / "tegrastats"], stdout=subprocess.DEVNULL) as other:
        with Watch(0.05, tmp_path):
            time.sleep(0.2)
        assert other.poll() is None
        other.kill()


def test_the_processor_time_of_tegrastats_is_part_of_the_cost(tmp_path, nothing_on_the_path):
    """This one burns what it can get, with a pause of 50 ms in each turn; /proc knows what that was."""
    burn = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    program(nothing_on_the_path, f'echo $$ > {tmp_path}/pid\nwhile :; do {burn}; echo "{NANO}"; sleep 0.05; done')
    with Watch(0.05, tmp_path) as watch:
        time.sleep(1.0)
        ticks = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat").read_text().rpartition(")")[2].split()
        used = sum(map(int, ticks[11:15])) / os.sysconf("SC_CLK_TCK")
    assert used > 0.1
    assert watch.seen().overhead_cores == pytest.approx(used, rel=0.3)


@pytest.mark.parametrize(
    "body", ["exit 1", "echo tegrastats: permission denied; sleep 0.1", "exec sleep 60", "exec /no"]
)
def test_a_tegrastats_that_tells_nothing_gives_way_to_the_files(tmp_path, nothing_on_the_path, monkeypatch, body):
    monkeypatch.setattr(watch_tegrastats, "_FIRST_LINE_S", 0.3)
    program(nothing_on_the_path, body)
    before = children()
    assert open_source(0.05, tmp_path).name == "sysfs"
    assert children() == before


def test_a_tegrastats_that_cannot_be_run_gives_way_to_the_files_with_the_reason(
    tmp_path, nothing_on_the_path, monkeypatch, powered
):
    (nothing_on_the_path / "tegrastats").write_bytes(b"\x7fELF of another machine")
    (nothing_on_the_path / "tegrastats").chmod(0o755)
    why = "tegrastats cannot be run: Exec format error"
    monkeypatch.setattr(watch_files, "power_source", lambda root: Reading(None, "no rail here"))
    source = open_source(0.05, tmp_path)
    assert (source.name, source.note, source.power) == ("sysfs", why, (None, f"{why}; no rail here"))
    powered(Constant({"VDD_IN": 5.0}))
    with Watch(0.05, tmp_path) as watch:
        time.sleep(0.2)
    assert (watch.seen().note, watch.seen().power) == (why, ("made up", None))


def test_lines_that_are_not_understood_are_no_samples_and_do_not_pile_up(tmp_path, nothing_on_the_path):
    """One that is known, then ten that are not, then 2 MB without an end."""
    flood = "head -c 2000000 /dev/zero"
    lines = f'sleep 0.3; echo "{NANO}"; for i in 1 2 3 4 5 6 7 8 9 10; do echo what; done'
    program(nothing_on_the_path, f'echo "{NANO}"; {lines}; {flood}; exec sleep 60')
    with Watch(0.05, tmp_path) as watch:
        begin = time.monotonic()
        time.sleep(1.0)
        assert len(watch._source._unread) <= 1 << 16
    seconds = time.monotonic() - begin
    assert len(watch.seen().samples) == 2
    assert watch.seen().rate_hz * seconds == pytest.approx(1, rel=0.5)


def test_where_only_the_files_know_of_power_they_are_taken(tmp_path, nothing_on_the_path, powered):
    program(nothing_on_the_path, f'while :; do echo "{WITHOUT_RAILS}"; sleep 0.05; done')
    powered(Constant({"VDD_IN": 5.0}))
    source = open_source(0.05, tmp_path)
    source.close()
    assert source.name == "sysfs"


def test_where_nobody_knows_of_power_tegrastats_tells_the_rest(tmp_path, nothing_on_the_path):
    program(nothing_on_the_path, f'while :; do echo "{WITHOUT_RAILS}"; sleep 0.05; done')
    source = open_source(0.05, tmp_path)
    source.close()
    assert (source.name, source.power) == ("tegrastats", (None, "tegrastats prints no power rail that is known"))
    assert source.samples()[0].gpu_percent == 37


@pytest.mark.parametrize("end", ['printf "RAM 18"', "exec sleep 60"])
def test_a_tegrastats_that_dies_or_hangs_in_the_midst_is_told(tmp_path, nothing_on_the_path, end):
    program(nothing_on_the_path, f'echo "{NANO}"; sleep 0.1; echo "{NANO}"; {end}')
    with Watch(0.05, tmp_path) as watch:
        time.sleep(1.5)
    assert [sample.ram_used_mb for sample in watch.seen().samples] == [1820, 1820]
    assert watch.seen().rate_hz < 1
    assert re.fullmatch(r"tegrastats said nothing after 0\.\d s", watch.seen().stopped)

"""What a log shows of a run, with a clock that the test turns."""

from __future__ import annotations

import threading

import pytest

from edgeprune.progress import Bars, Lines, duration
from runtimes.errors import UserError


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == "", "standard output is for results"
    return captured.err.splitlines()


def test_a_step_says_when_it_begins_once_a_minute_and_when_it_ends(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """600 ticks, one a second: ten minutes."""
    with Lines(clock).step("retrain", 3, 7) as step:
        step.tick(1, 600, "epoch 1/6")
        assert said(capsys) == ["[3/7] retrain: at work"], "at once: a log is read while it is written"
        for done in range(2, 601):
            clock.now += 1
            step.tick(done, 600, f"epoch {1 + (done - 1) // 100}/6")
    lines = said(capsys)
    assert lines[0] == "[3/7] retrain: 61 of 600, epoch 1/6, about 9 min left"
    assert lines[8] == "[3/7] retrain: 541 of 600, epoch 6/6, about 59 s left"
    assert lines[9:] == ["[3/7] retrain: 599.0 s"]


def test_ticks_faster_than_a_minute_are_two_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(clock).step("export", 4, 7) as step:
        for done in range(1, 6):
            clock.now += 11
            step.tick(done, 5, "to ONNX")
    assert said(capsys) == ["[4/7] export: at work", "[4/7] export: 55.0 s"]


def test_a_skipped_step_has_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(clock).step("teach", 1, 7) as step:
        step.skipped()
    assert said(capsys) == ["[1/7] teach: already done"]


def test_a_resumed_training_and_a_second_one_are_estimated_by_their_own_pace(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Lines(clock).step("teach", 1, 7) as step:
        step.tick(900, 1000, "teacher")  # resumed: the 900 took none of this call's time
        clock.now += 100
        step.tick(950, 1000, "teacher")  # 2 s each
        step.tick(1, 1000, "dense")
        clock.now += 1000
        step.tick(101, 1000, "dense")  # 10 s each
    _, first, second, _ = said(capsys)
    assert first == "[1/7] teach: 950 of 1000, teacher, about 100 s left".replace("100 s", "2 min")
    assert second == "[1/7] teach: 101 of 1000, dense, about 2.5 h left"


def test_no_pace_no_estimate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Lines(clock).step("measure", 6, 7) as step:
        step.tick(0, 10, "load")
        clock.now += 70
        step.tick(0, 10, "load")
    assert said(capsys)[1] == "[6/7] measure: 0 of 10, load"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (3000, "50 min"), (9000, "2.5 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_steps_of_several_threads_each_have_their_lines(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    bars = Lines(clock)
    with bars.step("measure on a", 1, 2) as one, bars.step("measure on b", 2, 2) as two:
        two.tick(1, 4, "load")
        one.tick(1, 4, "load")
    lines = said(capsys)
    assert lines[:2] == ["[2/2] measure on b: at work", "[1/2] measure on a: at work"]


def test_bars_at_work_at_once_share_one_display_that_ends_with_the_last(capsys: pytest.CaptureFixture[str]) -> None:
    """A terminal library allows one live display: the second bar joins the first one's."""
    bars = Bars()

    def at_work(name: str, number: int) -> None:
        with bars.step(name, number, 2) as step:
            both.wait(20)
            step.tick(3, 4, "round 2 [/not markup]")
            step.tick(4, 4, "round 3")

    both = threading.Barrier(2)
    threads = [threading.Thread(target=at_work, args=(name, n)) for n, name in enumerate(("on a", "on b"), start=1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    shown = capsys.readouterr().err
    assert "[1/2] on a" in shown
    assert "[2/2] on b" in shown
    assert shown.count("100 %") == 2
    with bars.step("again", 1, 1) as step:
        with pytest.raises(UserError), bars.step("fails", 2, 2):
            raise UserError("gone", "come back")
        step.tick(1, 2, "half")
    assert "again" in capsys.readouterr().err, "a new display, and a failed step does not end it"

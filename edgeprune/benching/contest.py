"""The timing: every engine in a process of its own, in turns, one at a time, as in `runtimes.measure`.

There a bundle's networks are measured on runtimes of one interpreter. Here the runtimes are what is compared, each with
an interpreter of its own where it needs one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from edgeprune.benching.asked import REFERENCE, Asked
from edgeprune.benching.entrants import Entrant, Images, cpu_seconds, started
from edgeprune.benching.subjects import Subject
from runtimes import sampler
from runtimes.engine_process import EngineProcess
from runtimes.room import Room
from runtimes.trial import read_round
from runtimes.turns import Turns

Say = Callable[[str], None]
_LEAST_IDLE_S = 1.0  # processor time is counted in hundredths of a second
_FEWER = "measure fewer: --runtime for one runtime beside ort, or one --sparsity at a time"

Running = Sequence[tuple[Entrant, EngineProcess]]


def entrants_of(runtimes: Sequence[str], found: Sequence[Subject]) -> list[Entrant]:
    """Every network on every runtime, and a twin of the reference's first one, last."""
    own = [Entrant(runtime, subject) for subject in found for runtime in runtimes]
    return [*own, Entrant(REFERENCE, found[0], is_twin=True)]


def steps_of(entrants: Sequence[Entrant], asked: Asked) -> int:
    """How often `say` is called by `hold`."""
    each = 1 + asked.workload.rounds
    answered = sum(not entrant.is_twin for entrant in entrants)
    by_itself = sum(1 + rounds for rounds in _shares(asked.workload.rounds)) if asked.alone else 0
    return asked.workload.passes * (each * len(entrants) + by_itself) + answered


def hold(
    entrants: Sequence[Entrant], alone: Entrant | None, asked: Asked, images: Images, folder: Path, say: Say
) -> None:
    """Time all entrants in turns, in as many passes as the workload has, and have the images answered.

    `alone` is timed when no other engine is there: half of its rounds before each pass and half after it, so that a
    drift of the clock touches both alike.

    :raises UserError: an engine that cannot be loaded, too little memory, or a process that died or hung.
    """
    turns = Turns(len(entrants))
    for number in range(asked.workload.passes):
        begun = len(alone.rounds) if alone else 0
        before, *after = _shares(asked.workload.rounds)
        if alone is not None:
            _time_alone(alone, before, asked, images, folder, say)
        _time_pass(entrants, turns, asked, images, folder, say, watch_idle=number == 0, answers=number == 0)
        if alone is not None:
            for rounds in after:
                _time_alone(alone, rounds, asked, images, folder, say)
            alone.rounds[begun:] = [list(chain(*alone.rounds[begun:]))]  # one pass, as of the others


def _shares(rounds: int) -> list[int]:
    """The rounds before a pass and those after it; of a single one none is left for after."""
    return [rounds - rounds // 2, rounds // 2] if rounds > 1 else [rounds]


def _time_alone(alone: Entrant, rounds: int, asked: Asked, images: Images, folder: Path, say: Say) -> None:
    fewer = replace(asked, workload=asked.workload.changed(rounds=rounds))
    _time_pass([alone], Turns(1), fewer, images, folder, say, watch_idle=False, answers=False)


def _time_pass(
    entrants: Sequence[Entrant],
    turns: Turns,
    asked: Asked,
    images: Images,
    folder: Path,
    say: Say,
    *,
    watch_idle: bool,
    answers: bool,
) -> None:
    with started(entrants, asked, images, folder) as running:
        _load(running, say)
        if watch_idle:
            _watch_idle(running, max(_LEAST_IDLE_S, asked.workload.idle_s))
        _time_in_turns(running, turns, asked, say)
        if answers:
            _answer(running, images, folder, say)


def _load(running: Running, say: Say) -> None:
    twins = sum(entrant.is_twin for entrant, _ in running)
    room = Room(len(running) - twins, twins, _FEWER)
    for entrant, process in running:
        entrant.loaded.append(process.ask("load"))
        room.one_more()
        say(f"{process.name} load")


def _watch_idle(running: Running, seconds: float) -> None:
    """How much processor time each engine takes while it is blocked: threads that spin would slow the others down."""
    before = [cpu_seconds(process.pid) for _, process in running]
    time.sleep(seconds)
    for (entrant, process), begin in zip(running, before, strict=True):
        end = cpu_seconds(process.pid)
        entrant.idle_cpu = None if begin is None or end is None else (end - begin) / seconds


def _time_in_turns(running: Running, turns: Turns, asked: Asked, say: Say) -> None:
    turns.open()
    replies: list[list[dict[str, Any]]] = [[] for _ in running]
    for number in range(asked.workload.rounds):
        for place in turns.order():
            entrant, process = running[place]
            before = sampler.sample(cpus=asked.workload.cpus)
            reply = process.ask("round", silent_s=asked.workload.longest_round_s)
            seen = read_round(before, sampler.sample(cpus=asked.workload.cpus), reply["cpu_s"])
            entrant.other_cores += [seen.other_cores] if seen.other_cores >= 0 else []
            replies[place].append(reply)
            say(f"{process.name} round {number + 1}")
    for (entrant, _), timed in zip(running, replies, strict=True):
        entrant.rounds.append([reply["latency_ns"] for reply in timed])
        if timed[-1]["peak_rss"]:
            entrant.peak_bytes.append(timed[-1]["peak_rss"])


def _answer(running: Running, images: Images, folder: Path, say: Say) -> None:
    """All images through the engines that were timed; those of a runtime that answers nothing stay without."""
    for number, (entrant, process) in enumerate(running):
        classes = entrant.loaded[-1]["classes"]
        if entrant.is_twin:
            continue
        if classes:
            path = folder / f"answers-{number}.npy"
            process.ask("answer", path=str(path), n=images.n, classes=classes)
            entrant.answers = path
        say(f"{process.name} answers")

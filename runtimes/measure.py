"""The coordinator: every engine in a process of its own, timed in turns, one at a time.

    rounds of three engines:   A B C   B C A   C A B   A B C ...

Interleaving gives each engine the same share of whatever happens to the machine meanwhile, and rotating the order
gives each the same neighbours; so dense and sparse compare even where neither number is repeatable by itself. The
engines that are not being timed are blocked in a read and use no processor, but they do hold their memory.
"""

import contextlib
import datetime
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, TypeVar

from runtimes import RUNTIMES, sampler
from runtimes.bundle import Bundle, Network, verify
from runtimes.doubts import Evidence, doubts
from runtimes.engine_process import EngineProcess
from runtimes.jobs import Job, compiled, compiles, new_job
from runtimes.latency import summary_ms, throughput_ips
from runtimes.records import Measurement, Workload
from runtimes.tables import pick

_Entry = TypeVar("_Entry")
_NO_POWER = "no power rail is read here"
_NO_SCORE = "the host scores the logits: the labels stay there"
_MIB = float(1 << 20)


class RoundReading(NamedTuple):
    """What the coordinator saw of the machine around one round."""

    other_cores: float  # processors kept busy by anybody else; negative where it could not be read
    clock_mhz: float  # right after the round; negative where it could not be read


@dataclass
class Trial:
    """One network on one runtime while it is being measured."""

    network: Network
    runtime: str
    process: EngineProcess
    version: str = ""
    loaded: Dict[str, Any] = field(default_factory=dict)
    engine: Any = None  # the sidecar of a compiled engine
    rounds: List[List[int]] = field(default_factory=list)
    gpu_rounds: List[List[int]] = field(default_factory=list)
    enqueue_rounds: List[List[int]] = field(default_factory=list)
    launch: Any = None  # how the host hands the network over to the GPU
    readings: List[RoundReading] = field(default_factory=list)
    peak_rss: Any = None  # bytes, after the last timed round
    outputs: Dict[str, Any] = field(default_factory=dict)


class Progress:
    """Counts steps and writes one line for each: `progress DONE/TOTAL WHAT`."""

    def __init__(self, total: int, say: Callable[[str], None]) -> None:
        self._total, self._done, self._say = total, 0, say

    def step(self, what: str) -> None:
        """One more step is done."""
        self._done += 1
        self._say("progress {}/{} {}".format(self._done, self._total, what))


def rotated(entries: Sequence[_Entry], turn: int) -> List[_Entry]:
    """`entries` in order, starting from number `turn`, and around."""
    first = turn % len(entries)
    return [*entries[first:], *entries[:first]]


def measure(
    bundle: Bundle,
    out: Path,
    runtimes: Sequence[str],
    networks: Sequence[str],
    workload: Workload,
    say: Callable[[str], None],
) -> Dict[str, Measurement]:
    """Measure the named networks (all where none is named) on the named runtimes (the bundle's where none is named).

    Call it from the main thread: the workers end when the thread that started them does.

    Args:
        bundle: its files are hashed before anything is run.
        out: folder for `<runtime>-<network>.json` and `logits-<runtime>-<network>.npy`.
        workload: as the bundle has it, or changed.
        say: gets one line of progress at a time.

    Returns:
        Name of the JSON file -> what is in it, in the order of runtimes, then networks.

    Raises:
        UserError: an unknown name, a damaged bundle, a missing runtime, a network the runtime cannot load, or a
            worker that died or hung; no measurement is written then.
    """
    started_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    names = list(dict.fromkeys(runtimes or bundle.runtimes))
    for name in names:
        pick(RUNTIMES, name, "runtime")
    chosen = bundle.choose(networks)
    verify(bundle)
    before = sampler.changing()
    jobs = [new_job(bundle, name, network, workload) for name in names for network in chosen]
    progress = Progress(len(jobs) * (workload.rounds + 1 + workload.accuracy) + sum(map(compiles, jobs)), say)
    with _trials(compiled(jobs, progress.step)) as trials:
        _load(trials, progress)
        _time_in_turns(trials, workload.rounds, progress)
        facts = sampler.facts(before)
        if workload.accuracy:
            _answer_all(trials, out, bundle.images, progress)
    measured = {
        "{}.json".format(trial.process.name): _measurement(trial, bundle, workload, facts, started_at)
        for trial in trials
    }
    for name, measurement in measured.items():
        measurement.write(out / name)
    return measured


@contextlib.contextmanager
def _trials(jobs: Sequence[Job]) -> Iterator[List[Trial]]:
    """Start all workers at once; nothing is timed while they import their libraries."""
    with contextlib.ExitStack() as stack:
        trials = []
        for job in jobs:
            process = stack.enter_context(EngineProcess(job.network.name, job.runtime, job.content))
            trials.append(Trial(job.network, job.runtime, process, engine=job.engine))
        for trial in trials:
            trial.version = str(trial.process.answer("start")["runtime_version"])
        yield trials


def _load(trials: Sequence[Trial], progress: Progress) -> None:
    for trial in trials:
        trial.loaded = trial.process.ask("load")
        progress.step("{} load".format(trial.process.name))


def _time_in_turns(trials: Sequence[Trial], rounds: int, progress: Progress) -> None:
    for number in range(rounds):
        for trial in rotated(trials, number):
            before = sampler.sample()
            reply = trial.process.ask("round")
            after = sampler.sample()
            trial.rounds.append(reply["latency_ns"])
            trial.gpu_rounds += [reply["gpu_ns"]] if reply["gpu_ns"] else []
            trial.enqueue_rounds += [reply["enqueue_ns"]] if reply["enqueue_ns"] else []
            trial.launch = reply["launch"]
            trial.readings.append(read_round(before, after, reply["cpu_s"]))
            trial.peak_rss = reply["peak_rss"]
            progress.step("{} round {}".format(trial.process.name, number + 1))


def read_round(before: sampler.Sample, after: sampler.Sample, cpu_s: float) -> RoundReading:
    """What two samples around a round say, when the engine itself used `cpu_s` seconds of processor time in it."""
    other = -1.0
    if before.busy_s.value is not None and after.busy_s.value is not None:
        busy_s = after.busy_s.value - before.busy_s.value
        other = max(0.0, busy_s - cpu_s) / max(after.at_s - before.at_s, 1e-9)
    return RoundReading(other, -1.0 if after.clock_mhz.value is None else after.clock_mhz.value)


def _answer_all(trials: Sequence[Trial], out: Path, images: int, progress: Progress) -> None:
    """The accuracy pass: all images through the engines that were timed."""
    for trial in trials:
        if trial.loaded["classes"]:
            name = "logits-{}.npy".format(trial.process.name)
            path = str((out / name).resolve())
            found = trial.process.ask("answer", path=path, n=images, classes=trial.loaded["classes"])
            trial.outputs = {"file": name, **found}
        progress.step("{} answers".format(trial.process.name))


def _measurement(
    trial: Trial, bundle: Bundle, workload: Workload, facts: Mapping[str, Any], started_at: str
) -> Measurement:
    engine = _engine(trial)
    return Measurement(
        name=trial.network.name,
        runtime=trial.runtime,
        runtime_version=trial.version,
        device=None,
        precision=trial.network.precision,
        batch=workload.batch,
        threads=workload.threads,
        protocol=workload.protocol,
        workload=workload.to_json(),
        n=sum(map(len, trial.rounds)),
        latency_ns=trial.rounds,
        latency_ms=summary_ms(trial.rounds),
        throughput_ips=throughput_ips(trial.rounds, workload.batch),
        load_ms=trial.loaded["load_ms"],
        first_inference_ms=trial.loaded["first_inference_ms"],
        memory_mb=_memory_mb(trial),
        facts={**facts, "round_clock_mhz": _known(reading.clock_mhz for reading in trial.readings) or None},
        power_mw=None,
        harness_overhead_ns=trial.loaded["harness_overhead_ns"],
        warnings=doubts(_evidence(trial, workload, facts, engine or {})),
        outputs={key: value for key, value in trial.outputs.items() if key != "non_finite"} or None,
        gpu_ns=trial.gpu_rounds or None,
        gpu_ms=summary_ms(trial.gpu_rounds) if trial.gpu_rounds else None,
        receipt=trial.loaded["receipt"],
        engine=engine,
        network_sha256=trial.network.sha256,
        bundle=bundle.id,
        argv=[os.path.basename(sys.executable), "-m", "runtimes", *sys.argv[1:]],
        started_at=started_at,
        reasons={"power_mw": _NO_POWER, "top1": _NO_SCORE if trial.outputs else "nothing was answered"},
    )


def _engine(trial: Trial) -> Optional[Dict[str, Any]]:
    """The sidecar of a compiled engine, and how the host handed it over to the GPU in this measurement."""
    if trial.engine is None and trial.launch is None:
        return None
    handed = {"enqueue_ms": summary_ms(trial.enqueue_rounds)} if trial.enqueue_rounds else {}
    return {**(trial.engine or {}), **(trial.launch or {}), **handed}


def _memory_mb(trial: Trial) -> Dict[str, Any]:
    """As the engine was after its warm-up, but the peak after its last timed round: the accuracy pass is not in it."""
    memory: Dict[str, Any] = dict(trial.loaded["memory_mb"])
    return {**memory, "peak_rss": trial.peak_rss / _MIB if trial.peak_rss else memory["peak_rss"]}


def _evidence(trial: Trial, workload: Workload, facts: Mapping[str, Any], engine: Mapping[str, Any]) -> Evidence:
    marks = facts["throttling"]
    return Evidence(
        workload=workload,
        rounds=trial.rounds,
        cores=facts["cores"] or 1,
        other_cores=_known(reading.other_cores for reading in trial.readings),
        clocks_mhz=_known(reading.clock_mhz for reading in trial.readings),
        throttling=[marks["before"], marks["after"]] if marks["before"] and marks["after"] else [],
        non_finite=trial.outputs.get("non_finite", 0),
        engine=engine,
        gpu_rounds=trial.gpu_rounds,
    )


def _known(values: Iterator[float]) -> List[float]:
    return [value for value in values if value >= 0]

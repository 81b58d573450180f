"""One network on one runtime while it is measured, over all its processes, and the measurement that comes of it."""

import os
import statistics
import sys
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional

from runtimes import energy, sampler
from runtimes.bundle import Bundle
from runtimes.doubts import doubts
from runtimes.energy import Span, Spent
from runtimes.evidence import Evidence
from runtimes.jobs import Job
from runtimes.latency import pooled, summary_ms, throughput_ips
from runtimes.readings import Reading
from runtimes.records import Measurement, Workload
from runtimes.watch import Seen

_NO_WATCH = Reading(None, "the watch was switched off: sample_s is 0")
_NO_IDLE = "no sample was taken while the engines were idle: idle_s is 0, or too short"
_NO_SCORE = "the host scores the logits: the labels stay there"
_WATCHED = 0.5  # of its rounds' seconds, or there is no mean power
_MIB = float(1 << 20)


class RoundReading(NamedTuple):
    """What the coordinator saw of the machine around one round."""

    other_cores: float  # processors kept busy by anybody else; negative where it could not be read
    clock_mhz: float  # right after the round; negative where it could not be read


class Round(NamedTuple):
    """One round as it was timed."""

    reply: Mapping[str, Any]  # of `runtimes.worker`
    span: Span
    reading: RoundReading


@dataclass
class Pass:
    """One process of the engine, and what it was asked."""

    job: Job
    version: str
    loaded: Dict[str, Any] = field(default_factory=dict)
    rounds: List[Round] = field(default_factory=list)

    @property
    def peak_rss(self) -> Optional[float]:
        """MiB, after the last timed round: the accuracy pass is not in it."""
        peak: Optional[int] = self.rounds[-1].reply["peak_rss"]
        return peak / _MIB if peak else None

    @property
    def verdict(self) -> Optional[str]:
        """Of the receipt: whether the engine runs layers sparse."""
        receipt = self.loaded["receipt"]
        return str(receipt["verdict"]) if receipt else None

    def to_json(self) -> Dict[str, Any]:
        """As in `Measurement.passes`."""
        engine = self.job.engine or {}
        return {
            "rounds": len(self.rounds),
            "load_ms": self.loaded["load_ms"],
            "first_inference_ms": self.loaded["first_inference_ms"],
            "peak_rss_mb": self.peak_rss,
            "engine_sha256": engine.get("engine", {}).get("sha256"),
            "verdict": self.verdict,
        }


@dataclass
class Trial:
    """One network on one runtime; its builds, and its passes so far."""

    builds: List[Job]
    is_twin: bool = False
    twin: Optional["Trial"] = None  # of the same engine, in a process of its own
    passes: List[Pass] = field(default_factory=list)
    outputs: Dict[str, Any] = field(default_factory=dict)
    unanswered: Optional[str] = None  # why the images were not answered although they were to be

    @property
    def job(self) -> Job:
        """Of the first build."""
        return self.builds[0]

    @property
    def file(self) -> str:
        """What its files are called."""
        return "{}-{}".format(self.job.runtime, self.job.network.name)

    @property
    def rounds(self) -> List[Round]:
        """Those of all passes, in order."""
        return [timed for one in self.passes for timed in one.rounds]

    def replies(self, name: str) -> List[Any]:
        """What each round answered under `name`; without those that answered nothing."""
        return [timed.reply[name] for timed in self.rounds if timed.reply[name]]


class Session(NamedTuple):
    """What the measurements of one call share."""

    bundle: Bundle
    workload: Workload
    facts: Mapping[str, Any]
    started_at: str
    seen: Optional[Seen]
    idle: List[Span]
    settings: Optional[Mapping[str, Any]]


def read_round(before: sampler.Sample, after: sampler.Sample, cpu_s: float) -> RoundReading:
    """What two samples around a round say, when the engine itself used `cpu_s` seconds of processor time in it."""
    other = -1.0
    if before.busy_s.value is not None and after.busy_s.value is not None:
        busy_s = after.busy_s.value - before.busy_s.value
        other = max(0.0, busy_s - cpu_s) / max(after.at_s - before.at_s, 1e-9)
    return RoundReading(other, -1.0 if after.clock_mhz.value is None else after.clock_mhz.value)


def measurement(trial: Trial, session: Session) -> Measurement:
    """The measurement of a trial whose passes have ended."""
    network, workload = trial.job.network, session.workload
    latencies, on_gpu = [timed.reply["latency_ns"] for timed in trial.rounds], trial.replies("gpu_ns")
    power, watch, twin = _power(trial, session), _watch(trial, session), _twin(trial)
    clocks = _known(timed.reading.clock_mhz for timed in trial.rounds)
    return Measurement(
        name=network.name,
        runtime=trial.job.runtime,
        runtime_version=trial.passes[0].version,
        device=None,
        precision=network.precision,
        batch=workload.batch,
        threads=workload.threads,
        protocol=workload.protocol,
        workload=workload.to_json(),
        n=sum(map(len, latencies)),
        latency_ns=latencies,
        latency_ms=summary_ms(latencies),
        throughput_ips=throughput_ips(latencies, workload.batch),
        load_ms=_median(trial, "load_ms"),
        first_inference_ms=_median(trial, "first_inference_ms"),
        memory_mb=_memory_mb(trial),
        facts={**session.facts, "round_clock_mhz": clocks or None},
        power_mw=power.value["mean_mw"] if power.value else None,
        harness_overhead_ns=_median(trial, "harness_overhead_ns"),
        warnings=doubts(_evidence(trial, session)),
        outputs={key: value for key, value in trial.outputs.items() if key != "non_finite"} or None,
        gpu_ns=on_gpu or None,
        gpu_ms=summary_ms(on_gpu) if on_gpu else None,
        receipt=trial.passes[0].loaded["receipt"],
        engine=_engine(trial),
        passes=[one.to_json() for one in trial.passes],
        twin_ns=twin.value,
        power=power.value,
        watch=watch.value,
        settings=session.settings,
        network_sha256=network.sha256,
        bundle=session.bundle.id,
        argv=[os.path.basename(sys.executable), "-m", "runtimes", *sys.argv[1:]],
        started_at=session.started_at,
        reasons=_reasons({"power": power, "power_mw": power, "watch": watch, "twin_ns": twin}, trial, session),
    )


def _median(trial: Trial, name: str) -> float:
    return float(statistics.median(one.loaded[name] for one in trial.passes))


def _reasons(readings: Mapping[str, Reading], trial: Trial, session: Session) -> Dict[str, str]:
    found = {name: str(reading.reason) for name, reading in readings.items() if reading.value is None}
    found["top1"] = _NO_SCORE if trial.outputs else trial.unanswered or "nothing was answered"
    if not trial.outputs:
        found["outputs"] = found["top1"]
    if session.settings is None:
        found["settings"] = "no setting was asked for"
    power = readings["power"].value
    if power and power["idle_mw"] is None:
        found.update(dict.fromkeys(("power.idle_mw", "power.net_energy_mj"), _NO_IDLE))
    return found


def _engine(trial: Trial) -> Optional[Dict[str, Any]]:
    """The sidecar of the first pass's engine, and how the host handed it over to the GPU in this measurement."""
    launches, handed = trial.replies("launch"), trial.replies("enqueue_ns")
    if trial.job.engine is None and not launches:
        return None
    timed = {"enqueue_ms": summary_ms(handed)} if handed else {}
    return {**(trial.job.engine or {}), **(launches[-1] if launches else {}), **timed}


def _memory_mb(trial: Trial) -> Dict[str, Any]:
    """Of the process that took most: its numbers belong together, and those of another would not fit to its peak."""
    largest = max(trial.passes, key=lambda one: one.peak_rss or 0.0)
    return {**largest.loaded["memory_mb"], "peak_rss": largest.peak_rss}


def _twin(trial: Trial) -> Reading:
    if trial.twin is None:
        return Reading(None, "only the baseline of two or more networks of a precision has a twin")
    return Reading([timed.reply["latency_ns"] for timed in trial.twin.rounds])


def _power(trial: Trial, session: Session) -> Reading:
    if session.seen is None:
        return _NO_WATCH
    seen, spans = session.seen, _spans(trial)
    if seen.power.value is not None and seen.samples and energy.covered(seen.samples, spans, seen.reach_s) < _WATCHED:
        return Reading(None, seen.stopped or "the watch slept through more than half of its rounds")
    mean_s = float(pooled([timed.reply["latency_ns"] for timed in trial.rounds]).mean()) / 1e9
    return energy.power(seen.power, seen.samples, Spent(spans, mean_s), session.idle)


def _spans(trial: Trial) -> List[Span]:
    return [timed.span for timed in trial.rounds]


def _watch(trial: Trial, session: Session) -> Reading:
    seen = session.seen
    if seen is None:
        return _NO_WATCH
    own = energy.within(seen.samples, _spans(trial))
    return Reading(
        {
            "source": seen.source,
            "note": seen.note,
            "interval_s": seen.interval_s,
            "rate_hz": seen.rate_hz,
            "overhead_cores": seen.overhead_cores,
            "columns": energy.columns(own, seen.started_s),
        }
    )


def _evidence(trial: Trial, session: Session) -> Evidence:
    facts, overhead = session.facts, session.seen.overhead_cores if session.seen else 0.0
    marks = facts["throttling"]
    others = _known(timed.reading.other_cores for timed in trial.rounds)
    return Evidence(
        workload=session.workload,
        rounds=[timed.reply["latency_ns"] for timed in trial.rounds],
        cores=facts["cores"] or 1,
        other_cores=[max(0.0, other - overhead) for other in others],  # the watch is ours
        clocks_mhz=_known(timed.reading.clock_mhz for timed in trial.rounds),
        throttling=[marks["before"], marks["after"]] if marks["before"] and marks["after"] else [],
        non_finite=trial.outputs.get("non_finite", 0),
        engine=_engine(trial) or {},
        gpu_rounds=trial.replies("gpu_ns"),
        timed_s=sum(timed.reply["timed_s"] for timed in trial.rounds),
        verdicts=[one.verdict for one in trial.passes if one.verdict is not None],
        complaints=[entry for job in trial.builds for entry in _complaints(job)],
        facts=facts,
        settings=session.settings,
        gpu_clocks_mhz=_gpu_clocks_mhz(trial, session.seen),
        watch_stopped=session.seen.stopped if session.seen else None,
        unanswered=trial.unanswered,
    )


def _gpu_clocks_mhz(trial: Trial, seen: Optional[Seen]) -> List[float]:
    return energy.median_of_each(seen.samples, _spans(trial), "gpu_mhz") if seen else []


def _complaints(job: Job) -> List[Mapping[str, str]]:
    """What the builder said against the engine that it made."""
    found: List[Mapping[str, str]] = (job.engine or {}).get("build", {}).get("warnings", [])
    return found


def _known(values: Iterator[float]) -> List[float]:
    return [value for value in values if value >= 0]

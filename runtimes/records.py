"""What is asked of a device, and what it answers: `Workload` and `Measurement`, frozen records that travel as JSON."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

from runtimes.arrival import received, shown
from runtimes.checks import Check, at_least, is_flag, is_text, table_of, whole
from runtimes.errors import UserError
from runtimes.files import read_json, write_text
from runtimes.tables import pick

SCHEMA_VERSION = 1
KIND = "edgeprune.measurement"
PRECISIONS = ("fp32", "fp16", "int8")  # of a network's file, the most exact first
HEADLINES = ("median", "p90")  # keys of `Measurement.latency_ms`
PERCENTILE_METHOD = "linear interpolation between order statistics (Hyndman and Fan 1996, type 7)"


@dataclass(frozen=True)
class Workload:
    """How a network is measured. Two measurements compare only where their workloads are equal.

    Each pass starts fresh processes and times `rounds` rounds of every engine. A round is timed for `round_s` seconds,
    and longer (up to five times that) where it has less than its share of `min_samples` by then. Latency is taken at
    `batch` images; the accuracy pass, which is not timed, uses `accuracy_batch`.
    """

    protocol: str = "quick"  # the name its durations and counts come from
    batch: int = 1  # images in one timed inference
    threads: int = 1  # of the runtime
    warmup_s: float = 0.2  # untimed, before the first round
    passes: int = 2  # fresh processes of every engine, one pass after the other
    builds: int = 1  # engines built of each network by runtimes that compile; pass p uses build p % builds
    rounds: int = 6  # turns of each engine in each pass
    round_s: float = 0.15  # length of a turn
    min_samples: int = 100  # all rounds of all passes together
    max_samples: int = 20000  # likewise; an empty engine would fill the memory otherwise
    headline: str = "median"  # the percentile that is quoted: median or p90
    idle_s: float = 1.0  # all engines loaded and none at work, in each pass; only where power can be read
    sample_s: float = 0.1  # between two samples of the watch; 0: none is kept
    cpus: Tuple[int, ...] = ()  # processors the engines may use; (): all
    accuracy: bool = True  # whether the test images are answered
    accuracy_batch: int = 64  # images at once, untimed; fewer where so many have more than 4 MiB of inputs
    timeout_s: float = 300.0  # an engine that says nothing for so long hangs
    options: Mapping[str, str] = field(default_factory=dict)  # handed to the runtime's `load` as they are

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "passes", "builds", "rounds", "min_samples", "accuracy_batch"):
            self._check(name, whole(1), "a whole number of at least 1")
        for name in ("warmup_s", "round_s", "idle_s"):
            self._check(name, at_least(0), "seconds, at least 0")
        self._check("max_samples", whole(self.passes * self.rounds), "a whole number, at least one for each round")
        self._check("headline", lambda value: value in HEADLINES, "one of " + ", ".join(HEADLINES))
        self._check("sample_s", _is_interval, "seconds, at least 0.01, or 0 for no watch")
        self._check("cpus", _are_cpus, "numbers of processors, each at least 0")
        object.__setattr__(self, "cpus", tuple(sorted(set(self.cpus))))  # JSON has lists
        self._check("timeout_s", at_least(1), "seconds, at least 1")
        self._check("accuracy", is_flag, "true or false")
        self._check("options", table_of(is_text), "names with strings as values")

    @property
    def longest_round_s(self) -> float:
        """When a round ends although it has less than its share of samples, in seconds."""
        return 5 * self.round_s

    def _check(self, name: str, check: Check, wanted: str) -> None:
        value = getattr(self, name)
        if not check(value):
            raise UserError("workload: {} is {!r}".format(name, value), "it has to be {}".format(wanted))

    def changed(self, **overrides: Any) -> "Workload":
        """This workload with some fields replaced.

        A `protocol` brings its own durations and counts; the batch, threads, cpus, accuracy and options of this one
        stay.
        An unknown field, or a value out of range, is a `UserError`.
        """
        fields = {name: getattr(self, name) for name in _field_names(Workload)}
        for name in overrides:
            pick(fields, name, "workload field")
        if "protocol" in overrides:
            chosen = pick(PROTOCOLS, overrides["protocol"], "protocol")
            fields.update({name: getattr(chosen, name) for name in _OF_THE_PROTOCOL})
        fields.update(overrides)
        return Workload(**fields)

    def to_json(self) -> Dict[str, Any]:
        """All fields as plain JSON values."""
        return {name: _plain(getattr(self, name)) for name in _field_names(Workload)}

    @classmethod
    def from_json(cls, content: Any) -> "Workload":
        """A workload from its JSON; missing fields are those of its protocol, unknown ones are a `UserError`."""
        if not isinstance(content, Mapping):
            raise UserError("workload: expected a table, found {!r}".format(content), "see `Workload` for its fields")
        overrides = {"protocol": "quick", **content}
        return cls().changed(**overrides)


def _is_interval(value: object) -> bool:
    return value == 0 or at_least(0.01)(value)


def _are_cpus(value: object) -> bool:
    return isinstance(value, (list, tuple)) and all(map(whole(0), value))


# quick: four networks of 1 ms each in about 15 s. standard: for numbers that are published. mlperf-like: one stream and
# the 90th percentile of 600 s, as MLPerf's SingleStream has it (loadgen/mlperf.conf); no submission.
PROTOCOLS: Dict[str, Workload] = {
    "quick": Workload(protocol="quick"),
    "standard": Workload(
        protocol="standard",
        warmup_s=1.0,
        passes=3,
        builds=3,
        rounds=10,
        round_s=0.5,
        min_samples=1000,
        max_samples=100000,
        idle_s=5.0,
    ),
    "mlperf-like": Workload(
        protocol="mlperf-like",
        warmup_s=5.0,
        passes=2,
        rounds=5,
        round_s=60.0,
        min_samples=1024,
        max_samples=1000000,
        headline="p90",
        idle_s=10.0,
    ),
}
_COUNTS = ("passes", "builds", "rounds", "min_samples", "max_samples")
_OF_THE_PROTOCOL = ("protocol", "warmup_s", *_COUNTS, "round_s", "headline", "idle_s", "sample_s")


@dataclass(frozen=True)
class Doubt:
    """One way in which a measurement may be wrong, by its own account: a stable `code` and a sentence for people."""

    code: str
    message: str


@dataclass(frozen=True)
class Measurement:
    """One network on one runtime: raw latencies, what they come to, and what was known about the machine.

    Anything that could not be read is `None` with its reason beside it (`reasons`, `memory_mb["reasons"]`,
    `facts["reasons"]`). The device leaves `device`, `top1` and `images` at `None`: the host names the device and
    scores the logits in `outputs["file"]` (n x classes, float32), because the labels never left it.
    """

    name: str  # of the network
    runtime: str  # name in `runtimes.RUNTIMES`
    runtime_version: str  # of the library
    device: Optional[str]  # filled in by the host
    precision: str  # of the network, for example fp32
    batch: int  # images in one inference
    threads: int  # of the runtime
    protocol: str  # quick, standard, ...
    workload: Mapping[str, Any]  # all of how it was measured, see `Workload`
    n: int  # latency samples
    latency_ns: List[List[int]]  # one list for each round of each pass, in order
    latency_ms: Mapping[str, float]  # median, p90, p99, mean, min, max
    throughput_ips: float  # images per second of engine time: batch * n / sum of latencies
    load_ms: float  # from the file to an engine, without the import of the runtime; median over the passes
    first_inference_ms: float  # the call after the load; median over the passes
    memory_mb: Mapping[str, Any]  # MiB: peak_rss, resident, baseline, available_delta, engine, context, reasons
    facts: Mapping[str, Any]  # the machine, changing facts before and after
    power_mw: Optional[float]  # mean over its own rounds, as in `power`
    harness_overhead_ns: float  # median of an empty engine in the same loop of the same process
    warnings: List[Doubt]  # its doubts about itself: code and message
    outputs: Optional[Mapping[str, Any]]  # file, n, classes, sha256; None where the runtime answers nothing
    network_sha256: str  # of the ONNX file
    bundle: str  # its id
    argv: List[str]  # the command that made it
    started_at: str  # UTC, ISO 8601
    top1: Optional[float] = None  # percent
    images: Optional[int] = None  # scored
    gpu_ns: Optional[List[List[int]]] = None  # the same runs by the GPU's own clock; None without one
    gpu_ms: Optional[Mapping[str, float]] = None  # median, p90, p99, mean, min, max of those
    receipt: Optional[Mapping[str, Any]] = None  # which layers run sparse, see `runtimes.trt_receipt`
    engine: Optional[Mapping[str, Any]] = None  # what the compiled engine was made from, with what, and where
    passes: List[Mapping[str, Any]] = field(default_factory=list)  # rounds, load_ms, ..., of each pass in order
    twin_ns: Optional[List[List[int]]] = None  # a second process of the same engine in the same turns: the noise floor
    power: Optional[Mapping[str, Any]] = None  # source, scope, rails, mean_mw, idle_mw, energy_mj, ...
    watch: Optional[Mapping[str, Any]] = None  # source, note, interval_s, rate_hz, overhead_cores, columns
    settings: Optional[Mapping[str, Any]] = None  # what was switched for this measurement and restored after it
    reasons: Mapping[str, str] = field(default_factory=dict)  # why a field above is None

    def to_json(self) -> Dict[str, Any]:
        """The document: `schema_version`, `kind`, and every field."""
        document: Dict[str, Any] = {"schema_version": SCHEMA_VERSION, "kind": KIND}
        document.update({name: _plain(getattr(self, name)) for name in _field_names(Measurement)})
        document["percentile_method"] = PERCENTILE_METHOD
        return document

    @classmethod
    def from_json(cls, content: Any, origin: str = "measurement") -> "Measurement":
        """A measurement from its document; `origin` names it in the `UserError` that damaged content raises.

        Its texts are printable from here on, and its summaries are those of its own samples, see `runtimes.arrival`.
        """
        _check_head(content, origin)
        document = {name: content[name] for name in _field_names(cls) if name in content}
        missing = sorted(set(_REQUIRED) - set(document))
        if missing:
            raise _damaged(origin, "{} is missing".format(missing[0]))
        try:
            values = received(document)
        except ValueError as error:
            raise _damaged(origin, str(error)) from None
        values["warnings"] = [Doubt(entry["code"], entry["message"]) for entry in values["warnings"]]
        return cls(**values)

    def write(self, path: Path) -> None:
        """Write the document to `path`, atomically, each round of latencies on one line."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
        write_text(path, _NUMBERS.sub(_on_one_line, text) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        """The measurement in the file at `path`; a missing, damaged or foreign file is a `UserError`."""
        return cls.from_json(read_json(path), str(path))


_NUMBERS = re.compile(r"\[(?:[\s\d.,eE+-]|null)+\]")


def _on_one_line(numbers: "re.Match[str]") -> str:
    return re.sub(r"\s+", " ", numbers.group()).replace("[ ", "[").replace(" ]", "]")


def _field_names(record: Any) -> List[str]:
    return [entry.name for entry in dataclasses.fields(record)]


def _plain(value: Any) -> Any:
    if isinstance(value, Doubt):
        return {"code": value.code, "message": value.message}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _damaged(origin: str, what: str) -> UserError:
    return UserError("{}: not a measurement: {}".format(origin, what), "delete it and measure again")


def _check_head(content: Any, origin: str) -> None:
    if not isinstance(content, Mapping) or content.get("kind") != KIND:
        raise _damaged(origin, "no object of kind '{}'".format(KIND))
    if content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(
            "{}: schema_version {} of a measurement is not known".format(origin, shown(content.get("schema_version"))),
            "this edgeprune reads version {}: measure again, or use the edgeprune that wrote it".format(SCHEMA_VERSION),
        )


_REQUIRED = [
    entry.name
    for entry in dataclasses.fields(Measurement)
    if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
]

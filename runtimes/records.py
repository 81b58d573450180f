"""What is asked of a device, and what it answers: `Workload` and `Measurement`, frozen records that travel as JSON."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from runtimes.checks import (
    Check,
    at_least,
    is_flag,
    is_number,
    is_table,
    is_text,
    list_of,
    or_none,
    table_of,
    table_with,
    whole,
)
from runtimes.errors import UserError
from runtimes.files import read_json, write_text
from runtimes.tables import pick

SCHEMA_VERSION = 1
KIND = "edgeprune.measurement"
PRECISIONS = ("fp32", "fp16", "int8")  # of a network's file, the most exact first
PERCENTILE_METHOD = "linear interpolation between order statistics (Hyndman and Fan 1996, type 7)"


@dataclass(frozen=True)
class Workload:
    """How a network is measured. Two measurements compare only where their workloads are equal.

    A round is timed for `round_s` seconds, and longer (up to five times that) where it has fewer than
    `min_samples / rounds` samples by then. Latency is taken at `batch` images; the accuracy pass, which is not timed,
    uses `accuracy_batch`.
    """

    protocol: str = "quick"  # the name its durations and counts come from
    batch: int = 1  # images in one timed inference
    threads: int = 1  # of the runtime
    warmup_s: float = 0.2  # untimed, before the first round
    rounds: int = 10  # turns of each engine
    round_s: float = 0.15  # length of a turn
    min_samples: int = 100  # all rounds together
    max_samples: int = 20000  # all rounds together; an empty engine would fill the memory otherwise
    accuracy: bool = True  # whether the test images are answered
    accuracy_batch: int = 64  # images at once, untimed
    timeout_s: float = 300.0  # an engine that says nothing for so long hangs
    options: Mapping[str, str] = field(default_factory=dict)  # handed to the runtime's `load` as they are

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "rounds", "min_samples", "accuracy_batch"):
            self._check(name, whole(1), "a whole number of at least 1")
        for name in ("warmup_s", "round_s"):
            self._check(name, at_least(0), "seconds, at least 0")
        self._check("max_samples", whole(self.rounds), "a whole number, at least one for each round")
        self._check("timeout_s", at_least(1), "seconds, at least 1")
        self._check("accuracy", is_flag, "true or false")
        self._check("options", table_of(is_text), "names with strings as values")

    def _check(self, name: str, check: Check, wanted: str) -> None:
        value = getattr(self, name)
        if not check(value):
            raise UserError("workload: {} is {!r}".format(name, value), "it has to be {}".format(wanted))

    def changed(self, **overrides: Any) -> "Workload":
        """This workload with some fields replaced.

        A `protocol` brings its own durations and counts; the batch, threads, accuracy and options of this one stay.
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


# quick: four networks of 1 ms each in about 10 s. standard: for numbers that are published.
PROTOCOLS: Dict[str, Workload] = {
    "quick": Workload(protocol="quick"),
    "standard": Workload(
        protocol="standard", warmup_s=1.0, rounds=20, round_s=0.5, min_samples=1000, max_samples=100000
    ),
}
_OF_THE_PROTOCOL = ("protocol", "warmup_s", "rounds", "round_s", "min_samples", "max_samples")


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
    latency_ns: List[List[int]]  # one list for each round, in order
    latency_ms: Mapping[str, float]  # median, p90, p99, mean, min, max
    throughput_ips: float  # images per second of engine time: batch * n / sum of latencies
    load_ms: float  # from the file to an engine, without the import of the runtime
    first_inference_ms: float  # the call after the load
    memory_mb: Mapping[str, Any]  # MiB: peak_rss, resident, baseline, available_delta, engine, context, reasons
    facts: Mapping[str, Any]  # the machine, changing facts before and after
    power_mw: Optional[float]  # None: no power rail is read yet
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
    reasons: Mapping[str, str] = field(default_factory=dict)  # why a field above is None

    def to_json(self) -> Dict[str, Any]:
        """The document: `schema_version`, `kind`, and every field."""
        document: Dict[str, Any] = {"schema_version": SCHEMA_VERSION, "kind": KIND}
        document.update({name: _plain(getattr(self, name)) for name in _field_names(Measurement)})
        document["percentile_method"] = PERCENTILE_METHOD
        return document

    @classmethod
    def from_json(cls, content: Any, origin: str = "measurement") -> "Measurement":
        """A measurement from its document; `origin` names it in the `UserError` that damaged content raises."""
        _check_head(content, origin)
        values = {name: content[name] for name in _field_names(cls) if name in content}
        missing = sorted(set(_REQUIRED) - set(values))
        if missing:
            raise _damaged(origin, "{} is missing".format(missing[0]))
        for name, value in values.items():
            if name in _KINDS and not _KINDS[name](value):
                raise _damaged(origin, "{} is {}".format(name, _short(value)))
        if values["n"] != sum(len(samples) for samples in values["latency_ns"]):
            raise _damaged(origin, "n is {}, which is not the number of its latencies".format(values["n"]))
        values["warnings"] = [Doubt(entry["code"], entry["message"]) for entry in values["warnings"]]
        return cls(**values)

    def write(self, path: Path) -> None:
        """Write the document to `path`, atomically, each round of latencies on one line."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False, ensure_ascii=False)
        write_text(path, re.sub(r"\[[\s\d.,]+\]", _on_one_line, text) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Measurement":
        """The measurement in the file at `path`; a missing, damaged or foreign file is a `UserError`."""
        return cls.from_json(read_json(path), str(path))


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
            "{}: schema_version {} of a measurement is not known".format(origin, content.get("schema_version")),
            "this edgeprune reads version {}: measure again, or use the edgeprune that wrote it".format(SCHEMA_VERSION),
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


_KINDS: Dict[str, Check] = {
    **dict.fromkeys(("name", "runtime", "runtime_version", "precision", "protocol"), is_text),
    **dict.fromkeys(("network_sha256", "bundle", "started_at"), is_text),
    **dict.fromkeys(("batch", "threads", "n"), whole(1)),
    **dict.fromkeys(("throughput_ips", "load_ms", "first_inference_ms", "harness_overhead_ns"), at_least(0)),
    **dict.fromkeys(("workload", "memory_mb", "facts"), is_table),
    **dict.fromkeys(("power_mw", "top1"), or_none(is_number)),
    "device": or_none(is_text),
    "images": or_none(whole(0)),
    "outputs": or_none(table_with({"file": is_text, "n": whole(1), "classes": whole(1), "sha256": is_text})),
    "latency_ns": list_of(list_of(whole(0))),
    "gpu_ns": or_none(list_of(list_of(whole(0)))),
    **dict.fromkeys(("gpu_ms", "receipt", "engine"), or_none(is_table)),
    "latency_ms": table_with(dict.fromkeys(("median", "p90", "p99", "mean", "min", "max"), is_number)),
    "warnings": list_of(table_with({"code": is_text, "message": is_text})),
    "argv": list_of(is_text),
    "reasons": table_of(is_text),
}
_REQUIRED = [
    entry.name
    for entry in dataclasses.fields(Measurement)
    if entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
]

"""What a report says, as records. `report.json` is these records, so their field names are its schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCHEMA_VERSION = 1
NETWORKS = ("teacher", "dense", "pruned", "sparse")  # the order everywhere

Figures = Mapping[str, float | None]
"""Numbers by name; None is a number nobody could read, and the record's `reasons` says why."""


@dataclass(frozen=True)
class Layer:
    """One weight tensor of the sparse network: how many of its weights are zero, or why none was pruned."""

    name: str
    kind: str  # conv, linear or norm
    shape: tuple[int, ...]
    weights: int
    zeros: int
    sparsity: float  # zeros / weights
    pruned: bool
    reason: str | None  # why it was not pruned


@dataclass(frozen=True)
class Network:
    """One exported network, counted on the torch model, whether it was measured or not."""

    name: str  # sparse, or sparse-int8 in a lower precision
    role: str  # which of the run's networks it is: teacher, dense, pruned or sparse
    model: str | None
    sha256: str
    precision: str
    pattern: str
    sparsity: float | None  # zeros / prunable weights
    sparsity_paper: float | None  # zeros / weights of convolutions, linear layers and batch-norms
    zeros: int | None
    weights: int | None
    macs: int | None  # multiply-adds per image
    nonzero_macs: int | None  # the same, counting non-zero weights only
    size_bytes: Figures  # onnx, nonzero, compressed
    verification: Mapping[str, Any] | None
    compaction: str | None = None  # what was removed with its dead channels, in one line


@dataclass(frozen=True)
class Row:
    """One measurement of one network on one device by one runtime, beside what is known of the network."""

    name: str
    role: str  # of the network, see `Network`
    runtime: str
    runtime_version: str | None
    device: str
    precision: str
    pattern: str | None
    batch: int
    threads: int
    workload: Mapping[str, Any]  # how it was measured: protocol, rounds, warm-up
    bundle: str  # the id of what was measured
    started_at: str  # UTC, ISO 8601; with `bundle` it names the session in which engines took turns
    n: int  # timed inferences
    images: int | None  # test images behind top1
    top1: float | None  # percent
    top1_interval: tuple[float, float] | None  # percent, Wilson, 95 %
    top1_standard_error: float | None  # points; above zero at 100 % too
    sparsity: float | None
    sparsity_paper: float | None
    zeros: int | None
    weights: int | None
    latency_ms: Figures  # median, p90, p99, mean, min, max
    gpu_ms: Figures | None  # the same by the GPU's own clock; None where the runtime has none
    receipt: Mapping[str, Any] | None  # which layers run sparse; None where the runtime has no choice
    throughput_ips: float | None
    load_ms: float | None
    first_inference_ms: float | None
    harness_overhead_ns: float | None
    power_mw: float | None
    power: Mapping[str, Any] | None  # scope, rails, mean_mw, idle_mw, energy_mj, net_energy_mj
    watch: Mapping[str, Any] | None  # what was sampled beside the rounds: rate_hz, overhead_cores, range of each column
    settings: Mapping[str, Any] | None  # what was switched for it, and restored
    power_mode: str | None  # as the device named it; None where it has none or could not be asked
    setting: str  # runtime, precision, batch, threads, protocol and what was set, in words
    machine: str  # its key in `environment`
    stand_in: str | None  # what stood in for the device; its times, power and memory are withheld
    headline: str  # the percentile that its workload quotes: median or p90
    source: str  # the measurement's file in the run folder: no two rows share it
    network_sha256: str
    answers: Mapping[str, Any] | None  # its logits: file in the run folder, sha256, n
    memory_mb: Figures  # MiB: peak_rss, available_delta, engine, context
    size_bytes: Figures
    macs: int | None
    nonzero_macs: int | None
    rounds: tuple[Mapping[str, float], ...]  # per round: n and median, p10, p90 in ms; the passes follow each other
    passes: tuple[Mapping[str, Any], ...]  # per pass: its number of rounds, load, first inference, peak memory
    twin_ms: tuple[Mapping[str, float], ...] | None  # a second process of the same engine: per round median and p90
    quantiles_ms: tuple[float, ...]  # latency at 0, 1, ..., 100 percent
    reasons: Mapping[str, str]  # why a number above is None, by its name (`memory_mb.engine`)


@dataclass(frozen=True)
class Comparison:
    """The sparse network beside the dense one, timed in turns: one session, device, runtime and workload."""

    source: str  # of the sparse row
    baseline_source: str  # of the dense row
    setting: str  # of both, in words
    headline: str  # the percentile of which the ratio is
    device: str
    runtime: str
    batch: int
    threads: int
    protocol: str
    precision: str  # of the sparse network
    name: str
    baseline: str
    latency_ratio: float | None  # sparse / dense: below 1 is faster
    latency_ratio_interval: tuple[float, float] | None  # bootstrap over passes and rounds
    level: float
    resamples: int
    seed: int
    passes: int
    rounds: int  # of all passes
    noise_floor: float | None  # a share: how far an engine lies from a second process of itself
    noise_floor_of: str | None  # the network of which two processes ran: the baseline, or another of the session
    noise_floor_reason: str | None  # why there is none
    twin_ratio: float | None  # second process / first one, of that network's engine: the A/A line
    twin_ratio_interval: tuple[float, float] | None  # not expanded for few passes
    verdict: str  # faster, slower, within noise, or not known where an interval, a noise floor or a second pass lacks
    uses_zeros: str  # yes, no or unknown: whether the runtime computed any layer of the sparse network by its zeros
    reason: str | None  # why the verdict is not known
    top1_difference: float | None  # points, sparse - dense
    top1_difference_standard_error: float | None  # points, an upper bound
    images: int | None
    differing_answers: int | None  # images that the two answered differently; None where the answers are not kept
    top1_p_value_at_most: float | None  # McNemar, exact, an upper bound because the labels are not looked at
    compressed_ratio: float | None  # sparse / dense bytes
    sentence: str


@dataclass(frozen=True)
class Contender:
    """One network on one runtime, against the quickest runtime of the same session."""

    name: str
    runtime: str
    source: str
    ratio: float | None  # its latency / the quickest's: above 1 is slower
    ratio_interval: tuple[float, float] | None  # bootstrap over passes and rounds
    passes: int
    rounds: int
    noise_floor: float | None  # a share: the larger one of the two runtimes'
    verdict: str  # slower, faster, within noise, or not known
    reason: str | None  # why the verdict is not known


@dataclass(frozen=True)
class Across:
    """One network on several runtimes that took turns in one session."""

    name: str
    role: str
    device: str
    headline: str  # the percentile of which the ratios are
    quickest: str  # the runtime with the least latency
    fastest: str | None  # the same where every other is slower beyond the noise; else None
    sources: tuple[str, ...]  # of the rows, the quickest first
    others: tuple[Contender, ...]  # the other runtimes, the quickest first
    against_dense: Contender | None  # of the sparse network: the dense one on the runtime that suits that best
    sentence: str


@dataclass(frozen=True)
class Figure:
    """One quantity of two networks side by side; a number that is None has its reason."""

    key: str  # as in `Row`, for example latency_ms.p99
    label: str
    unit: str  # %, ms, MiB, W, mJ, bytes
    value: float | None  # of the network in question
    baseline: float | None  # of the one it is compared with
    reason: str | None  # why `value` is None
    scope: str | None = None  # what a power rail covers


@dataclass(frozen=True)
class Column:
    """One device and setting in the table of all devices: the sparse network and its baseline there."""

    source: str  # of the sparse row
    device: str
    stand_in: str | None
    setting: str  # as in `Row`
    name: str
    baseline: str | None  # None: nothing was measured under the same conditions
    headline: str  # the percentile that is quoted
    figures: tuple[Figure, ...]
    conditions: tuple[tuple[str, str], ...]  # power mode, clocks and the like, in words
    ratio: float | None  # sparse / baseline
    ratio_interval: tuple[float, float] | None
    noise_floor: float | None
    verdict: str
    reason: str | None  # of a verdict that is not known


@dataclass(frozen=True)
class Origin:
    """Where the numbers of one row come from."""

    name: str
    device: str
    runtime: str  # in words, with its version
    stand_in: str | None
    file: str  # in the run folder
    network_sha256: str
    bundle: str
    command: str
    started_at: str
    passes: int
    rounds: int
    samples: int
    conditions: tuple[tuple[str, str], ...]  # power mode, clocks, throttling, as they were read


@dataclass(frozen=True)
class Missing:
    """A step whose files are not in the run folder, and the command that makes them."""

    step: str
    what: str
    command: str


@dataclass(frozen=True)
class Remark:
    """A doubt about this report's numbers: who raised it (`device/runtime/network` or a step), and what it says."""

    source: str
    code: str
    message: str


@dataclass(frozen=True)
class Report:
    """Everything a run folder tells; made by `collect`, rendered by the functions in `FORMATS`."""

    name: str
    folder: str  # the run folder's name
    command: str | None
    version: str | None
    created_at: str | None
    method: str | None
    pattern: str | None
    target: str | None
    headline: str
    sentences: tuple[str, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    columns: tuple[Column, ...]  # devices side by side
    origins: tuple[Origin, ...]  # where each row's numbers come from
    networks: tuple[Network, ...]
    layers: tuple[Layer, ...]
    histories: Mapping[str, tuple[Mapping[str, Any], ...]]  # teacher, dense, sparse (the retraining)
    scoring: Mapping[str, Any] | None
    environment: Mapping[str, Mapping[str, Any]]  # by device, further sessions there by themselves; see `Row.machine`
    training: Mapping[str, Mapping[str, Any]]  # by step: the torch, device and threads it was done with
    recipe: Mapping[str, Any]
    recipe_toml: str | None
    missing: tuple[Missing, ...]
    warnings: tuple[Remark, ...]
    metrics: Mapping[str, float]
    across: tuple[Across, ...] = ()  # networks that were measured on several runtimes

"""What is known of a measurement when it is doubted."""

from typing import Any, Mapping, NamedTuple, Optional, Sequence

from runtimes.latency import Rounds
from runtimes.records import Workload

APART = 0.10  # two numbers further apart than this are not the same


class Evidence(NamedTuple):
    """What the doubts look at. An empty list or mapping: it could not be read."""

    workload: Workload
    rounds: Rounds
    cores: int
    other_cores: Sequence[float]  # for each round, processors kept busy by anybody else
    clocks_mhz: Sequence[float]  # for each round, right after it
    throttling: Sequence[Mapping[str, int]]  # before and after
    non_finite: int = 0  # logits that are not a number
    engine: Mapping[str, Any] = {}  # of a compiled engine, see `Measurement.engine`
    gpu_rounds: Rounds = ()  # the GPU's own times
    timed_s: float = 0.0  # of all rounds together, by the worker's clock
    verdicts: Sequence[str] = ()  # of each pass's receipt
    complaints: Sequence[Mapping[str, str]] = ()  # code and message: what the builder said of each engine
    facts: Mapping[str, Any] = {}  # about the machine, see `Measurement.facts`
    settings: Optional[Mapping[str, Any]] = None  # see `Measurement.settings`
    gpu_clocks_mhz: Sequence[float] = ()  # for each round, as the watch saw it
    watch_stopped: Optional[str] = None  # why the watch ended before the measurement
    unanswered: Optional[str] = None  # why the images were not answered

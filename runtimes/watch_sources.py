"""What the watch takes of the machine, and what it can be taken from."""

import threading
from typing import List, Mapping, NamedTuple, Optional, Protocol

from runtimes.readings import Reading


class Sample(NamedTuple):
    """The machine at one moment; what was not read is None."""

    at_s: float  # time.monotonic, when it was read or arrived
    seconds: float  # that it stands for: those since the sample before
    rails_mw: Mapping[str, float]
    gpu_percent: Optional[float] = None
    gpu_mhz: Optional[float] = None
    emc_mhz: Optional[float] = None
    cpu_mhz: Optional[float] = None  # of the fastest core
    temperature_c: Optional[float] = None  # of the hottest sensor
    ram_used_mb: Optional[float] = None  # MiB


class Source(Protocol):
    """One way of looking at the machine."""

    name: str
    power: Reading  # the name of what the rails are read from, or None and why there is none
    interval_s: float  # between two samples
    note: Optional[str]  # why another source was not taken

    def follow(self, stop: threading.Event) -> None:
        """Take a sample each `interval_s` seconds until `stop` is set. Run in a thread."""

    def mark(self) -> float:
        """The time, `time.monotonic`, as a border: no sample is a mean over both sides of it."""

    def samples(self) -> List[Sample]:
        """All samples until now, by time."""

    def followed(self) -> int:
        """How many of them `follow` took."""

    def cpu_s(self) -> float:
        """Processor time that was used by other processes of this source."""

    def close(self) -> None:
        """End what was started."""

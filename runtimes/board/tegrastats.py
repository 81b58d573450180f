"""A line of NVIDIA's `tegrastats`, in every form that its releases print, as numbers.

What a line does not say is None, never 0. Words that are not known are kept, so that a newer release loses nothing.
"""

import re
from typing import Callable, Dict, List, Match, NamedTuple, Optional, Pattern, Tuple

from runtimes.board.thermal import OFF_C

_PERCENT = r"(?P<percent>\d+)%"
_CLOCK = r"@(?:(?P<mhz>\d+)|\[(?P<list>\d+(?:,\d+)*)\])"


class CpuLoad(NamedTuple):
    """One core that is switched on."""

    percent: int
    mhz: Optional[int]


class Tegrastats(NamedTuple):
    """What one line says; MB as it prints them. Of the rails' values the first: now, not the average or maximum."""

    ram_used_mb: Optional[int] = None
    ram_total_mb: Optional[int] = None
    swap_used_mb: Optional[int] = None
    swap_total_mb: Optional[int] = None
    cpu: List[Optional[CpuLoad]] = []  # None: the core is off  # noqa: RUF012
    emc_percent: Optional[int] = None
    emc_mhz: Optional[int] = None
    gpu_percent: Optional[int] = None  # Thor does not print it
    gpu_mhz: Optional[int] = None  # of the fastest cluster; 0 where the GPU is switched off
    temperatures_c: Dict[str, float] = {}  # noqa: RUF012
    rails_mw: Dict[str, int] = {}  # noqa: RUF012
    unknown: List[str] = []  # noqa: RUF012


class _Found:
    """What was found so far, by the fields of `Tegrastats`."""

    def __init__(self) -> None:
        self.numbers: Dict[str, Optional[int]] = {}
        self.cpu: List[Optional[CpuLoad]] = []
        self.temperatures_c: Dict[str, float] = {}
        self.rails_mw: Dict[str, int] = {}
        self.unknown: List[str] = []


def parse_tegrastats(line: str) -> Optional[Tegrastats]:
    """One line of tegrastats; None where it is not one. A part of a line gives what stands in it."""
    found, known, at = _Found(), False, 0
    text = line.strip()
    while at < len(text):
        match, take = _next(text, at)
        if match is None:
            word = text[at:].split(None, 1)[0]
            found.unknown.append(word)
            at += len(word)
        else:
            take(match, found)
            known = known or take in (_memory, _cores, _emc, _gpu)
            at = match.end()
        at += len(text[at:]) - len(text[at:].lstrip())
    if not known:
        return None
    return Tegrastats(
        cpu=found.cpu,
        temperatures_c=found.temperatures_c,
        rails_mw=found.rails_mw,
        unknown=found.unknown,
        **found.numbers,
    )


# What is taken from each kind of word -----------------------------------------------------------------------------


def _memory(match: Match[str], found: _Found) -> None:
    kind = match["kind"].lower()
    found.numbers[kind + "_used_mb"], found.numbers[kind + "_total_mb"] = int(match["used"]), int(match["total"])


def _cores(match: Match[str], found: _Found) -> None:
    common = int(match["common"]) if match["common"] else None
    for core in match["cores"].split(","):
        percent, _, mhz = core.partition("%")
        clock = int(mhz[1:]) if mhz else common
        found.cpu.append(None if core == "off" else CpuLoad(int(percent), clock))


def _emc(match: Match[str], found: _Found) -> None:
    found.numbers["emc_percent"], found.numbers["emc_mhz"] = _load(match)


def _gpu(match: Match[str], found: _Found) -> None:
    found.numbers["gpu_percent"], found.numbers["gpu_mhz"] = _load(match)


def _load(match: Match[str]) -> Tuple[Optional[int], Optional[int]]:
    clocks = [int(clock) for clock in (match["mhz"] or match["list"] or "").split(",") if clock]
    return int(match["percent"]) if match["percent"] else None, max(clocks) if clocks else None


def _temperature(match: Match[str], found: _Found) -> None:
    if float(match["celsius"]) > OFF_C:
        found.temperatures_c[match["sensor"]] = float(match["celsius"])


def _rail(match: Match[str], found: _Found) -> None:
    if match["rail"] != "NC":  # a channel of the meter that is not connected
        found.rails_mw[match["rail"]] = int(match["now"])


def _nothing(match: Match[str], found: _Found) -> None:
    """Known, and not asked for: the time, and engines beside GPU and processors."""


_Take = Callable[[Match[str], _Found], None]


def _load_of(name: str) -> str:
    """`NAME 43%`, `NAME 43%@2133`, `NAME @4266`, `NAME 63%@[621]`, `NAME @[314,314,314]`."""
    return r"{} (?=[\d@])(?:{})?(?:{})?".format(name, _PERCENT, _CLOCK)


_MW = r"\d+(?:mW)?"
_CORE = r"(?:off|\d+%(?:@\d+)?)"
_ENGINE = r"(?:GR3D2|NVENC|NVDEC|NVJPG|MSENC|VIC|OFA|NVDLA|PVA|APE|SE|ISP|NVCSI)\d*(?:_FREQ)?"
_KINDS: Tuple[Tuple[str, _Take], ...] = (
    (r"\d\d-\d\d-\d{4} \d\d:\d\d:\d\d", _nothing),
    (r"(?P<kind>RAM) (?P<used>\d+)/(?P<total>\d+)MB(?: \(lfb \d+x\d+[kM]B\))?", _memory),
    (r"(?P<kind>SWAP) (?P<used>\d+)/(?P<total>\d+)MB(?: \(cached \d+MB\))?", _memory),
    (r"CPU \[(?P<cores>{0}(?:,{0})*)\](?:@(?P<common>\d+))?".format(_CORE), _cores),
    (_load_of("EMC_FREQ"), _emc),
    (_load_of("GR3D_FREQ"), _gpu),
    (_ENGINE + r" (?:off|\d+|(?=[\d@])(?:\d+%)?(?:@(?:\d+|\[[\d,]+\]))?)", _nothing),
    (r"MTS fg \d+% bg \d+%", _nothing),
    (r"(?P<sensor>[A-Za-z]\w*)@(?P<celsius>-?\d+(?:\.\d+)?)C(?:/-?\d+(?:\.\d+)?C)?", _temperature),
    (r"(?P<rail>[A-Za-z]\S*) (?P<now>\d+)(?:mW)?/{0}(?:/{0})?".format(_MW), _rail),
)
_PATTERNS: List[Tuple[Pattern[str], _Take]] = [(re.compile(kind + r"(?!\S)"), take) for kind, take in _KINDS]


def _next(text: str, at: int) -> Tuple[Optional[Match[str]], _Take]:
    """The first kind of word that stands at this place, and what takes it."""
    for pattern, take in _PATTERNS:
        match = pattern.match(text, at)
        if match:
            return match, take
    return None, _nothing

"""What TensorRT and trtexec print, read into records: pure functions of text.

A line that is not known is left out and never an error; a thing that no line tells is None, which is not 0. The wording
was read from the captured prints in `tests/captured/trtexec` (TensorRT 8.0 to 10.16) and, for the warnings and for 11,
from samples/common of NVIDIA/TensorRT, tags v8.6.1 to v11.1. No log of 11 has been captured, and none of Thor.
"""

import math
import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from runtimes.trt_complaints import bare
from runtimes.trt_complaints import errors as errors
from runtimes.trt_complaints import incompatible as incompatible
from runtimes.trt_complaints import passed as passed
from runtimes.trt_complaints import warnings as warnings
from runtimes.trt_inspector import InspectedLayer as InspectedLayer
from runtimes.trt_inspector import inspected_layers as inspected_layers
from runtimes.trt_inspector import layers_of_text as layers_of_text
from runtimes.trt_inspector import lines_of

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_ELIGIBLE = (
    re.compile(r"\(Sparsity\) Layers eligible for sparse math:(?P<names>.*)"),
    re.compile(r"\(Sparsity\) Found (?P<count>\d+) layer\(s\) eligible to use sparse tactics(?::(?P<names>.*))?"),
)
_CHOSEN = (
    re.compile(r"\(Sparsity\) TRT inference plan picked sparse implementation for layers:(?P<names>.*)"),
    re.compile(r"\(Sparsity\) Chose (?P<count>\d+) layer\(s\) using sparse tactics(?::(?P<names>.*))?"),
)
_STAMP = re.compile(r"\[TensorRT v(\d{4,6})\]")
_RELEASE = re.compile(r"(?:\A\s*|TensorRT version: )(\d+)\.(\d+)\.(\d+)")
_SECTION = re.compile(r"^=== (?P<name>.+?) ===$")
_SPREAD = re.compile(
    r"^(?P<what>Latency|Enqueue Time|H2D Latency|GPU Compute Time|D2H Latency): min = (?P<min>{0}) ms, "
    r"max = (?P<max>{0}) ms, mean = (?P<mean>{0}) ms, median = (?P<median>{0}) ms(?P<rest>.*)$".format(_NUMBER)
)
_PERCENTILE = re.compile(r"percentile\(({0})%\) = ({0}) ms".format(_NUMBER))


class Sparsity(NamedTuple):
    """Which layers TensorRT could run sparse, and which it did; None where the log does not say."""

    eligible: Optional[int]
    chosen: Optional[int]
    eligible_layers: Optional[List[str]]
    chosen_layers: Optional[List[str]]


class Spread(NamedTuple):
    """One time over all queries, in milliseconds."""

    min: float
    max: float
    mean: float
    median: float
    percentiles: Dict[float, float]  # 99.0 -> milliseconds; 8.4 and older print only one


class Performance(NamedTuple):
    """trtexec's summary. One query is one batch."""

    throughput_qps: Optional[float]
    latency: Optional[Spread]  # host to device, computation, and back
    enqueue: Optional[Spread]  # host time to hand the work over
    h2d: Optional[Spread]
    gpu: Optional[Spread]  # the kernels alone
    d2h: Optional[Spread]
    walltime_s: Optional[float]
    gpu_total_s: Optional[float]
    queries: Optional[int]  # timed, without the warm-up


class Device(NamedTuple):
    """The GPU as trtexec names it. The clocks are nominal; they are not those of the run."""

    name: Optional[str]  # "Orin" on every board of that family
    compute_capability: Optional[str]  # "8.7"
    sms: Optional[int]
    compute_clock_ghz: Optional[float]
    memory_clock_ghz: Optional[float]
    memory_mib: Optional[int]


class Build(NamedTuple):
    """What was asked of the builder, and what it made."""

    precision: Optional[str]  # "FP32+FP16", as printed; 11 prints none
    sparsity: Optional[str]  # "Disabled", "Enabled", "Forced"
    seconds: Optional[float]
    engine_mib: Optional[float]  # MiB of 2^20 bytes, with the six digits that trtexec prints


def sparsity(text: str) -> Sparsity:
    """The last pair of sparsity lines, of 8.x (two lists of names) or 10.x (two counts, with or without names).

    TensorRT can print several pairs, one for each graph. A line of choices counts where it comes after the last line of
    eligible layers; that the last graph has none says nothing where an earlier one has some. Names are split at ", "
    only, because fused layers are named `a + b`; a list that has not as many names as its count says is not known.
    """
    eligible: Tuple[Optional[int], Optional[List[str]]] = (None, None)
    chosen: Tuple[Optional[int], Optional[List[str]]] = (None, None)
    some = False
    for line in (line for line in lines_of(text) if "(Sparsity)" in line):  # a verbose log has a million lines
        found = _counted(line, _ELIGIBLE)
        if found is not None:
            eligible, chosen = found, (None, None)
        else:
            chosen = _counted(line, _CHOSEN) or chosen
            some = some or bool(chosen[0])
    if some and chosen[0] == 0:
        chosen = (None, None)
    return Sparsity(eligible[0], chosen[0], eligible[1], chosen[1])


def version(stamp_or_text: str) -> Optional[Tuple[int, int, int]]:
    """Major, minor and patch of TensorRT.

    Args:
        stamp_or_text: a log with trtexec's banner (`[TensorRT v8502]` is 8.5.2, `[TensorRT v101602]` is 10.16.2) or
            with the line `TensorRT version: 10.7.0`; or just `v8502`; or a version such as `10.3.0.30`.
    """
    found = _STAMP.search(stamp_or_text) or re.match(r"^v?(\d{4,6})$", stamp_or_text.strip())
    if found:
        stamp = int(found.group(1))
        scale = 10000 if stamp >= 100000 else 1000
        return stamp // scale, stamp % scale // 100, stamp % 100
    release = _RELEASE.search(stamp_or_text)
    return (int(release.group(1)), int(release.group(2)), int(release.group(3))) if release else None


def performance(text: str) -> Performance:
    """The performance summary of 8.0 to 11, whatever percentiles it prints; the last one where there are several."""
    spreads: Dict[str, Spread] = {}
    for line in (line for line in lines_of(text) if ": min = " in line):
        spreads.update(_spread(bare(line)))
    queries = _last(text, r"Timing trace has (\d+) queries over")
    return Performance(
        throughput_qps=_last_number(text, r"Throughput: ({}) qps".format(_NUMBER)),
        latency=spreads.get("Latency"),
        enqueue=spreads.get("Enqueue Time"),
        h2d=spreads.get("H2D Latency"),
        gpu=spreads.get("GPU Compute Time"),
        d2h=spreads.get("D2H Latency"),
        walltime_s=_last_number(text, r"Total Host Walltime: ({}) s\b".format(_NUMBER)),
        gpu_total_s=_last_number(text, r"Total GPU Compute Time: ({}) s\b".format(_NUMBER)),
        queries=int(queries) if queries else None,
    )


def sections(text: str) -> Dict[str, Dict[str, str]]:
    """The blocks that start with `=== Build Options ===` and the like: name of the block -> key -> value, as printed.

    A block ends at an empty line or where the next one starts.
    """
    found: Dict[str, Dict[str, str]] = {}
    inside: Optional[Dict[str, str]] = None
    for whole in lines_of(text):
        if inside is None and "=== " not in whole:
            continue
        line = bare(whole)
        title = _SECTION.match(line)
        key, colon, value = line.partition(":")
        if title:
            inside = found.setdefault(title["name"], {})
        elif not line.strip():
            inside = None
        elif inside is not None and colon:
            inside[key.strip()] = value.strip()
    return found


def device(text: str) -> Device:
    """The block `Device Information`; since 10 its clocks are called application clocks."""
    block = sections(text).get("Device Information", {})

    def number(key: str, pattern: str) -> Optional[float]:
        return _last_number(block.get(key, ""), pattern)

    sms = number("SMs", r"^(\d+)$")
    memory = number("Device Global Memory", r"^(\d+) MiB$")
    clocks = [
        next(
            filter(None, (number(before + key, r"^({}) GHz$".format(_NUMBER)) for before in ("", "Application "))), None
        )
        for key in ("Compute Clock Rate", "Memory Clock Rate")
    ]
    return Device(
        name=block.get("Selected Device") or None,
        compute_capability=_last(block.get("Compute Capability", ""), r"^(\d+\.\d+)$"),
        sms=None if sms is None else int(sms),
        compute_clock_ghz=clocks[0],
        memory_clock_ghz=clocks[1],
        memory_mib=None if memory is None else int(memory),
    )


def build(text: str) -> Build:
    """The builder's options and its last words."""
    options = sections(text).get("Build Options", {})
    return Build(
        precision=options.get("Precision") or None,
        sparsity=options.get("Sparsity") or None,
        seconds=_last_number(text, r"Engine built in ({}) sec".format(_NUMBER)),
        engine_mib=_last_number(text, r"Created engine with size: ({}) MiB".format(_NUMBER)),
    )


def _counted(line: str, patterns: Tuple["re.Pattern[str]", ...]) -> Optional[Tuple[int, Optional[List[str]]]]:
    for pattern in patterns:
        found = pattern.search(line)
        if found:
            text = (found["names"] or "").strip()
            names = text.split(", ") if text else []
            if "count" not in found.groupdict():
                return len(names), names
            count = int(found["count"])
            return count, names if len(names) == count and names != ["..."] else None
    return None


def _spread(line: str) -> Dict[str, Spread]:
    """Name of the row -> its times; nothing where the line is another one, or holds a time that is not finite."""
    found = _SPREAD.match(line)
    if found is None:
        return {}
    least, most, mean, median = (float(found[name]) for name in ("min", "max", "mean", "median"))
    percentiles = {float(key): float(value) for key, value in _PERCENTILE.findall(found["rest"])}
    finite = all(map(math.isfinite, [least, most, mean, median, *percentiles, *percentiles.values()]))
    return {found["what"]: Spread(least, most, mean, median, percentiles)} if finite else {}


def _last(text: str, pattern: str) -> Optional[str]:
    found = re.findall(pattern, text)
    return found[-1] if found else None


def _last_number(text: str, pattern: str) -> Optional[float]:
    found = _last(text, pattern)
    value = math.inf if found is None else float(found)
    return value if math.isfinite(value) else None

"""What happens to a measurement's document when it arrives: it is cleaned, and held against its own samples.

A device is somebody else's machine. Its texts end up on terminals and pages, its numbers in verdicts.
"""

import math
from typing import Any, Dict, List, Mapping, Optional

from runtimes.printable import printable
from runtimes.record_fields import KINDS, LATENCIES

_RAW = ("latency_ns", "gpu_ns", "twin_ns")  # numbers alone, and a million of them
_MOST = {"facts": 5000, "watch": 2_000_000}  # values in a field
_MOST_ELSEWHERE = 100_000
_DEEPEST = 12  # tables in tables
_LONGEST_KEY = 200  # characters
_LARGEST = 1e18
_NEAR = 1e-6  # relative: numbers travel as decimal digits, and another machine may add in another order


def received(document: Mapping[str, Any]) -> Dict[str, Any]:
    """The fields of a document, their texts printable; a `ValueError` says in a few words what is wrong with them."""
    values: Dict[str, Any] = {}
    for name, value in document.items():
        try:
            values[name] = value if name in _RAW else clean(value, _MOST.get(name, _MOST_ELSEWHERE))
        except ValueError as error:
            raise ValueError("{} {}".format(name, error)) from None
        if name in KINDS and not KINDS[name](values[name]):
            raise ValueError("{} is {}".format(name, shown(value)))
    wrong = _contradiction(values)
    if wrong is not None:
        raise ValueError(wrong)
    return values


def clean(value: Any, most: int = _MOST_ELSEWHERE) -> Any:
    """The same JSON with printable texts; a `ValueError` where it has more than `most` values, or is no plain JSON.

    Numbers that are none (NaN), or larger than anything that is measured, are not plain; nor is nesting without end.
    """
    return _cleaned(value, [most], _DEEPEST)


def _cleaned(value: Any, left: List[int], deep: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or deep < 0:
        raise ValueError("holds too much" if left[0] < 0 else "is nested too deeply")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not abs(value) <= _LARGEST:
            raise ValueError("holds a number that is none, or too large")
        return value
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, (list, tuple)):
        return [_cleaned(entry, left, deep - 1) for entry in value]
    if isinstance(value, Mapping):
        return {printable(str(key), _LONGEST_KEY): _cleaned(entry, left, deep - 1) for key, entry in value.items()}
    raise ValueError("is {}".format(shown(value)))


def _contradiction(values: Mapping[str, Any]) -> Optional[str]:
    """The first summary that is not that of the samples beside it, in words; None where all are."""
    from runtimes.latency import throughput_ips  # numpy comes with it, which a probe does without

    timed = values["latency_ns"]
    if values["n"] != sum(map(len, timed)):
        return "n is {}, which is not the number of its latencies".format(values["n"])
    wrong = _not_those_of("latency", timed, values["latency_ms"])
    if wrong is not None:
        return wrong
    if not _near(values["throughput_ips"], throughput_ips(timed, values["batch"])):
        return "throughput_ips is not that of its latencies"
    if (values.get("gpu_ns") is None) != (values.get("gpu_ms") is None):
        return "gpu_ns and gpu_ms do not come together"
    if values.get("gpu_ns") is not None:
        wrong = _not_those_of("gpu", values["gpu_ns"], values["gpu_ms"])
    return wrong or _of_passes_and_power(values)


def _not_those_of(what: str, samples: List[List[int]], told: Mapping[str, float]) -> Optional[str]:
    from runtimes.latency import summary_ms

    if not any(samples):
        return "{}_ns is empty".format(what)
    found = summary_ms([timed for timed in samples if timed])
    wrong = [key for key in LATENCIES if not _near(told[key], found[key])]
    return "{}_ms.{} is not that of its samples".format(what, wrong[0]) if wrong else None


def _of_passes_and_power(values: Mapping[str, Any]) -> Optional[str]:
    import numpy as np

    passes, power = values.get("passes") or [], values.get("power")
    rounds = [timed for timed in values["latency_ns"] if timed]
    if passes and sum(one["rounds"] for one in passes) != len(rounds):
        return "passes are not those of its latencies"
    if power is not None and not _near(power["mean_mw"], values["power_mw"]):
        return "power_mw is not that of power"
    timed = [*rounds, *filter(None, values.get("twin_ns") or [])]
    if values["runtime"] != "null" and min(float(np.median(samples)) for samples in timed) <= 0:
        return "latency_ns or twin_ns has a round that took no time"
    return None


def _near(told: float, found: Optional[float]) -> bool:
    return found is not None and math.isclose(told, found, rel_tol=_NEAR, abs_tol=1e-12)


def shown(value: object) -> str:
    """A value in an error message: itself where it is short."""
    plain = isinstance(value, (str, int, float)) or value is None
    return printable(repr(value), 60) if plain else "not what it has to be"

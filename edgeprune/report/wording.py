"""Numbers as people read them: each function takes one quantity in its unit and gives text, a dash for None."""

from __future__ import annotations

import math

NONE = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"
TIMES = "\N{MULTIPLICATION SIGN}"
SPACE = "\N{NO-BREAK SPACE}"

RUNTIMES = {
    "null": "null runtime",
    "ort": "ONNX Runtime",
    "sparse_cpu": "sparse_cpu",  # it has no other name
    "openvino": "OpenVINO",
    "deepsparse": "DeepSparse",
    "trt": "TensorRT",
}
NETWORKS = {"teacher": "Teacher", "dense": "Dense", "pruned": "Pruned, not retrained", "sparse": "Sparse"}


def percent(value: float | None, digits: int = 1) -> str:
    """A percentage (97.8), with its sign."""
    return NONE if value is None else f"{value:.{digits}f}{SPACE}%"


def compacted(name: str) -> bool:
    """Whether a network, by its name, is the one without dead channels: `sparse-compact`, `sparse-compact-fp16`."""
    return name.partition("-")[2].partition("-")[0] == "compact"


def network(role: str, name: str) -> str:
    """What a network is called: its role in words, and that it was compacted where it was."""
    return NETWORKS.get(role, role) + (", compacted" if compacted(name) else "")


def share(fraction: float | None, digits: int = 1) -> str:
    """A fraction of 1 as a percentage; 0.99999 is not rounded up to 100 %, nor 0.00001 down to 0 %."""
    if fraction is None:
        return NONE
    step = 10.0**-digits
    shown = round(100 * fraction, digits)
    if shown >= 100 and fraction < 1:
        return f"> {100 - step:.{digits}f}{SPACE}%"
    if shown <= 0 and fraction > 0:
        return f"< {step:.{digits}f}{SPACE}%"
    return percent(shown, digits)


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of two percentages, in points, with a sign."""
    if difference is None:
        return NONE
    text = f"{abs(difference):.{digits}f}"
    sign = "" if float(text) == 0 else MINUS if difference < 0 else "+"
    return f"{sign}{text}{SPACE}points"


def milliseconds(value: float | None) -> str:
    """A time given in milliseconds, to three digits, in the unit that suits it."""
    if value is None:
        return NONE
    for factor, unit in ((1e6, "ns"), (1e3, "\N{GREEK SMALL LETTER MU}s"), (1.0, "ms")):
        if abs(value) * factor < 999.5:
            return f"{digits(value * factor)}{SPACE}{unit}"
    return f"{digits(value / 1000)}{SPACE}s"


def size(value: float | None) -> str:
    """Bytes, in decimal units (1 kB = 1000 B)."""
    if value is None:
        return NONE
    for factor, unit in ((1, "B"), (1e3, "kB"), (1e6, "MB")):
        if value / factor < 999.5:
            return f"{digits(value / factor, whole=unit == 'B')}{SPACE}{unit}"
    return f"{digits(value / 1e9)}{SPACE}GB"


def mebibytes(value: float | None) -> str:
    """Memory given in MiB: to three digits, below 10 to one decimal, because it is counted in pages of 0.004 MiB."""
    if value is None:
        return NONE
    text = f"{value:.1f}" if abs(value) < 10 else digits(value)
    return f"{'0.0' if text == '-0.0' else text}{SPACE}MiB"


def watts(value: float | None) -> str:
    """Power given in milliwatts, in watts to three digits."""
    return NONE if value is None else f"{digits(value / 1000)}{SPACE}W"


def joules(value: float | None) -> str:
    """Energy given in millijoules."""
    if value is None:
        return NONE
    if abs(value) >= 999.5:
        return f"{digits(value / 1000)}{SPACE}J"
    if abs(value) >= 0.9995:
        return f"{digits(value)}{SPACE}mJ"
    return f"{digits(1000 * value)}{SPACE}\N{GREEK SMALL LETTER MU}J"


def figure(value: float | None, unit: str) -> str:
    """A number of the table of all devices, in its unit."""
    shown = {"ms": milliseconds, "MiB": mebibytes, "mW": watts, "mJ": joules, "bytes": size}
    if unit in shown:
        return shown[unit](value)
    if unit == "%":
        return percent(value, 2)
    if value is None:
        return NONE
    return f"{digits(value) if value < 999.5 else format(value, ',.0f')}{SPACE}{unit}"


def count(value: float | None) -> str:
    """A count: exact to 9,999, then to three digits with k, M or G."""
    if value is None:
        return NONE
    if value < 10_000:
        return f"{value:,.0f}"
    for factor, unit in ((1e3, "k"), (1e6, "M")):
        if value / factor < 999.5:
            return f"{digits(value / factor)}{SPACE}{unit}"
    return f"{digits(value / 1e9)}{SPACE}G"


def ratio(value: float | None) -> str:
    """A ratio such as a speed-up, to two decimals."""
    return NONE if value is None else f"{value:.2f}"


def digits(value: float, whole: bool = False) -> str:
    """Three significant digits without an exponent; `whole` numbers get no decimals."""
    if whole or value == 0:
        return f"{value:.0f}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def runtime(name: str, version: str | None = None) -> str:
    """A runtime's full name."""
    return f"{RUNTIMES.get(name, name)} {version}" if version else RUNTIMES.get(name, name)


def plural(n: int, noun: str) -> str:
    """`1 thread`, `2 threads`."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}es" if noun.endswith(("ch", "ss")) else f"{n:,} {noun}s"

"""Which software a Jetson runs: L4T, JetPack, CUDA and TensorRT, each read and none inferred from another but JetPack.

JetPack's name is looked up from L4T only where its package is not installed, which is common.
"""

import json
import re
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Tuple

from runtimes.board.commands import Run, ask, run_command
from runtimes.readings import ROOT, Reading, read

NO_RELEASE = "neither /etc/nv_tegra_release nor a package nvidia-l4t-core"
NOT_A_JETSON = "not a Jetson: " + NO_RELEASE

# L4T -> JetPack, from NVIDIA's release pages.
_JETPACKS = {
    **{"32.6.1": "4.6", "32.7.1": "4.6.1", "32.7.2": "4.6.2", "32.7.3": "4.6.3", "32.7.4": "4.6.4"},
    **{"32.7.5": "4.6.5", "32.7.6": "4.6.6"},
    **{"35.1.0": "5.0.2", "35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2", "35.5.0": "5.1.3"},
    **{"35.6.0": "5.1.4", "35.6.1": "5.1.5", "35.6.2": "5.1.5", "35.6.3": "5.1.5", "35.6.4": "5.1.6"},
    **{"36.2.0": "6.0 DP", "36.3.0": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1", "36.4.7": "6.2.1"},
    **{"36.5.0": "6.2.2", "36.5.2": "6.2.3"},
    **{"38.2.0": "7.0", "38.2.1": "7.0", "38.2.2": "7.0", "38.4.0": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1"},
}
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_PACKAGES = ("nvidia-l4t-core", "nvidia-jetpack", "tensorrt", "libnvinfer", "cuda-cudart", "cuda-toolkit")
_ROWS = ["dpkg-query", "-W", "-f", "${Package}\t${Version}\n"]


class Release(NamedTuple):
    """The first line of /etc/nv_tegra_release."""

    l4t: str  # "36.4.4"
    built: Optional[str]  # "2025-06-16T16:07:13", UTC


# Parsers -----------------------------------------------------------------------------------------------------------


def parse_nv_tegra_release(text: str) -> Optional[Release]:
    """/etc/nv_tegra_release; its date comes with a clock of 24 hours, or of 12 with AM and PM."""
    found = re.search(r"^# R(\d+) \(release\), REVISION: ([\d.]+)", text, re.MULTILINE)
    return Release("{}.{}".format(*found.groups()), _built(text)) if found else None


def _built(text: str) -> Optional[str]:
    date = re.search(r"DATE: \w{3} (\w{3}) +(\d+) (\d+):(\d\d):(\d\d)(?: ([AP]M))? UTC (\d{4})", text)
    if date is None or date.group(1) not in _MONTHS:
        return None
    month, day, hour, minute, second, half, year = date.groups()
    hours = int(hour) if half is None else int(hour) % 12 + (12 if half == "PM" else 0)
    number = _MONTHS.index(month) + 1
    return "{}-{:02}-{:02}T{:02}:{}:{}".format(year, number, int(day), hours, minute, second)


def parse_packages(text: str) -> Dict[str, str]:
    """Rows `package version` with a tab or blank between them; a virtual package has no version and is left out."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def parse_dpkg_status(text: str) -> Dict[str, str]:
    """/var/lib/dpkg/status: the packages named in `_PACKAGES` that are installed, and their versions."""
    found = {}
    for stanza in re.split(r"\n\n+", text):
        name = re.match(r"\s*Package: (\S+)$", stanza, re.MULTILINE)
        if name is None or not name.group(1).startswith(_PACKAGES):
            continue
        version = re.search(r"^Version: (\S+)$", stanza, re.MULTILINE)
        if version and re.search(r"^Status: \S+ \S+ installed$", stanza, re.MULTILINE):
            found[name.group(1)] = version.group(1)
    return found


def parse_cuda_json(text: str) -> Optional[str]:
    """/usr/local/cuda/version.json."""
    try:
        version = json.loads(text)["cuda"]["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) else None


def parse_cuda_text(text: str) -> Optional[str]:
    """/usr/local/cuda/version.txt of CUDA 10: `CUDA Version 10.2.300`."""
    found = re.search(r"CUDA Version (\d+\.\d[\d.]*)", text)
    return found.group(1) if found else None


def jetpack_of(l4t: str) -> Optional[str]:
    """The JetPack that brings this L4T; None for one that is not in the table."""
    return _JETPACKS.get(l4t)


# Reading -----------------------------------------------------------------------------------------------------------


def packages(root: Path = ROOT, run: Run = run_command) -> Mapping[str, str]:
    """Installed packages of NVIDIA, name -> version: from dpkg's own file, else from its program."""
    from_file = read("var/lib/dpkg/status", parse_dpkg_status, root)
    if from_file.value is not None:
        found: Mapping[str, str] = from_file.value
        return found
    rows = ask(run, _ROWS, parse_packages).value or {}
    return {name: version for name, version in rows.items() if name.startswith(_PACKAGES)}


def releases(root: Path = ROOT, run: Run = run_command) -> Tuple[Dict[str, Reading], List[str]]:
    """`l4t`, `l4t_built`, `jetpack`, `cuda` and `tensorrt`, and where file and package contradict each other."""
    installed = packages(root, run)
    release = read("etc/nv_tegra_release", parse_nv_tegra_release, root)
    package = _upstream(installed.get("nvidia-l4t-core", "")).partition("-")[0]
    l4t = release.value.l4t if release.value else package or None
    built = release.value.built if release.value else None
    found = {
        "l4t": Reading(l4t) if l4t else Reading(None, NOT_A_JETSON),
        "l4t_built": Reading(built) if built else Reading(None, release.reason or "no known date in its file"),
        "jetpack": _jetpack(l4t, installed),
        "cuda": _cuda(root, installed),
        "tensorrt": _tensorrt(installed),
    }
    apart = bool(release.value and package and release.value.l4t != package)
    text = "/etc/nv_tegra_release says L4T {}, the package nvidia-l4t-core {}"
    return found, [text.format(l4t, package)] if apart else []


def _upstream(version: str) -> str:
    """A Debian version without its epoch."""
    return version.rpartition(":")[2]


def _jetpack(l4t: Optional[str], installed: Mapping[str, str]) -> Reading:
    named = re.match(r"\d+(?:\.\d+)*", _upstream(installed.get("nvidia-jetpack", "")))
    if named:
        return Reading(named.group())
    if l4t is None:
        return Reading(None, NOT_A_JETSON)
    known = jetpack_of(l4t)
    return Reading(known) if known else Reading(None, "unknown for L4T {}".format(l4t))


def _cuda(root: Path, installed: Mapping[str, str]) -> Reading:
    for name, parse in (("version.json", parse_cuda_json), ("version.txt", parse_cuda_text)):
        found = read("usr/local/cuda/" + name, parse, root)
        if found.value is not None:
            return found
    versions = [version for name, version in installed.items() if re.match(r"cuda-(?:cudart|toolkit)-\d", name)]
    if versions:
        return Reading(_upstream(max(versions, key=_numbers)).partition("-")[0])
    built_for = sorted({found for version in installed.values() for found in re.findall(r"\+cuda(\d[\d.]*)", version)})
    if len(built_for) == 1:
        return Reading("{} (which TensorRT's package is built for)".format(built_for[0]))
    return Reading(None, "no /usr/local/cuda/version.json and no package of its runtime library")


def _numbers(version: str) -> List[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _tensorrt(installed: Mapping[str, str]) -> Reading:
    names = [name for name in installed if re.fullmatch(r"libnvinfer\d+|libnvinfer-bin|tensorrt", name)]
    if not names:
        return Reading(None, "no package libnvinfer (one that pip installed is not seen here)")
    newest = max((installed[name] for name in names), key=_numbers)
    return Reading(re.split(r"[-+]", _upstream(newest))[0])

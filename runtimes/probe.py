"""What a device is, which runtimes it has, and what it lacks: all that can be told before anything is measured on it.

It works without numpy: that is then the first thing it says.
"""

import os
import re
import sys
from typing import Any, Dict, List, Mapping, Optional

from runtimes import RUNTIMES, installing, sampler
from runtimes.board.needs import Need, board_needs, is_jetson
from runtimes.tables import resolve

OLDEST = (3, 8)
_WHAT_TO_DO = ": (?=install it|on a Jetson|`)"  # in what a runtime says: a `fix` knows this Python better
_NO_NUMPY = "numpy is not installed"
_RUNS_ANYWHERE = "ort"
_RUNS_ON_JETSON = "trt"
_NO_LIBRARY = "sparse_cpu: there is no "  # as `runtimes.sparse_cpu.library` begins


def probe() -> Dict[str, Any]:
    """`facts` as `sampler.facts`, `runtimes` by name, each {"version", "missing"}, and `needs`.

    A need is {"what", "fine", "found", "needed", "fix"}: what was looked at, whether it is fine, what was found,
    whether a measurement is impossible without it, and where it is not fine the exact command that helps, or None.
    """
    facts = sampler.facts()
    runtimes = {name: _runtime(address) for name, address in RUNTIMES.items()}
    needs = [_python(), _numpy(facts), *_runtime_needs(runtimes, facts), *board_needs(facts)]
    told = [need._replace(fix=None) if need.fine else need for need in needs]
    return {"facts": facts, "runtimes": runtimes, "needs": [need._asdict() for need in told]}


def _runtime(address: str) -> Dict[str, Optional[str]]:
    try:
        module = resolve(address)
        lacks = module.missing()
        return {"version": None if lacks else str(module.version()), "missing": lacks}
    except ImportError as error:
        if error.name == "numpy":
            return {"version": None, "missing": "{}: {}".format(_NO_NUMPY, installing.command("numpy"))}
        return _broken(error)
    except Exception as error:  # its library is there and fails in its own way
        return _broken(error)


def _broken(error: Exception) -> Dict[str, Optional[str]]:
    words = " ".join(str(error).split())[:300]
    return {"version": None, "missing": "its library fails: {}: {}".format(type(error).__name__, words)}


def _python() -> Need:
    found = "{} ({})".format(sys.version.split()[0], sys.executable)
    oldest = ".".join(map(str, OLDEST))
    fix = "name a Python of {} or newer there: --python PATH".format(oldest)
    return Need("Python {} or newer".format(oldest), sys.version_info >= OLDEST, found, True, fix)


def _numpy(facts: Mapping[str, Any]) -> Need:
    version = facts["numpy"]
    found = version or facts["reasons"].get("numpy", "not installed")
    return Need("numpy", version is not None, found, True, installing.command("numpy"))


def _runtime_needs(runtimes: Mapping[str, Mapping[str, Optional[str]]], facts: Mapping[str, Any]) -> List[Need]:
    """On a Jetson TensorRT is what one comes for; anywhere else ONNX Runtime is what runs."""
    needed = ("null", _RUNS_ON_JETSON if is_jetson(facts) else _RUNS_ANYWHERE)
    found = []
    for name, state in runtimes.items():
        if (state["missing"] or "").startswith(_NO_LIBRARY) and _is_bundled():
            found.append(Need("runtime {}".format(name), True, "bundles bring its library", name in needed))
            continue
        fix = _fix(name, state["missing"] or "", is_jetson(facts))
        told = state["missing"] or "version {}".format(state["version"])
        told = re.split(_WHAT_TO_DO, told)[0] if fix else told
        found.append(Need("runtime {}".format(name), state["missing"] is None, told, name in needed, fix))
    return found


def _is_bundled() -> bool:
    """Whether bundles have the library of sparse_cpu for this machine."""
    from runtimes.sparse_cpu.library import BUNDLED, triple

    return triple() in BUNDLED


def _fix(name: str, missing: str, jetson: bool) -> Optional[str]:
    """Where the runtime itself does not say it better."""
    if missing.startswith(_NO_NUMPY) or name == "null":
        return installing.command("numpy")
    if name == "ort":
        return installing.command("onnxruntime")
    if name == "trt" and missing.startswith("TensorRT is not installed"):
        return _tensorrt() if jetson else "TensorRT needs an NVIDIA GPU; on a Jetson it comes with JetPack"
    return None


def _tensorrt() -> str:
    """JetPack's bindings are made for JetPack's own Python, and no environment sees them unless it was made so."""
    if os.path.realpath(sys.base_prefix) != "/usr":
        return "JetPack's TensorRT is for its own Python: --python /usr/bin/python3, or an environment made with it"
    if not installing.sees_system_packages():
        return "`{} -m venv --system-site-packages {}` lets this environment see JetPack's TensorRT".format(
            installing.base_python(), sys.prefix
        )
    return "`sudo apt-get install python3-libnvinfer libnvinfer-bin`"

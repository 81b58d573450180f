"""What TensorRT says about the layers of an engine: the inspector's JSON, its text form, and trtexec's two exports.

Read where: the inspector's forms in the captured prints of `tests/captured/trtexec`; `exportTimes` and `exportProfile`
in samples/common/sampleReporting.cpp of NVIDIA/TensorRT (exportJSONTrace and exportJSONProfile), 8.4 to 11.1. Before
8.5 `exportTimes` still holds the warm-up, and before 8.4 `exportProfile` has no median. No such file of a real board
has been read here.
"""

import json
import math
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional

_PREFIX = r"^(?:\[[\d/]+-[\d:]+\] )?(?:\[[A-Z]\] )?(?:\[TRT\] )?"
_TEXT_HEAD = re.compile(_PREFIX + r"Name: (?P<name>.*?), LayerType: (?P<kind>[^,]*)")
_TEXT_TACTIC = re.compile(r", TacticName: ([^,]*)")
_TEXT_SPARSE = re.compile(r", (?:HasSparseWeights|AllowSparse): ([01])\b")
_FLAGS = ("HasSparseWeights", "AllowSparse")  # since 8.6; in 8.5
_PROFILE_LINE = re.compile(r'"name" : "(?P<name>.*)", "timeMs" : \S+, "averageMs" : (?P<average>[^\s,}]+)')
_PROFILE_MEDIAN = re.compile(r'.*", "timeMs" : .*"medianMs" : (?P<median>[^\s,}]+)')


class InspectedLayer(NamedTuple):
    """One layer of an engine. What the engine does not tell, because of its verbosity or its age, is None."""

    name: str
    kind: Optional[str]  # LayerType, for example CaskConvolution, gemm, Reformat
    tactic: Optional[str]  # TacticName: the kernel that was chosen
    has_sparse_weights: Optional[bool]  # HasSparseWeights, or AllowSparse of 8.5: a property of the weights


def inspected_layers(source: Any) -> List[InspectedLayer]:
    """The layers in the engine's order.

    Args:
        source: what `IEngineInspector.get_engine_information` gives, or trtexec's `--exportLayerInfo` file: JSON as
            text or parsed. Text that is not JSON is read as the inspector's one-line form, see `layers_of_text`.

    Returns:
        The layers; empty where nothing of the kind is there. An engine built without detailed verbosity has only
        names.
    """
    content = source
    if isinstance(source, str):
        try:
            content = json.loads(source, strict=False)  # its Metadata holds the raw byte 0x1E
        except (ValueError, RecursionError):
            return layers_of_text(source)
    entries = content.get("Layers") if isinstance(content, Mapping) else content
    found = [_layer(entry) for entry in entries] if isinstance(entries, list) else []
    return [layer for layer in found if layer is not None]


def layers_of_text(text: str) -> List[InspectedLayer]:
    """The layers of lines such as `Name: a + b, LayerType: CaskConvolution, ..., TacticName: sm80_x, ...`."""
    layers = []
    for line in lines_of(text):
        head = _TEXT_HEAD.match(line) if ", LayerType: " in line else None
        if head:
            tactics, flags = _TEXT_TACTIC.findall(line), _TEXT_SPARSE.findall(line)
            layers.append(
                InspectedLayer(
                    head["name"],
                    head["kind"] or None,
                    (tactics or [""])[-1] or None,
                    flags[-1] == "1" if flags else None,
                )
            )
    return layers


def lines_of(text: str) -> List[str]:
    """The lines of a log. `str.splitlines` would also break a line at the byte 0x1E that TensorRT prints."""
    return [line.rstrip("\r") for line in text.split("\n")]


def exported_times(text: str) -> Dict[str, List[float]]:
    """The queries of trtexec's `--exportTimes` file, in order.

    Returns:
        {"latency": [...], "gpu": [...]} in milliseconds: host latency (transfers and computation) and GPU compute time
        of each query. Empty lists where the file is not of this kind.
    """
    try:
        queries = json.loads(text)
    except (ValueError, RecursionError):
        queries = []
    kept = [query for query in queries if isinstance(query, Mapping)] if isinstance(queries, list) else []
    return {
        name: [float(query[key]) for query in kept if _is_time(query.get(key))]
        for name, key in (("latency", "latencyMs"), ("gpu", "computeMs"))
    }


def exported_profile(text: str) -> Dict[str, float]:
    """Milliseconds of each layer in one inference, from trtexec's `--exportProfile` file: layer name -> median.

    The mean stands in where a release (before 8.4) writes no median. Read line by line: trtexec writes names as they
    are, also those with quotes in them, so the file need not be JSON.
    """
    times = {}
    for line in lines_of(text):
        found = _PROFILE_LINE.search(line)
        if found:
            median = _PROFILE_MEDIAN.match(line)
            value = _finite(median["median"] if median else found["average"])
            if value is not None:
                times[found["name"]] = value
    return times


def _layer(entry: Any) -> Optional[InspectedLayer]:
    if isinstance(entry, str):
        return InspectedLayer(entry, None, None, None)
    if not isinstance(entry, Mapping) or not isinstance(entry.get("Name"), str):
        return None
    flags = [entry[key] for key in _FLAGS if key in entry and entry[key] in (0, 1)]
    return InspectedLayer(
        entry["Name"], _text(entry.get("LayerType")), _text(entry.get("TacticName")), bool(flags[0]) if flags else None
    )


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) and value else None


def _is_time(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _finite(text: str) -> Optional[float]:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None

"""The receipt: whether TensorRT really runs layers sparse, in three values.

Proof is a line of the log that counts chosen layers, or the name of a chosen kernel. That a layer's weights are marked
as sparse (`HasSparseWeights`) proves nothing: engines are known that say so and run dense kernels (issue 4694 of
NVIDIA/TensorRT). Silence is not "no" either: the log says nothing unless it is asked to.
"""

import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from runtimes.trt_inspector import InspectedLayer
from runtimes.trt_logs import Sparsity

_SPARSE_TACTIC = re.compile(r"sparse|sptensor", re.IGNORECASE)
_COMPUTING = re.compile(r"conv|gemm|mat_?mul|matrix_?multiply|fully_?connected", re.IGNORECASE)
# What they run inside is not told, unless by the name of a kernel of NVIDIA's libraries.
_OPAQUE = re.compile(r"myelin|foreign|plugin|kgen", re.IGNORECASE)
_KERNEL = re.compile(r"sm_?\d+|xmma|cutlass|gemm|conv", re.IGNORECASE)
# Kinds that hold no product of weights. MyelinReformat moves data. A kind that is not here may hold one.
_HARMLESS = re.compile(
    r"reformat|copy|^(?:activation|cast|concat(?:enation)?|constant|dequantize|element_?wise|fill|gather\w*|identity|no_?op"
    r"|normalization|padding|\w*pooling(?:v2)?|point_?wise(?:v2)?|quantize|reduce|resize|scale|scatter\w*|select|shape"
    r"|shape_?host_?to_?device|shuffle|signal|slice|soft_?max(?:v2)?|squeeze|top_?k|transpose|unary|unsqueeze|wait)$",
    re.IGNORECASE,
)
_SHOWN = 3  # names in a sentence


class _Evidence(NamedTuple):
    sparse: List[str]  # layers with a sparse kernel
    all_dense: bool  # every layer that could be sparse is named with a kernel, and none is sparse
    marked: int  # layers whose weights are called sparse


def receipt(sparsity: Sparsity, layers: Sequence[InspectedLayer], times_ms: Mapping[str, float]) -> Dict[str, Any]:
    """The receipt of one engine.

    Args:
        sparsity: what the log of its build said, see `trt_logs.sparsity`.
        layers: what the engine inspector said; empty where it was not asked.
        times_ms: layer name -> milliseconds in one inference; layers may be missing.

    Returns:
        {eligible, chosen, eligible_layers, chosen_layers, tactics: [{layer, tactic, sparse, ms}], verdict, reason}.
        The verdict is "yes" or "no" where there is evidence and none against it, else "unknown".
    """
    sparsity = sparsity._replace(
        eligible=_number(sparsity.eligible, sparsity.eligible_layers),
        chosen=_number(sparsity.chosen, sparsity.chosen_layers),
    )
    verdict, reason = _verdict(sparsity, _evidence(layers))
    return {
        "eligible": sparsity.eligible,
        "chosen": sparsity.chosen,
        "eligible_layers": sparsity.eligible_layers,
        "chosen_layers": sparsity.chosen_layers,
        "tactics": [
            {
                "layer": layer.name,
                "tactic": layer.tactic,
                "sparse": is_sparse_tactic(layer.tactic),
                "ms": times_ms.get(layer.name),
            }
            for layer in layers
            if layer.tactic
        ],
        "verdict": verdict,
        "reason": reason,
    }


def is_sparse_tactic(tactic: Optional[str]) -> bool:
    """Whether the name of a kernel says that it uses sparse tensor cores."""
    return bool(tactic and _SPARSE_TACTIC.search(tactic))


def _number(count: Optional[int], names: Optional[Sequence[str]]) -> Optional[int]:
    return len(names) if count is None and names is not None else count


def _evidence(layers: Sequence[InspectedLayer]) -> _Evidence:
    computing = [layer for layer in layers if layer.kind is None or not _HARMLESS.search(layer.kind)]
    sparse = [layer.name for layer in layers if is_sparse_tactic(layer.tactic)]
    named = bool(computing) and all(map(_names_its_kernel, computing))
    return _Evidence(sparse, named and not sparse, sum(1 for layer in layers if layer.has_sparse_weights))


def _names_its_kernel(layer: InspectedLayer) -> bool:
    """Whether the tactic is the kernel that multiplies; of an opaque or unknown layer only where it looks like one."""
    told = bool(layer.kind and _COMPUTING.search(layer.kind)) and not _OPAQUE.search(layer.name + " " + str(layer.kind))
    return bool(layer.tactic and (told or _KERNEL.search(layer.tactic)))


def _verdict(told: Sparsity, seen: _Evidence) -> Tuple[str, str]:
    doubt = _contradiction(told, seen)
    if doubt is not None:
        return "unknown", doubt
    if told.chosen:
        return "yes", "TensorRT's log says that it chose sparse kernels for {}.".format(_chosen(told))
    if seen.sparse:
        return "yes", "The engine runs sparse kernels in {}.".format(_names(seen.sparse))
    if told.chosen == 0:
        return "no", "TensorRT's log says that it chose sparse kernels for {}.".format(_chosen(told))
    if seen.all_dense:
        return "no", "The engine names the kernel of every convolution and matrix product, and none is sparse."
    return "unknown", _why_unknown(told, seen)


def _contradiction(told: Sparsity, seen: _Evidence) -> Optional[str]:
    if told.chosen_layers is not None and told.chosen != len(told.chosen_layers):
        return "The log counts {} chosen layers and names {}.".format(told.chosen, len(told.chosen_layers))
    if told.chosen is not None and told.eligible is not None and told.chosen > told.eligible:
        return "The log says that {} layers were chosen of {} eligible ones.".format(told.chosen, told.eligible)
    if told.chosen == 0 and seen.sparse:
        return "The log says that no layer was chosen, but the engine runs a sparse kernel in {}.".format(
            _names(seen.sparse)
        )
    if told.chosen and seen.all_dense:
        return "The log says that it chose sparse kernels for {}, but the engine names none.".format(_chosen(told))
    return None


def _why_unknown(told: Sparsity, seen: _Evidence) -> str:
    start = "The log says nothing of chosen layers, and the engine does not name its kernels"
    if told.eligible is not None:
        start = (
            "{} eligible, but the log does not say which were chosen, and the engine does not name its kernels".format(
                "1 layer is" if told.eligible == 1 else "{} layers are".format(told.eligible)
            )
        )
    marked = "; weights marked as sparse ({}) are no proof".format(seen.marked) if seen.marked else ""
    return start + marked + "."


def _chosen(told: Sparsity) -> str:
    what = "{} of {} eligible layers".format(told.chosen or "none", told.eligible)
    if told.eligible is None:
        what = "{} layer{}".format(told.chosen or "no", "s" if (told.chosen or 0) > 1 else "")
    return "{} ({})".format(what, _names(told.chosen_layers)) if told.chosen_layers else what


def _names(names: Sequence[str]) -> str:
    more = ", and {} more".format(len(names) - _SHOWN) if len(names) > _SHOWN else ""
    return ", ".join(" ".join(name.split()) for name in names[:_SHOWN]) + more  # the sentence stays one line

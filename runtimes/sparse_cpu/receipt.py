"""What a loaded network says of itself: which kernels run, and which layers are computed by their non-zeros alone."""

from typing import Any, Dict, Mapping, Optional, Sequence

SKIPPING = ("conv_sparse", "conv_folded", "linear_sparse")
"""The kernels, as `es_describe` names them, that multiply by non-zeros only; others compute with zeros as with any."""


def receipt(described: Mapping[str, Any], step_ns: Optional[Sequence[int]] = None) -> Dict[str, Any]:
    """The receipt, in the form of `runtimes.trt_receipt`, with the kernels' name in addition.

    Args:
        described: the JSON of `es_describe`.
        step_ns: nanoseconds of each of its steps.

    Returns:
        {kernels, lanes, eligible, chosen, tactics: [{layer, tactic, sparse, ms, macs, nonzero_macs}], verdict, reason}.
        Eligible are layers that hold zeros, chosen those of them whose kernel skips the zeros.
    """
    steps = described["steps"]
    times = step_ns if step_ns is not None else [None] * len(steps)
    layers = [(step, ns) for step, ns in zip(steps, times) if step["weights"]]
    eligible = [step for step, _ in layers if step["nonzeros"] < step["weights"]]
    chosen = [step for step in eligible if _is_sparse(step)]
    return {
        "kernels": described["kernels"],
        "lanes": described["lanes"],
        "eligible": len(eligible),
        "chosen": len(chosen),
        "eligible_layers": [step["name"] for step in eligible],
        "chosen_layers": [step["name"] for step in chosen],
        "tactics": [_tactic(step, ns) for step, ns in layers],
        "verdict": "yes" if chosen else "no",
        "reason": _reason(described["kernels"], len(layers), len(eligible), len(chosen)),
    }


def _is_sparse(step: Mapping[str, Any]) -> bool:
    return step["kernel"] in SKIPPING


def _tactic(step: Mapping[str, Any], ns: Optional[int]) -> Dict[str, Any]:
    return {
        "layer": step["name"],
        "tactic": step["kernel"],
        "sparse": _is_sparse(step),
        "ms": None if ns is None or step.get("joins_next") else ns / 1e6,  # timed with the next
        "macs": step["macs"],
        "nonzero_macs": step["nonzero_macs"],
    }


def _reason(kernels: str, layers: int, eligible: int, chosen: int) -> str:
    of = "{} layer{}".format(layers, "" if layers == 1 else "s")
    if not eligible:
        return "sparse_cpu runs {}, none of which has a zero, with its {} kernels.".format(of, kernels)
    return "sparse_cpu skips the zeros in {} of {} with its {} kernels.".format(chosen or "none", of, kernels)

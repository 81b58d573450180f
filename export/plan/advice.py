"""What a plan advises, in sentences: by target, with what edgeprune does not have yet called so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from export.plan.eligibility import FIRST_WITH_MATMUL, LARGE, Release
from export.targets import Target

if TYPE_CHECKING:
    from export.plan import PlannedLayer

ROUND_CHANNELS_TO = {"2:4": 32, "channels": 16}
"""What channel counts should stay a multiple of: 32 where 2:4 comes after; on Volta 16, 16 bytes of int8 (NVIDIA Deep
Learning Performance documentation, Matrix multiplication background, 'Tensor core requirements')."""

_NO_CHANNELS = "edgeprune does not have channel pruning yet"


def advise(
    layers: Sequence[PlannedLayer], target: Target, release: Release | None, unseen: Mapping[str, int]
) -> Iterator[str]:
    """The sentences, the most important first."""
    if target.prunes == "2:4":
        yield from _for_sparse_tensor_cores(layers, target, release)
    elif target.prunes == "channels":
        yield (
            "No pattern of zeros is faster here, neither unstructured nor 2:4: the GPU has no sparse tensor cores, and "
            "TensorRT computes with zeros as with any other weight."
        )
        multiple = ROUND_CHANNELS_TO[target.prunes]
        yield f"Remove whole channels, and keep what stays a multiple of {multiple}; {_NO_CHANNELS}."
    else:
        yield (
            "Prune unstructured zeros and run the network on edgeprune's own runtime sparse_cpu, which skips them "
            "(--runtime sparse_cpu). ONNX Runtime computes with zeros as with any other weight: there they make the "
            "compressed file smaller and nothing faster."
        )
    if unseen:
        told = ", ".join(f"{count} x {operator}" for operator, count in unseen.items())
        yield f"The plan does not look into {told}: their multiply-adds are missing from the shares."


def _for_sparse_tensor_cores(layers: Sequence[PlannedLayer], target: Target, release: Release | None) -> Iterator[str]:
    worth = [layer for layer in layers if layer.worth_it]
    yield (
        "Unstructured zeros gain nothing here: TensorRT computes with them as with any other weight. Only channels "
        "that are removed, and 2:4, can make a network faster."
    )
    multiple = ROUND_CHANNELS_TO[target.prunes]
    yield f"First remove channels, and round what stays to a multiple of {multiple}; {_NO_CHANNELS}."
    if worth:
        share = sum(layer.share for layer in worth)
        yield (
            f"Then prune 2:4 where it may win: {_counted(len(worth), 'layer')} with {100 * share:.0f} % of the "
            "multiply-adds (--pattern 2:4). TensorRT times sparse against dense kernels for each layer; only the built "
            "engine shows which it chose."
        )
        yield (
            "By itself --pattern 2:4 prunes every layer that fits but the classifier, which edgeprune leaves dense "
            "under N:M. Leave the others that are not worth it dense too, there 2:4 costs accuracy for nothing: "
            "--set 'prune.skip=[...]' takes their names, the list is strategy.dense in --json."
        )
    else:
        yield (
            "No layer here is large enough for 2:4 to win: leave 2:4 away, it would cost accuracy for nothing. "
            f"The rule of thumb asks for K >= {LARGE} output channels and C x kernel >= {LARGE}."
        )
    yield from _doubts(layers, target, release)


def _doubts(layers: Sequence[PlannedLayer], target: Target, release: Release | None) -> Iterator[str]:
    """What is not known of this target, and what another release would do."""
    if target.tensorrt is None:
        yield "TensorRT for RTX does not tell which layers it looks at, nor which it runs sparse: not known."
    if target.doubt is not None:
        yield target.doubt
    products = sum(layer.op == "MatMul" and layer.eligible for layer in layers)
    if not products or release is None or target.tensorrt is None:
        return
    oldest = int(target.tensorrt[0].split(".")[0])
    told = _counted(products, "MatMul layer")
    if release[0] < FIRST_WITH_MATMUL:
        yield f"TensorRT {FIRST_WITH_MATMUL} and newer look at the {told} too."
    elif oldest < FIRST_WITH_MATMUL:
        yield (
            f"The {told} {'counts' if products == 1 else 'count'} from TensorRT {FIRST_WITH_MATMUL} on; older releases "
            f"for this device look at Conv and Gemm only (--tensorrt {target.tensorrt[0]})."
        )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

"""A plan: what pruning a network for a target can be worth, layer by layer, before anything is trained or built.

Everything here is arithmetic on shapes and rules that are written down (`eligibility.py`); nothing is measured.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from onnx import ModelProto

from export.plan.advice import ROUND_CHANNELS_TO, advise
from export.plan.eligibility import Release, judge
from export.plan.inventory import Inventory, Work, take_inventory
from export.shapes import by
from export.targets import Target
from runtimes.errors import UserError

BOUND = "arithmetic on multiply-adds, not a measured speed-up: half of those in the layers worth it fall away"


@dataclass(frozen=True)
class PlannedLayer:
    """One layer, or one product of computed values: what it is, and whether 2:4 is for it."""

    name: str
    kind: str  # conv, transposed conv, linear, product
    op: str  # ONNX operator
    shape: tuple[int, ...] | None  # of the weight, (out, in / groups, *kernel); None: it is computed
    output_shape: tuple[int, ...]  # for one image
    groups: int
    uses: int  # how often the network runs it
    macs: int  # multiply-adds for one image
    share: float  # of the network's multiply-adds
    eligible: bool  # 2:4 is legal for it, and the target has sparse tensor cores
    considered: bool | None  # TensorRT of that release looks at it; None: not known
    worth_it: bool  # eligible, considered, and large enough by the rule of thumb
    reason: str | None  # why the first no is a no
    advice: str  # what to do with it: see `Strategy`


@dataclass(frozen=True)
class Strategy:
    """What to do, for programs; `Plan.advice` says it in sentences."""

    prunes: str  # channels, 2:4, unstructured
    round_channels_to: int | None
    layers: tuple[str, ...]  # 2:4: those worth it; else: those with a weight to prune
    dense: tuple[str, ...]  # those to leave alone


@dataclass(frozen=True)
class Bound:
    """How much 2:4 could save at most."""

    share: float  # of the multiply-adds that are in layers worth it
    times_fewer: float  # multiply-adds before over after, 1 / (1 - share / 2)
    kind: str = BOUND


@dataclass(frozen=True)
class Plan:
    """All that can be said of a network on a target without running it."""

    model: str
    target: Target
    tensorrt: str | None  # the release that the plan is for; None: the target's runtime is another, or not known
    image_shape: tuple[int, ...] | None  # sizes of the image it is planned for; None: no input is of images
    macs: int
    layers: tuple[PlannedLayer, ...]
    strategy: Strategy
    advice: tuple[str, ...]
    bound: Bound

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        return {
            "schema_version": 1,
            "kind": "edgeprune.plan",
            "model": self.model,
            "target": self.target.name,
            "tensorrt": self.tensorrt,
            "image_shape": self.image_shape,
            "macs": self.macs,
            "layers": [asdict(layer) for layer in self.layers],
            "strategy": asdict(self.strategy),
            "advice": list(self.advice),
            "bound": asdict(self.bound),
        }


def plan(model: ModelProto, target: Target, *, name: str, tensorrt: str | None = None) -> Plan:
    """What pruning `model` (a whole one, or its outline) can be worth on `target`.

    :param name: what the plan calls the network.
    :param tensorrt: release such as "10.3"; None: the newest one for the target.
    :raises UserError: shapes cannot be known, nothing in the network has a weight, or the release is none of the
        target's.
    """
    release = release_for(target, tensorrt)
    inventory = take_inventory(model)
    macs = sum(work.macs for work in inventory.work)
    if not any(work.constant for work in inventory.work):
        raise _nothing_to_plan(inventory, name)
    layers = tuple(_planned(work, target, release, macs) for work in inventory.work)
    share = sum(layer.share for layer in layers if layer.worth_it)
    return Plan(
        model=name,
        target=target,
        tensorrt=".".join(map(str, release)) if release else None,
        image_shape=inventory.image,
        macs=macs,
        layers=layers,
        strategy=_strategy(layers, target),
        advice=tuple(advise(layers, target, release, inventory.unseen)),
        bound=Bound(share, 1 / (1 - share / 2)),
    )


def worth(model: ModelProto, target: Target, *, tensorrt: str | None = None) -> set[str]:
    """Names of the layers of `model` that 2:4 is worth it for on `target`, by the rules of `plan`; its errors."""
    return {layer.name for layer in plan(model, target, name="the network", tensorrt=tensorrt).layers if layer.worth_it}


def _nothing_to_plan(inventory: Inventory, name: str) -> UserError:
    told = [f"{count} x {operator}, which a plan does not look into" for operator, count in inventory.unseen.items()]
    told += [f"the {work.op} '{work.name}', {work.unfit}" for work in inventory.work[:1]]
    seen = f"; it has {', '.join(told)}" if told else ""
    return UserError(
        f"{name} has no convolution or linear layer with a constant weight{seen}",
        "a plan is for networks with weights; of a file, export the trained network itself, in float",
    )


def release_for(target: Target, tensorrt: str | None) -> Release | None:
    """The release of TensorRT to plan for as numbers, (10, 3); None where the target has none of its own."""
    if target.tensorrt is None:
        if tensorrt is not None:
            what = "TensorRT for RTX, which counts its own releases" if target.runtime == "trt" else "ONNX Runtime"
            raise UserError(f"{target.name} runs {what}, not TensorRT {tensorrt}", "leave --tensorrt out")
        return None
    oldest, newest = (_numbers(release) for release in target.tensorrt)
    asked = newest if tensorrt is None else _numbers(tensorrt)
    if not oldest <= asked <= newest:
        known = " to ".join(dict.fromkeys(target.tensorrt))
        raise UserError(
            f"{target.name} does not come with TensorRT {tensorrt}, but with {known}",
            "name one of these, or leave --tensorrt out for the newest",
        )
    return asked


def _numbers(release: str) -> Release:
    found = re.fullmatch(r"(\d+)\.(\d+)(\.\d+)*", release)
    if found is None:
        raise UserError(f"'{release}' is no release of TensorRT", "write it as 10.3 or 8.5.2")
    return int(found[1]), int(found[2])


def _planned(work: Work, target: Target, release: Release | None, macs: int) -> PlannedLayer:
    verdict = judge(work, target, release)
    return PlannedLayer(
        name=work.name,
        kind=work.kind,
        op=work.op,
        shape=work.shape,
        output_shape=work.output_shape,
        groups=work.groups,
        uses=work.uses,
        macs=work.macs,
        share=work.macs / macs if macs else 0.0,
        advice=_treatment(work, target, verdict.worth_it),
        **asdict(verdict),
    )


def _treatment(work: Work, target: Target, worth_it: bool) -> str:
    """What to do with a layer: a depthwise one follows the channels before it, and is too thin for zeros."""
    if not work.constant:
        return "nothing"
    if target.prunes == "unstructured":
        return "dense" if work.groups > 1 else "unstructured"
    return "channels, then 2:4" if worth_it else "channels"


def _strategy(layers: Iterable[PlannedLayer], target: Target) -> Strategy:
    held = [layer for layer in layers if layer.advice != "nothing"]
    pruned = [layer.name for layer in held if (layer.worth_it if target.prunes == "2:4" else layer.advice != "dense")]
    dense = [layer.name for layer in held if layer.name not in pruned]
    return Strategy(target.prunes, ROUND_CHANNELS_TO.get(target.prunes), tuple(pruned), tuple(dense))


WIDTH = 100
"""Columns of the advice."""


def as_text(plan: Plan) -> str:
    """The plan for a terminal: a table of layers, the arithmetic bound, the advice."""
    runtime = f", TensorRT {plan.tensorrt}" if plan.tensorrt else ""
    image = f"one image of {by(plan.image_shape)}" if plan.image_shape else "one image"
    head = f"{plan.model} on {plan.target.name}{runtime}: {plan.macs / 1e6:,.1f} million multiply-adds for {image}"
    return "\n".join([head, f"({plan.target.device})", "", *_table(plan), "", *_bound(plan), *_advice(plan)])


def _table(plan: Plan) -> list[str]:
    """Aligned columns; the groups where there are any, 2:4 where the device has it."""
    columns: dict[str, Callable[[PlannedLayer], str]] = {
        "layer": lambda layer: layer.name,
        "kind": lambda layer: layer.kind,
        "weight": lambda layer: _by(layer.shape),
        "groups": lambda layer: str(layer.groups),
        "output": lambda layer: _by(layer.output_shape[layer.output_shape[0] == 1 :]),
        "million MACs": lambda layer: f"{layer.macs / 1e6:,.2f}",
        "share": lambda layer: f"{100 * layer.share:.1f} %",
        "advice": lambda layer: layer.advice,
        "2:4": lambda layer: _yes(layer.eligible),
        "looked at": lambda layer: _yes(layer.considered),
        "worth it": lambda layer: _yes(layer.worth_it),
        "why not": lambda layer: layer.reason or "",
    }
    left_out = {"advice"} if plan.target.sparse_tensor_cores else {"2:4", "looked at", "worth it", "why not"}
    if all(layer.groups == 1 for layer in plan.layers):
        left_out.add("groups")
    shown = {title: told for title, told in columns.items() if title not in left_out}
    rows = [[told(layer) for told in shown.values()] for layer in plan.layers]
    right = {at for at, title in enumerate(shown) if title in ("groups", "million MACs", "share")}
    return _aligned([list(shown), *rows], right)


def _aligned(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{'>' if at in right else '<'}{widths[at]}}" for at, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def _bound(plan: Plan) -> list[str]:
    """Nothing where no layer is worth it: there is nothing to bound."""
    if not plan.bound.share:
        return []
    told = (
        f"{100 * plan.bound.share:.1f} % of the multiply-adds are in layers worth 2:4: at most "
        f"{plan.bound.times_fewer:.2f} times fewer multiply-adds ({plan.bound.kind})."
    )
    return [*textwrap.wrap(told, WIDTH), ""]


def _advice(plan: Plan) -> list[str]:
    return [line for told in plan.advice for line in textwrap.wrap(f"- {told}", WIDTH, subsequent_indent="  ")]


def _by(shape: tuple[int, ...] | None) -> str:
    return "x".join(map(str, shape)) if shape else "-"


def _yes(answer: bool | None) -> str:
    return {True: "yes", False: "no", None: "?"}[answer]

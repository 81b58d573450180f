"""The catalogue of targets: every row keeps the contract, and every number says where it comes from."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

import pytest
from export_networks import SHAPE, Residual, trained

from edgeprune.listing import as_text, facts, listing
from export.plan import as_text as plan_as_text
from export.plan import plan
from export.plan.sketch import sketch
from export.targets import TARGETS, Target
from export.targets.target import NEVER_RUN, NUMBERS
from runtimes import RUNTIMES

EVERY = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)

NAMED = {
    *("jetson-orin", "jetson-orin-nano", "jetson-orin-nx", "jetson-agx-orin", "jetson-xavier-nx", "jetson-agx-xavier"),
    *(
        "jetson-thor",
        "raspberry-pi-4",
        "raspberry-pi-5",
        "x86-avx2",
        "x86-avx512",
        "workstation-gpu",
        "rtx-pc",
        "local",
    ),
}
ARITHMETIC = {"fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4"}
WRITTEN = ("fp32", "fp16", "int8")


def numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def test_every_target_of_the_catalogue_is_there_under_its_name() -> None:
    assert set(TARGETS) == NAMED
    assert all(target.name == name for name, target in TARGETS.items())


@EVERY
def test_a_row_is_plausible(target: Target) -> None:
    assert target.runtime in RUNTIMES
    assert target.architecture in ("aarch64", "x86_64", "any")
    assert set(target.precisions) <= ARITHMETIC
    assert list(target.writes) == [name for name in WRITTEN if name in target.writes]  # most exact first
    assert target.writes[0] == "fp32"
    assert set(target.writes) <= set(target.precisions)
    assert len(target.memory_gb) == len(target.bandwidth_gbs)
    assert all(1 <= size <= 128 for size in target.memory_gb)
    assert all(10 <= rate <= 300 for rate in target.bandwidth_gbs)
    assert list(target.memory_gb) == sorted(target.memory_gb)
    assert len(set(target.power_modes)) == len(target.power_modes)
    assert (target.opset, target.ir_version) == (17, 8)
    assert target.prunes in ("channels", "2:4", "unstructured")
    assert target.note
    assert target.device


@EVERY
def test_sparse_tensor_cores_begin_with_compute_capability_8(target: Target) -> None:
    """By the capability's number, which the field itself does not look at."""
    newest = float((target.compute_capability or "0").split("-")[-1])
    assert target.sparse_tensor_cores == (newest >= 8.0)
    assert target.sparse_tensor_cores == (target.prunes == "2:4")
    assert (target.compute_capability is not None) == (target.runtime == "trt")


@EVERY
def test_releases_are_a_range_that_its_systems_come_with(target: Target) -> None:
    if target.tensorrt is None:
        assert target.runtime == "ort" or target.name == "rtx-pc"
        return
    oldest, newest = map(numbers, target.tensorrt)
    assert (8, 5) <= oldest <= newest <= (11, 4)
    small = target.name in ("jetson-orin-nano", "jetson-orin-nx")  # the documentation of 11.4.1 does not name them
    known = {"7.2": ("8.5", "8.5"), "8.7": ("8.5", "10.16" if small else "11.4"), "11.0": ("10.13", "11.4")}
    assert target.tensorrt == known.get(target.compute_capability or "", target.tensorrt)


def test_a_range_of_devices_says_of_its_oldest_what_it_has_not() -> None:
    """Turing, 7.5, is within the range of TensorRT for RTX and has no sparse tensor cores; 12.1 is its newest."""
    for target in TARGETS.values():
        oldest, newest = ((target.compute_capability or "9").split("-") * 2)[:2]
        if float(oldest) < 8.0 <= float(newest):
            assert (target.name, newest) == ("rtx-pc", "12.1")
            assert "Turing" in target.note
            assert "Turing" in (target.doubt or "")


@EVERY
def test_every_number_has_a_public_source(target: Target) -> None:
    stated = {name for name in NUMBERS if getattr(target, name)}
    needed = stated | {"sparse_tensor_cores", "precisions"}
    assert needed <= set(target.sources), needed - set(target.sources)
    assert set(target.sources) <= {one.name for one in fields(Target)}
    assert set(target.sources) - needed == set(), "a source of nothing"
    for said in target.sources.values():
        assert len(said) > 15
        assert "/" not in said.replace("release/8.5-GA", "").replace("docs/operators.md", "").replace("GT/s", "")


@EVERY
def test_what_edgeprune_never_ran_on_is_called_so(target: Target) -> None:
    board = target.name.startswith(("jetson-", "raspberry-"))
    assert (NEVER_RUN in target.note) == board


@EVERY
def test_an_alias_is_its_original_but_for_the_name(target: Target) -> None:
    if target.alias_of is not None:
        assert replace(target, name=target.alias_of, alias_of=None) == TARGETS[target.alias_of]
    assert TARGETS["jetson-orin"].alias_of == "jetson-agx-orin"


@EVERY
def test_a_tiny_network_can_be_planned_for_it(target: Target) -> None:
    made = plan(sketch(trained(Residual), SHAPE, target), target, name="tiny")
    assert [layer.name for layer in made.layers] == ["conv1", "conv2", "conv3", "fc"]
    assert [layer.eligible for layer in made.layers] == [False, *[target.sparse_tensor_cores] * 3]
    assert not any(layer.worth_it for layer in made.layers)
    assert target.name in plan_as_text(made)


@EVERY
def test_the_listing_tells_every_field(target: Target) -> None:
    listed = json.loads(json.dumps(listing("targets")))["targets"][target.name]
    assert set(listed) == {one.name for one in fields(Target)}
    assert listed["sources"] == dict(target.sources)
    block = next(block for block in as_text(listing("targets")).split("\n\n") if block.startswith(f"{target.name}\n"))
    assert all(words in block for words in facts(target).values())
    assert target.alias_of or all(said in block for said in target.sources.values())


def test_among_all_tables_a_target_is_one_line() -> None:
    assert listing()["targets"]["jetson-thor"] == TARGETS["jetson-thor"].note
    text = as_text(listing())
    assert len(re.findall(r"(?m)^  jetson-thor  ", text)) == 1

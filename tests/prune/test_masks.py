"""Masks: what is pruned stays +0.0 whatever the optimiser does, and a mask has one hash."""

from __future__ import annotations

import pytest
import torch
from toys import random_batches, toy

from edgeprune.distill import lesson_of
from edgeprune.optimise import backward, sgd
from edgeprune.prune import masks as masking
from edgeprune.recipe import Hardware, Objective

LAYERS = ("stem", "conv", "depthwise", "hidden", "head")


def random_masks(seed: int = 0, density: float = 0.3) -> dict[str, torch.Tensor]:
    model = toy()
    draw = torch.Generator().manual_seed(seed)
    return {name: torch.rand(getattr(model, name).weight.shape, generator=draw) < density for name in LAYERS}


def pruned_weights(model: torch.nn.Module, masks: masking.Masks) -> torch.Tensor:
    return torch.cat([getattr(model, name).weight.detach()[~keep] for name, keep in masks.items()])


HARDWARE = [
    Hardware(momentum=0.0, weight_decay=0.0),
    Hardware(momentum=0.9, weight_decay=0.05),
    Hardware(momentum=0.9, weight_decay=0.05, nesterov=True),
]


@pytest.mark.parametrize("shared", HARDWARE)
@pytest.mark.parametrize("held", [True, False])
def test_no_pruned_weight_ever_comes_back(shared: Hardware, held: bool) -> None:
    """Momentum gathered before pruning, decay and Nesterov's look ahead all push; without `hold` they do move zeros."""
    model, masks = toy(), random_masks()
    lesson = lesson_of(Objective(loss="ce"), None)
    optimizer = sgd(model, 0.1, shared)

    def step() -> None:
        for batch in random_batches(2).batches:
            optimizer.zero_grad()
            backward(model, lesson, batch, 0.0)
            optimizer.step()

    step()
    masking.bake(model, masks)
    if held:
        masking.hold(optimizer, model, masks)
    before = model.conv.weight.detach().clone()  # type: ignore[union-attr, operator]
    for _ in range(3):
        step()
        zeros = pruned_weights(model, masks)
        assert bool((zeros == 0).all()) is held
        assert not held or not torch.signbit(zeros).any()
    assert not torch.equal(before, model.conv.weight), "the kept weights learn"  # type: ignore[arg-type]


def test_baking_writes_positive_zeros_and_nothing_else() -> None:
    model, masks = toy(), random_masks()
    before = {name: getattr(model, name).weight.detach().clone() for name in LAYERS}
    masking.bake(model, masks)
    zeros = pruned_weights(model, masks)
    assert (zeros == 0).all()
    assert not torch.signbit(zeros).any()
    for name, keep in masks.items():
        assert torch.equal(getattr(model, name).weight[keep], before[name][keep])


def test_the_zeros_of_a_network_are_its_masks() -> None:
    model, masks = toy(), random_masks()
    masking.bake(model, masks)
    model.stem.weight.data.neg_()  # type: ignore[union-attr, operator]  # turns its zeros into -0.0
    found = masking.of_zeros(model, masks)
    assert found.keys() == masks.keys()
    assert all(torch.equal(found[name], masks[name]) for name in masks)


def test_the_hash_depends_on_the_masks_alone() -> None:
    masks = random_masks()
    assert masking.sha256(masks) == masking.sha256(dict(reversed(masks.items())))
    assert masking.sha256(masks) == masking.sha256({name: mask.clone() for name, mask in masks.items()})
    strided = {name: mask.transpose(0, -1).contiguous().transpose(0, -1) for name, mask in masks.items()}
    assert masking.sha256(masks) == masking.sha256(strided)


def test_different_masks_have_different_hashes() -> None:
    masks = random_masks()
    flipped = {**masks, "head": masks["head"].clone()}
    flipped["head"][0, 0] ^= True
    renamed = {("other" if name == "head" else name): mask for name, mask in masks.items()}
    reshaped = {**masks, "head": masks["head"].view(-1)}
    exchanged = {**masks, "stem": masks["head"], "head": masks["stem"]}
    fewer = {name: masks[name] for name in LAYERS[:-1]}
    several = [masks, flipped, renamed, reshaped, exchanged, fewer, {}, random_masks(seed=1)]
    assert len({masking.sha256(one) for one in several}) == len(several)

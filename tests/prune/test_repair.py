"""Batch-norm statistics after pruning are those of all batches together, and nothing else in the network moves."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from toys import random_batches, same, toy, weights_of

from edgeprune.prune.repair import reestimate_batch_norm
from edgeprune.tables import REPAIRS
from runtimes.tables import resolve


def images(count: int = 48) -> Tensor:
    return torch.cat([batch.images for batch in random_batches(1, size=count).batches]) * 3 + 1


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in weights_of(model).items() if "running" in key}


def test_the_first_norm_gets_the_statistics_of_all_images_at_once() -> None:
    model, x = toy().eval(), images()
    with torch.no_grad():
        activations = model.stem(x).double()  # type: ignore[operator]
    reestimate_batch_norm(model, x.split(16))
    torch.testing.assert_close(model.norm1.running_mean.double(), activations.mean(dim=(0, 2, 3)))
    variance = activations.var(dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(model.norm1.running_var.double(), variance)
    mean_of_variances = torch.stack([part.var(dim=(0, 2, 3), correction=0) for part in activations.split(16)]).mean(
        dim=0
    )
    assert (variance - mean_of_variances).abs().max() > 1e-4, "the test can tell the two apart"


def test_one_batch_gives_every_norm_the_statistics_of_its_input() -> None:
    """With a single batch the later norms are exact, too: their input is what that batch makes it."""
    model, x = toy(), images()
    seen: dict[str, Tensor] = {}
    model.train()
    for name in ("norm1", "norm2"):
        module = getattr(model, name)
        module.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0].detach().double()}))
    reestimate_batch_norm(model, [x])
    for name, given in seen.items():
        torch.testing.assert_close(getattr(model, name).running_mean.double(), given.mean(dim=(0, 2, 3)))
        torch.testing.assert_close(getattr(model, name).running_var.double(), given.var(dim=(0, 2, 3), correction=0))


def test_the_first_norm_does_not_care_how_the_images_are_split() -> None:
    found = []
    for size in (48, 24, 8, 2):
        model = toy()
        reestimate_batch_norm(model, images().split(size))
        found.append((model.norm1.running_mean, model.norm1.running_var))
    for mean, variance in found[1:]:
        torch.testing.assert_close(mean, found[0][0])
        torch.testing.assert_close(variance, found[0][1])


def test_what_was_estimated_before_and_in_which_order_does_not_matter() -> None:
    first, second = toy(), toy()
    second.norm1.running_mean.fill_(100.0)  # type: ignore[union-attr, operator]
    second.norm2.running_var.fill_(0.01)  # type: ignore[union-attr, operator]
    reestimate_batch_norm(first, images().split(16))
    reestimate_batch_norm(second, reversed(images().split(16)))
    for key, value in statistics(first).items():
        torch.testing.assert_close(value, statistics(second)[key])


@pytest.mark.parametrize("name", REPAIRS)
@pytest.mark.parametrize("training", [True, False])
def test_every_repair_leaves_the_weights_the_mode_and_the_momentum(name: str, training: bool) -> None:
    model = toy().train(training)
    model.norm1.momentum, model.norm2.momentum = None, 0.3
    before = weights_of(model)
    resolve(REPAIRS[name])(model, copy.deepcopy(model), {}, images().split(16))
    after = weights_of(model)
    unmoved = [key for key in before if "running" not in key and "num_batches" not in key]
    assert same({key: before[key] for key in unmoved}, {key: after[key] for key in unmoved})
    assert (name == "none") is same(statistics(model), {key: before[key] for key in statistics(model)})
    assert model.training is training
    assert (model.norm1.momentum, model.norm2.momentum) == (None, 0.3)
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_part_that_is_frozen_in_eval_stays_so() -> None:
    model = toy().train()
    model.norm2.eval()  # type: ignore[union-attr, operator]
    reestimate_batch_norm(model, images().split(16))
    assert [module.training for module in (model, model.norm1, model.norm2)] == [True, True, False]


def test_dropout_is_off_as_it_will_be_when_the_statistics_are_used() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3)).train()
    reestimate_batch_norm(model, images().split(16))
    torch.testing.assert_close(model[1].running_var.double(), images().double().var(dim=(0, 2, 3), correction=0))


def test_after_an_error_everything_is_as_it_was() -> None:
    class DiskError(Exception):
        pass

    def failing() -> Iterator[Tensor]:
        yield images()
        raise DiskError

    model = toy().eval()
    before = weights_of(model)
    with pytest.raises(DiskError):
        reestimate_batch_norm(model, failing())
    after = weights_of(model)
    assert same(*({k: v for k, v in state.items() if "num_batches" not in k} for state in (before, after)))
    assert not model.training
    assert model.norm1.momentum == 0.1
    assert not model.norm1._forward_pre_hooks


def test_without_images_and_without_norms_nothing_happens() -> None:
    model = toy()
    before = weights_of(model)
    reestimate_batch_norm(model, [])
    assert same(before, weights_of(model))
    reestimate_batch_norm(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), [images()])
    untracked = nn.BatchNorm2d(3, track_running_stats=False)
    reestimate_batch_norm(untracked, [images()])
    assert untracked.running_mean is None


def test_it_brings_a_pruned_network_back_to_normalised_activations() -> None:
    """What it is for: after pruning, each norm's output has mean 0 and variance 1 again in eval()."""
    model = toy().eval()
    with torch.no_grad():
        model.stem.weight.mul_(torch.rand_like(model.stem.weight) < 0.3)
        reestimate_batch_norm(model, [images()])
        out = model.norm1(model.stem(images()))
    assert out.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (out.var(dim=(0, 2, 3)) - 1).abs().max() < 1e-2

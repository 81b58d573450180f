"""The refit against torch's own least squares on the support, and what it is for: answers like the dense network's."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toys import Toy, same, toy, weights_of

from edgeprune.layers import weights
from edgeprune.prune import least_squares as module
from edgeprune.prune.least_squares import least_squares
from edgeprune.prune.masks import Masks, bake
from edgeprune.prune.repair import reestimate_batch_norm
from runtimes.errors import UserError

LAYERS = ("stem", "conv", "depthwise", "grouped", "pointwise", "hidden")


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def by_magnitude(model: nn.Module, names: tuple[str, ...], keep: float = 0.4) -> dict[str, Tensor]:
    found = weights(model, dict.fromkeys(names))
    return {name: w.detach().abs() > w.detach().abs().quantile(1 - keep) for name, w in found.items()}


def pruned(dense: nn.Module, masks: Masks) -> nn.Module:
    model = copy.deepcopy(dense)
    bake(model, masks)
    return model


def alone(layer: nn.Module, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return nn.Sequential(layer)


def solved(X: Tensor, Y: Tensor, mask: Tensor, bias: bool) -> tuple[Tensor, Tensor]:
    """`torch.linalg.lstsq` row by row: X (n, D) inputs, Y (n, K) wanted outputs, mask (K, D)."""
    fitted, shift = torch.zeros(mask.shape, dtype=torch.float64), torch.zeros(len(mask), dtype=torch.float64)
    for k, kept in enumerate(mask):
        columns = [X[:, kept], X.new_ones(len(X), 1)] if bias else [X[:, kept]]
        answer = torch.linalg.lstsq(torch.cat(columns, dim=1), Y[:, k, None]).solution.squeeze(1)
        fitted[k, kept], shift[k] = answer[: int(kept.sum())], answer[-1] if bias else 0.0
    return fitted, shift


@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_gets_the_least_squares_solution_on_its_support(bias: bool) -> None:
    dense, x = alone(nn.Linear(12, 5, bias=bias)), drawn(200, 12) @ drawn(12, 12, seed=1) + 0.5
    masks = by_magnitude(dense, ("0",))
    model = pruned(dense, masks)
    least_squares(model, dense, masks, x.split(64))
    expected, shift = solved(x.double(), dense(x).detach().double(), masks["0"], bias)
    torch.testing.assert_close(model[0].weight.double(), expected, rtol=1e-3, atol=1e-3)
    if bias:
        torch.testing.assert_close(model[0].bias.double(), shift, rtol=1e-3, atol=1e-3)
    assert torch.equal(model[0].weight[~masks["0"]], torch.zeros(int((~masks["0"]).sum())))


SHAPES: list[dict[str, Any]] = [
    {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": 1},
    {"in_channels": 4, "out_channels": 6, "kernel_size": (3, 2), "stride": (2, 1), "dilation": (1, 2), "bias": False},
    {"in_channels": 4, "out_channels": 6, "kernel_size": 3, "padding": "same", "groups": 2},
    {"in_channels": 4, "out_channels": 4, "kernel_size": 3, "padding": 1, "groups": 4, "padding_mode": "reflect"},
    {"in_channels": 4, "out_channels": 6, "kernel_size": 1, "padding": "valid"},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_convolution_gets_the_least_squares_solution_on_its_support(shape: dict[str, Any]) -> None:
    """By another route: the columns of X are the convolution's own answers to unit kernels."""
    dense, x = alone(nn.Conv2d(**shape)), drawn(6, 4, 8, 7) + 0.5
    conv = dense[0]
    masks = by_magnitude(dense, ("0",))
    model = pruned(dense, masks)
    least_squares(model, dense, masks, x.split(2))
    with torch.no_grad():
        wanted = dense(x).double().movedim(1, -1).flatten(0, -2)
        for k, kept in enumerate(masks["0"].flatten(1)):
            probe = copy.deepcopy(conv).double()
            columns = []
            probe.bias = None
            for d in kept.nonzero().squeeze(1):
                probe.weight.zero_()
                probe.weight.view(len(masks["0"]), -1)[k, d] = 1.0
                columns.append(probe(x.double())[:, k].flatten())
            if conv.bias is not None:
                columns.append(torch.ones(len(wanted), dtype=torch.float64))
            X = torch.stack(columns, dim=1)
            expected = torch.linalg.lstsq(X, wanted[:, k, None]).solution.squeeze(1)
            got = model[0].weight.flatten(1)[k, kept].double()
            torch.testing.assert_close(got, expected[: len(got)], rtol=1e-3, atol=1e-3)
            if conv.bias is not None:
                torch.testing.assert_close(model[0].bias[k].double(), expected[-1], rtol=1e-3, atol=1e-3)
    assert not model[0].weight[~masks["0"]].any()


@pytest.mark.parametrize("positions", [24, 40, 100, 10_000])
def test_a_few_positions_of_each_image_are_enough(positions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing pruned, weights disturbed: only inputs and outputs of the same positions give the dense ones back."""
    monkeypatch.setattr(module, "_POSITIONS", positions)
    dense = alone(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2))
    model = alone(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), seed=1)
    masks = {"0": torch.ones(6, 2, 3, 3, dtype=torch.bool)}
    x = drawn(80, 4, 9, 9)
    assert module._columns(dense[0], x[:8], dense(x[:8]), seed=0)[0].shape == (2, 18, 8 * min(25, positions // 8))
    least_squares(model, dense, masks, x.split(8))
    torch.testing.assert_close(weights_of(model), weights_of(dense), rtol=1e-3, atol=1e-3)


def test_what_the_inputs_do_not_determine_stays() -> None:
    """A dead input channel, and two that are equal: of infinitely many solutions the nearest to the present weights."""
    dense, x = alone(nn.Linear(4, 1, bias=False)), drawn(100, 4)
    x[:, 0], x[:, 1] = 0.0, x[:, 2]
    masks = {"0": torch.tensor([[True, True, True, False]])}
    model = pruned(dense, masks)
    before = model[0].weight.detach().clone()
    least_squares(model, dense, masks, [x])
    moved = (model[0].weight - before).detach()[0]
    assert moved[0] == 0.0
    assert moved[1] == pytest.approx(float(moved[2]), abs=1e-6)


def test_a_full_mask_and_an_empty_row() -> None:
    dense, x = alone(nn.Linear(6, 3)), drawn(50, 6)
    masks = {"0": torch.ones(3, 6, dtype=torch.bool)}
    model = pruned(dense, masks)
    least_squares(model, dense, masks, [x])
    torch.testing.assert_close(weights_of(model), weights_of(dense), rtol=1e-5, atol=1e-5)
    masks["0"][1] = False
    model = pruned(dense, masks)
    least_squares(model, dense, masks, [x])
    assert not model[0].weight[1].any()
    assert model[0].bias[1].item() == pytest.approx(dense(x)[:, 1].mean().item(), abs=1e-4), "the best constant"


def error(model: nn.Module, dense: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float(F.mse_loss(model.eval()(x), dense.eval()(x)))


def test_three_layers_answer_more_like_the_dense_ones_also_on_other_images() -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4)]
    dense = nn.Sequential(*layers)
    masks = by_magnitude(dense, ("0", "2", "5"))
    raw, model = pruned(dense, masks), pruned(dense, masks)
    x, other = drawn(600, 3, 8, 8), drawn(100, 3, 8, 8, seed=1)
    least_squares(model, dense, masks, x.split(100))
    assert error(model, dense, x) < 0.5 * error(raw, dense, x)
    assert error(model, dense, other) < 0.7 * error(raw, dense, other)


def test_later_layers_are_fitted_on_what_the_refitted_earlier_ones_give() -> None:
    torch.manual_seed(0)
    dense = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))
    masks = by_magnitude(dense, ("0", "2"))
    x = drawn(300, 8)
    model, first = pruned(dense, masks), pruned(dense, {"0": masks["0"]})
    least_squares(first, dense, {"0": masks["0"]}, [x])
    least_squares(model, dense, dict(reversed(masks.items())), [x])  # the order of the masks does not matter
    assert torch.equal(model[0].weight, first[0].weight)
    with torch.no_grad():
        hidden = first[1](first[0](x)).double()
        expected, shift = solved(hidden, dense(x).double(), masks["2"], bias=True)
    torch.testing.assert_close(model[2].weight.double(), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model[2].bias.double(), shift, rtol=1e-3, atol=1e-3)


def test_a_whole_network_with_every_kind_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """On some of the positions: zeros stay, nothing but masked layers and norms moves, modes are restored."""
    monkeypatch.setattr(module, "_POSITIONS", 640)
    dense = toy().eval()
    batches = [drawn(64, 3, 8, 8, seed=seed) * 2 + 1 for seed in range(4)]
    reestimate_batch_norm(dense, batches)
    masks = by_magnitude(dense, LAYERS, keep=0.5)
    model, plain = pruned(dense, masks).train(), pruned(dense, masks)
    least_squares(model, dense, masks, iter(batches))
    reestimate_batch_norm(plain, batches)
    assert model.training
    assert not dense.training
    assert all(not w[~masks[name]].any() for name, w in weights(model, masks).items())
    moved = {key for key, value in weights_of(model).items() if not torch.equal(value, weights_of(dense)[key])}
    assert not moved & {"head.weight", "head.bias", "norm1.weight", "norm1.bias"}
    assert {f"{name}.weight" for name in LAYERS} | {"hidden.bias", "norm1.running_mean"} <= moved
    assert error(model, dense, torch.cat(batches)) < error(plain, dense, torch.cat(batches))
    statistics = model.norm2.running_var.clone()
    reestimate_batch_norm(model, batches)
    assert torch.equal(statistics, model.norm2.running_var), "batch norm is re-estimated last"


def test_equal_input_gives_equal_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POSITIONS", 100)
    dense = toy()
    masks = by_magnitude(dense, LAYERS)
    models = [pruned(dense, masks) for _ in range(2)]
    for model in models:
        least_squares(model, dense, masks, [drawn(16, 3, 8, 8)])
        torch.rand(3)  # no chance from outside
    assert same(*(weights_of(model) for model in models))


class Twice(Toy):
    """Runs one convolution twice, and one never."""

    def forward(self, x: Tensor) -> Tensor:
        """Head of the stem's answer."""
        x = self.stem(x)
        x = self.depthwise(self.depthwise(x))
        return self.head(x.mean(dim=(2, 3)))


def test_a_layer_that_runs_twice_is_fitted_on_both_and_one_that_never_runs_is_left() -> None:
    torch.manual_seed(0)
    dense = Twice()
    masks = by_magnitude(dense, ("stem", "conv", "depthwise"))
    model = pruned(dense, masks)
    x = drawn(64, 3, 8, 8)
    raw = error(model, dense, x)
    least_squares(model, dense, masks, [x])
    assert torch.equal(model.conv.weight, pruned(dense, masks).conv.weight)
    assert error(model, dense, x) < raw


def test_without_images_nothing_happens() -> None:
    dense = toy()
    masks = by_magnitude(dense, LAYERS)
    model = pruned(dense, masks)
    least_squares(model, dense, masks, [])
    assert same(weights_of(model), weights_of(pruned(dense, masks)))


@pytest.mark.parametrize(
    ("layer", "x", "told"),
    [
        (nn.Conv1d(2, 3, 3), (4, 2, 9), "cannot refit layer 0, a Conv1d"),
        (nn.Linear(20_000, 2), (4, 20_000), "cannot refit layer 0: 20000 inputs"),
    ],
)
def test_what_cannot_be_refitted_is_told(layer: nn.Module, x: tuple[int, ...], told: str) -> None:
    dense = alone(layer)
    masks = by_magnitude(dense, ("0",))
    with pytest.raises(UserError, match=told):
        least_squares(pruned(dense, masks), dense, masks, [drawn(*x)])

"""Plans against networks seen by another route: torch's own modules while they run, and graphs made by hand."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from export_graphs import conv, graph, matmul, only, tensor
from export_networks import NETWORKS, SHAPE, Shared, Tokens, trained
from onnx import ModelProto, NodeProto, helper
from torch import nn

from export.plan import Plan, as_text, plan, worth
from export.plan.outline import read_outline
from export.plan.sketch import sketch
from export.precisions import write_precision
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes.errors import UserError

ORIN, XAVIER, BOARD = TARGETS["jetson-orin"], TARGETS["jetson-xavier-nx"], TARGETS["raspberry-pi-5"]


# --- networks of torch, against forward hooks


def seen_by_hooks(network: nn.Module, image: torch.Tensor) -> list[dict[str, Any]]:
    """What each convolution and linear layer did, in the order in which they ran, and the rule on the module itself."""
    found: dict[str, dict[str, Any]] = {}

    def note(name: str, module: Any, given: torch.Tensor, output: torch.Tensor) -> None:
        conv = isinstance(module, nn.Conv2d)
        groups = module.groups if conv else 1
        reads, writes = (module.in_channels, module.out_channels) if conv else (module.in_features, module.out_features)
        area = int(np.prod(module.kernel_size)) if conv else 1
        legal = groups == 1 and reads % 4 == 0
        row = {
            "name": name,
            "kind": "conv" if conv else "linear",
            "shape": tuple(module.weight.shape),
            "output_shape": tuple(output.shape),
            "groups": groups,
            "macs": output.numel() * (reads // groups) * area,
            "eligible": legal,
            "worth_it": legal and writes >= 256 and reads * area >= 256,
        }
        assert given.shape[1 if conv else -1] == reads
        found[name] = {**row, "macs": row["macs"] + found.get(name, {"macs": 0})["macs"]}

    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, given, output, name=name: note(name, module, given[0], output))
    with torch.no_grad():
        network.eval()(image)
    return list(found.values())


def rows(made: Plan, keys: list[str]) -> list[dict[str, Any]]:
    return [{key: getattr(layer, key) for key in keys} for layer in made.layers]


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_plan_of_a_file_is_what_hooks_see_in_torch(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None)
    shape = (3, 224, 224) if name == "resnet18" else (3, 64, 64)
    to_onnx(network, tmp_path / "m.onnx", input_shape=shape, target=ORIN, metadata={})
    expected = seen_by_hooks(network, torch.zeros(1, *shape))
    made = plan(read_outline(tmp_path / "m.onnx"), ORIN, name=name)
    assert rows(made, list(expected[0])) == expected
    assert made.macs == sum(row["macs"] for row in expected)
    for layer in made.layers:
        assert layer.share == pytest.approx(layer.macs / made.macs)
        assert layer.considered == layer.eligible
        assert (layer.reason is None) == layer.worth_it
    if name == "resnet18":
        assert made.macs == 1_814_073_344  # as everybody counts it
        assert sum(layer.worth_it for layer in made.layers) == 10


@pytest.mark.parametrize("name", NETWORKS)
def test_the_sketch_of_a_module_gives_the_plan_of_its_file(name: str, tmp_path: Path) -> None:
    """Neither folding nor the batch's size changes what a plan looks at."""
    network = trained(NETWORKS[name])
    to_onnx(network, tmp_path / "m.onnx", input_shape=SHAPE, target=ORIN, metadata={})
    assert plan(sketch(network, SHAPE, ORIN), ORIN, name="x") == plan(read_outline(tmp_path / "m.onnx"), ORIN, name="x")
    counted = ["name", "shape", "macs", "eligible"]
    expected = [{key: row[key] for key in counted} for row in seen_by_hooks(network, torch.zeros(1, *SHAPE))]
    assert rows(plan(sketch(network, SHAPE, ORIN), ORIN, name="x"), counted) == expected


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", ["Residual", "Shared", "Tokens"])
def test_the_plan_is_the_same_in_every_precision(name: str, precision: str, tmp_path: Path) -> None:
    """Casts and quantisers stand between a weight and its layer; its name, shape and layout are found all the same."""
    full, lower = tmp_path / "m.onnx", tmp_path / f"m.{precision}.onnx"
    to_onnx(trained(NETWORKS[name]), full, input_shape=SHAPE, target=ORIN, metadata={})
    images = np.random.default_rng(0).normal(size=(16, *SHAPE)).astype(np.float32)
    write_precision(full, lower, precision, images, ORIN)
    assert plan(read_outline(lower), ORIN, name="x") == plan(read_outline(full), ORIN, name="x")


class Scaled(nn.Module):
    """Weights that are scaled and turned each time the module runs, as some generators' layers do it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(4, 256, 3), nn.Linear(300, 256)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = nn.functional.conv2d(images, self.conv.weight * 0.5, self.conv.bias).mean((2, 3))
        return found @ (self.fc.weight.abs() + 1)


def test_arithmetic_on_weights_that_the_export_bakes_in_is_planned_as_baked_in(tmp_path: Path) -> None:
    to_onnx(Scaled().eval(), tmp_path / "m.onnx", input_shape=(4, 8, 8), target=ORIN, metadata={})
    by_file = plan(read_outline(tmp_path / "m.onnx"), ORIN, name="x")
    assert plan(sketch(Scaled(), (4, 8, 8), ORIN), ORIN, name="x") == by_file
    assert [(layer.name, layer.shape, layer.eligible) for layer in by_file.layers] == [
        ("conv", (256, 4, 3, 3), True),
        ("fc", (300, 256), True),
    ]


def test_arithmetic_on_anything_but_weights_keeps_its_values() -> None:
    """Swin V2 gathers and reshapes tables; sizes and indices lie among the constants that it does so by."""
    network = torchvision.models.swin_v2_t(weights=None).eval()
    linear = {name for name, part in network.named_modules() if isinstance(part, nn.Linear) and "cpb_mlp" not in name}
    made = plan(sketch(network, (3, 64, 64), ORIN), ORIN, name="x")
    assert linear <= {layer.name for layer in made.layers}
    assert not [layer for layer in made.layers if "computed from constants" in (layer.reason or "")]


def test_a_layer_used_twice_is_one_row_with_both_costs() -> None:
    (conv, fc) = plan(sketch(trained(Shared), SHAPE, ORIN), ORIN, name="x").layers
    assert (conv.name, conv.uses, conv.macs) == ("conv", 2, 2 * 64 * 81)
    assert (fc.uses, fc.share) == (1, fc.macs / (fc.macs + conv.macs))


def test_a_sketch_leaves_the_module_as_it_was() -> None:
    network = trained(Tokens).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    sketch(network, SHAPE, ORIN)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_an_image_that_the_module_cannot_take_is_told_with_the_option() -> None:
    with pytest.raises(UserError, match="cannot take an image of 5 x 8 x 8") as told:
        sketch(trained(Tokens), (5, 8, 8), ORIN)
    assert "--image-size" in told.value.hint


def test_an_operator_that_onnx_has_not_is_told() -> None:
    class Odd(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.special.bessel_j0(images).mean((2, 3))

    with pytest.raises(UserError, match="special_bessel_j0"):
        sketch(Odd(), SHAPE, ORIN)


# --- graphs by hand


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (conv("stem", 512, 3, 7, 7), "reads 3 channels: fewer than a group of 4"),
        (conv("grey", 512, 1, 7, 7), "reads 1 channel:"),
        (conv("odd", 512, 258, 3, 3), "reads 258 channels: no multiple of 4"),
        (conv("dw", 512, 1, 3, 3, groups=512), "depthwise"),
        (conv("grouped", 512, 64, 3, 3, groups=8), "grouped convolution, 8 groups"),
        (conv("up", 512, 512, 2, 2, op="ConvTranspose"), "transposed convolution"),
    ],
)
def test_a_layer_that_cannot_be_2_to_4_has_its_own_reason(model: ModelProto, words: str) -> None:
    layer = only(model)
    assert (layer.eligible, layer.considered, layer.worth_it) == (False, False, False)
    assert words in str(layer.reason)
    assert "tensor cores" not in str(layer.reason)


def test_a_transposed_convolution_multiplies_once_for_each_image_point() -> None:
    layer = only(conv("up", 16, 24, 2, 2, op="ConvTranspose"))
    assert layer.macs == 16 * 8 * 8 * 24 * 2 * 2
    assert layer.kind == "transposed conv"


@pytest.mark.parametrize(
    ("shape", "worth_it", "words"),
    [
        ((256, 256, 1, 1), True, ""),
        ((256, 32, 3, 3), True, ""),  # 288 with the kernel
        ((256, 28, 3, 3), False, "C x kernel = 252, below 256"),
        ((252, 256, 3, 3), False, "K = 252, below 256"),
        ((64, 64, 1, 1), False, "K = 64 and C x kernel = 64"),
    ],
)
def test_the_rule_of_thumb_at_its_edges(shape: tuple[int, ...], worth_it: bool, words: str) -> None:
    layer = only(conv("c", *shape))
    assert (layer.eligible, layer.considered, layer.worth_it) == (True, True, worth_it)
    assert words in (layer.reason or "")
    assert (layer.reason is None) == worth_it


def test_without_sparse_tensor_cores_nothing_is_eligible_and_the_device_is_the_reason() -> None:
    for target in ("jetson-xavier-nx", "raspberry-pi-5"):
        layer = only(conv("c", 512, 512, 3, 3), target)
        assert (layer.eligible, layer.considered, layer.worth_it) == (False, False, False)
        assert layer.reason == f"{target} has no sparse tensor cores"


def test_a_weight_that_is_computed_is_none_to_prune() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "c.weight"], ["y"]),
        helper.make_node("MatMul", ["y", "y"], ["square"], name="square"),
        helper.make_node("Conv", ["square", "k"], ["z"], name="dynamic"),
    ]
    nodes.append(helper.make_node("Conv", ["x", "y"], ["w"], name="from images"))
    made = graph(nodes, [tensor("c.weight", 8, 8, 1, 1)], x=[1, 8, 8, 8], k=[1, 8, 1, 1])
    first, product, dynamic, from_images = plan(made, ORIN, name="hand").layers
    assert (product.kind, product.shape, product.macs) == ("product", None, 8 * 8 * 8 * 8)
    assert product.reason == "a product of two computed values: no weight"
    assert dynamic.reason == "its weight is an input of the graph"
    assert from_images.reason == "its weight is computed, not a constant"
    assert (first.advice, product.advice, dynamic.advice) == ("channels", "nothing", "nothing")


def test_matmul_counts_from_release_10_on_and_gemm_always() -> None:
    model = matmul(512, 256)
    assert only(model).shape == (256, 512)  # torch's layout
    assert [only(model, tensorrt=release).considered for release in ("8.5", "8.6.1", "10.0", "10.3", "11.4")] == [
        *[False, False, True, True, True]
    ]
    old = only(model, tensorrt="8.6")
    assert (old.eligible, old.worth_it) == (True, False)
    assert "MatMul from 10 on" in str(old.reason)
    node = helper.make_node("Gemm", ["x", "fc.weight"], ["y"], transB=1)
    gemm = graph([node], [tensor("fc.weight", 256, 512)], x=["n", 512])
    assert only(gemm, tensorrt="8.5") == only(gemm, tensorrt="11.4")
    assert only(gemm, tensorrt="8.5").worth_it


def test_of_a_batched_constant_and_of_an_unknown_runtime() -> None:
    assert "3 dimensions" in str(only(matmul(7, 512, 256)).reason)
    layer = only(conv("c", 512, 512, 3, 3), "rtx-pc")
    assert (layer.eligible, layer.considered, layer.worth_it) == (True, None, True)


@pytest.mark.parametrize(
    ("target", "release", "words"),
    [
        ("jetson-xavier-nx", "10.3", "does not come with TensorRT 10.3, but with 8.5"),
        ("jetson-thor", "8.6", "but with 10.13 to 11.4"),
        ("jetson-orin", "12.0", "but with 8.5 to 11.4"),
        ("jetson-orin", "new", "'new' is no release"),
        ("raspberry-pi-5", "10.3", "ONNX Runtime, not TensorRT 10.3"),
        ("rtx-pc", "10.3", "TensorRT for RTX"),
    ],
)
def test_a_release_that_the_target_has_not_is_told(target: str, release: str, words: str) -> None:
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        plan(conv("c", 8, 8, 1, 1), TARGETS[target], name="hand", tensorrt=release)


def test_what_a_plan_does_not_look_into_is_told() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "c.weight"], ["a"]),
        helper.make_node("Einsum", ["a", "a"], ["e"], equation="nchw,nchw->nchw"),
        helper.make_node("Swish", ["e"], ["y"], domain="com.example"),
    ]
    made = graph(nodes, [tensor("c.weight", 8, 4, 1, 1)], x=[1, 4, 8, 8])
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "1 x Einsum, 1 x Swish" in plan(made, ORIN, name="hand").advice[-1]


def test_a_network_without_weights_has_no_plan() -> None:
    with pytest.raises(UserError, match="no convolution or linear layer with a constant weight"):
        plan(graph([helper.make_node("Relu", ["x"], ["y"])], [], x=[1, 4]), ORIN, name="hand")


# --- what is said


def chain(*widths: int) -> ModelProto:
    """Convolutions 3x3 one after another."""

    def nodes() -> Iterator[NodeProto]:
        for at in range(len(widths) - 1):
            pads = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
            yield helper.make_node("Conv", ["x" if not at else f"y{at - 1}", f"c{at}.weight"], [f"y{at}"], **pads)

    weights = [tensor(f"c{at}.weight", widths[at + 1], widths[at], 3, 3) for at in range(len(widths) - 1)]
    return graph(list(nodes()), weights, x=["n", widths[0], 4, 4])


def test_the_bound_is_the_arithmetic_that_it_says() -> None:
    made = plan(chain(64, 128, 256, 256), ORIN, name="hand")
    macs = [16 * 9 * 64 * 128, 16 * 9 * 128 * 256, 16 * 9 * 256 * 256]
    share = Fraction(macs[1] + macs[2], sum(macs))
    assert made.bound.share == pytest.approx(float(share))
    assert made.bound.times_fewer == pytest.approx(float(sum(macs) / (macs[0] + Fraction(macs[1] + macs[2], 2))))
    assert "not a measured" in made.bound.kind
    assert made.strategy.layers == ("c1", "c2")
    assert made.strategy.dense == ("c0",)
    assert made.strategy.round_channels_to == 32
    none = plan(chain(64, 64, 64), ORIN, name="hand").bound
    assert (none.share, none.times_fewer) == (0, 1)


def test_each_kind_of_target_is_advised_what_is_for_it() -> None:
    said = {name: " ".join(plan(chain(64, 256, 256), TARGETS[name], name="hand").advice) for name in TARGETS}
    for name in ("jetson-orin", "jetson-orin-nano", "jetson-thor", "workstation-gpu"):
        assert "Unstructured zeros gain nothing here" in said[name]
        assert "multiple of 32" in said[name]
        assert "edgeprune does not have channel pruning yet" in said[name]
        assert "2 layers with 100 % of the multiply-adds (--pattern 2:4)" in said[name]
    assert "unproven" in said["jetson-thor"]
    assert "unproven" not in said["jetson-orin"]
    assert "not known" in said["rtx-pc"]
    assert "On Turing" in said["rtx-pc"]
    assert "Turing" not in said["workstation-gpu"]
    for name in ("jetson-xavier-nx", "jetson-agx-xavier"):
        assert "neither unstructured nor 2:4" in said[name]
        assert "whole channels" in said[name]
        assert "--pattern 2:4" not in said[name]
    for name in ("raspberry-pi-4", "raspberry-pi-5", "x86-avx2", "x86-avx512", "local"):
        assert "--runtime sparse_cpu" in said[name]
    assert plan(chain(64, 256), XAVIER, name="hand").strategy.prunes == "channels"
    assert plan(chain(64, 256), BOARD, name="hand").strategy.prunes == "unstructured"


def test_the_advice_says_how_the_other_layers_stay_dense() -> None:
    """By itself `--pattern 2:4` prunes every layer that fits; the plan's list is what keeps it to those worth it."""
    made = plan(chain(64, 128, 256, 256), ORIN, name="hand")
    said = " ".join(made.advice)
    assert "--set 'prune.skip=[...]'" in said
    assert "strategy.dense" in said
    assert "edgeprune leaves dense under N:M" in said
    assert made.to_json()["strategy"]["dense"] == ("c0",)
    assert worth(chain(64, 128, 256, 256), ORIN) == {"c1", "c2"}
    assert worth(matmul(512, 256), ORIN) == {"fc"}
    assert worth(matmul(512, 256), ORIN, tensorrt="8.5") == set()
    assert worth(chain(64, 64), ORIN) == set() == worth(chain(256, 256), XAVIER)


def test_a_network_too_small_for_2_to_4_is_told_so() -> None:
    made = plan(chain(16, 32, 64), ORIN, name="hand")
    said = " ".join(made.advice)
    assert "No layer here is large enough for 2:4" in said
    assert "--pattern 2:4" not in said
    assert made.strategy.layers == ()
    assert "times fewer" not in as_text(made)


def test_what_another_release_would_do_with_products_is_told() -> None:
    newest, oldest = (plan(matmul(512, 256), ORIN, name="m", tensorrt=release) for release in (None, "8.5"))
    assert newest.tensorrt == "11.4"
    assert newest.advice[-1].startswith("The 1 MatMul layer counts from TensorRT 10 on")
    assert "--tensorrt 8.5" in newest.advice[-1]
    assert oldest.advice[-1] == "TensorRT 10 and newer look at the 1 MatMul layer too."


def test_the_table_is_aligned_and_has_every_layer() -> None:
    made = plan(chain(3, 256, 256), ORIN, name="hand")
    table = as_text(made).split("\n\n")[1].splitlines()
    assert [line.split()[0] for line in table] == ["layer", "c0", "c1"]
    assert len({line.index("256x") for line in table[1:]}) == 1
    assert table[1].endswith("reads 3 channels: fewer than a group of 4")
    assert "0.11" in table[1]  # 16 * 9 * 3 * 256 = 110,592
    assert max(map(len, as_text(made).split("\n\n", 2)[2].splitlines())) <= 100


def test_json_has_all_that_is_promised() -> None:
    told = plan(chain(3, 256, 256), ORIN, name="hand").to_json()
    assert list(told)[:5] == ["schema_version", "kind", "model", "target", "tensorrt"]
    assert (told["kind"], told["target"], told["tensorrt"]) == ("edgeprune.plan", "jetson-orin", "11.4")
    named = {"name", "kind", "op", "shape", "output_shape", "groups", "macs", "share", "eligible", "considered"}
    assert named | {"worth_it", "reason", "advice"} <= set(told["layers"][0])
    assert told["bound"]["kind"].startswith("arithmetic")
    assert plan(chain(3, 8), BOARD, name="hand").to_json()["tensorrt"] is None

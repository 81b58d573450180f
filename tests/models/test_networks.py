"""Every network of the table gives logits; counts are taken by hooks and compared with what the papers print."""

import contextlib
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from edgeprune.models import MODELS, build, check_fits, names
from runtimes.errors import UserError

SIDE = {name: 8 if name.startswith("digits") else 32 for name in MODELS}


def multiply_adds(model: nn.Module, shape: tuple[int, ...]) -> int:
    """Counted while an image passes: weights of a layer times the places it is applied at."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal total
        places = out.shape[2:].numel() if isinstance(module, nn.Conv2d) else 1
        total += module.weight.numel() * places  # type: ignore[operator]

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(torch.zeros(1, *shape))
    return total


def conv_weights(model: nn.Module) -> int:
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Conv2d))


@pytest.mark.parametrize("name", MODELS)
def test_every_network_gives_logits_in_both_modes(name: str) -> None:
    classes, channels = 7, 1
    model = build(name, classes=classes, channels=channels)
    images = torch.randn(2, channels, SIDE[name], SIDE[name])
    assert model.training
    assert model(images).shape == (2, classes)
    check_fits(model, (channels, SIDE[name], SIDE[name]), classes, what=name)
    assert model.training, "check_fits leaves the mode as it was"


@pytest.mark.parametrize("name", ["digits-cnn", "resnet20-cifar", "resnet18-cifar", "squeezenet1_1"])
def test_weights_come_from_the_global_seed(name: str) -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(torch.cat([value.flatten() for value in build(name, classes=10, channels=3).parameters()]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_the_quickstart_student_is_large_enough_to_time_and_fits_2_of_4() -> None:
    student = build("digits-cnn", classes=10, channels=1)
    # 3 x 3 kernels at 64 places, then at 16, then the classifier.
    expected = 9 * 64 * (1 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + 9 * 16 * (64 * 128 + 128 * 128) + 128 * 10
    assert multiply_adds(student, (1, 8, 8)) == expected == 7_687_424
    assert expected >= 5_000_000
    convolutions = [module for module in student.modules() if isinstance(module, nn.Conv2d)]
    assert all(module.out_channels % 4 == 0 for module in convolutions)
    assert all(module.in_channels % 4 == 0 for module in convolutions[1:])
    teacher = build("digits-cnn-wide", classes=10, channels=1)
    assert multiply_adds(teacher, (1, 8, 8)) > 2 * expected


@pytest.mark.parametrize(
    ("name", "millions", "mega_macs"),
    [("resnet20", 0.27, 40.6), ("resnet32", 0.46, 68.9), ("resnet44", 0.66, 97.2), ("resnet56", 0.85, 125.5)],
)
def test_thin_resnets_have_the_papers_size(name: str, millions: float, mega_macs: float) -> None:
    """Parameters: He et al. 2016, table 6. Multiply-adds: 3 stages of equal cost, by hand below."""
    model = build(f"{name}-cifar", classes=10, channels=3)
    assert round(sum(value.numel() for value in model.parameters()) / 1e6, 2) == millions
    n = (int(name.removeprefix("resnet")) - 2) // 6
    full = 9 * 16 * 16 * 32 * 32  # one convolution inside any stage
    expected = 9 * 3 * 16 * 32 * 32 + full * (6 * n - 2) + 2 * (full // 2) + 640
    assert multiply_adds(model, (3, 32, 32)) == expected
    assert round(expected / 1e6, 1) == mega_macs


def test_resnet18_for_small_images_has_the_known_number_of_convolution_weights() -> None:
    assert conv_weights(build("resnet18-cifar", classes=10, channels=3)) == 11_159_232


def test_small_stem_keeps_the_resolution() -> None:
    model = build("resnet18-cifar", classes=10, channels=3)
    sizes: list[int] = []
    model.get_submodule("layer1").register_forward_hook(lambda _, __, out: sizes.append(out.shape[-1]))
    model.eval()(torch.zeros(1, 3, 32, 32))
    assert sizes == [32]


def test_option_a_shortcut_equals_strided_pixels_between_zero_channels() -> None:
    block = build("resnet20-cifar", classes=10, channels=3).get_submodule("layer2")[0]  # type: ignore[index]
    x = torch.randn(2, 16, 6, 6)
    expected = torch.zeros(2, 32, 3, 3)
    for channel in range(16):
        for row in range(3):
            for column in range(3):
                expected[:, channel + 8, row, column] = x[:, channel, 2 * row, 2 * column]
    assert torch.equal(block._shortcut(x), expected)


@pytest.mark.parametrize(
    ("name", "side"),
    [("mobilenet_v3_small", 64), ("resnet18", 64), ("googlenet", 64), ("squeezenet1_1", 64), ("inception_v3", 96)],
)
def test_torchvisions_classifiers_by_name(name: str, side: int) -> None:
    assert name in names()
    model = build(name, classes=5, channels=3)
    assert model(torch.randn(2, 3, side, side)).shape == (2, 5), "one tensor of logits, in training too"
    with pytest.raises(UserError, match="takes RGB images, the data has 1 channel"):
        build(name, classes=5, channels=1)


def test_names_are_unique_and_hold_classifiers_only() -> None:
    assert len(names()) == len(set(names()))
    assert not [name for name in names() if "rcnn" in name or "quantized" in name or "deeplab" in name]


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'resnet20-cifar'"):
        build("resnet20_cifar", classes=10, channels=3)


def test_a_network_that_does_not_fit_the_data_is_told() -> None:
    model = build("resnet20-cifar", classes=10, channels=3)
    with pytest.raises(UserError, match="the student cannot take images of 1 x 8 x 8") as caught:
        check_fits(model, (1, 8, 8), 10, what="the student")
    assert "\n" not in caught.value.message
    with pytest.raises(UserError, match=r"the teacher gives \(2, 10\) for two images in \w+, not \(2, 100\)"):
        check_fits(model, (3, 32, 32), 100, what="the teacher")


MINE = """
from torch import nn
def plain(): return nn.Linear(3, 2)
def sized(num_classes): return nn.Linear(3, num_classes)
def loose(**options): return nn.Linear(3, options["num_classes"])
class Net(nn.Linear):
    def __init__(self, num_classes=2): super().__init__(3, num_classes)
def fails(): raise KeyError("depth")
def late():
    import late_import
    return nn.Linear(3, late_import.outputs)
def wrong(): return "a string"
number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `of_mine` in the current folder."""
    (tmp_path / "of_mine").mkdir()
    (tmp_path / "of_mine" / "nets.py").write_text(MINE)
    (tmp_path / "of_mine" / "broken.py").write_text("import no_such_library\n")
    (tmp_path / "of_mine" / "typo.py").write_text("def net(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in [name for name in sys.modules if name.split(".")[0] == "of_mine"]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


@pytest.mark.parametrize(("factory", "outputs"), [("plain", 2), ("sized", 6), ("loose", 6), ("Net", 6)])
def test_a_users_factory(package: Path, factory: str, outputs: int) -> None:
    model = build(f"of_mine.nets:{factory}", classes=6, channels=3)
    assert model(torch.zeros(1, 3)).shape == (1, outputs)


@pytest.mark.parametrize("factory", ["plain", "late", "fails", "nothing_of_that_name"])
def test_the_current_folder_is_on_the_path_for_the_import_only(package: Path, factory: str) -> None:
    (package / "late_import.py").write_text("outputs = 2\n")
    before = list(sys.path)
    with contextlib.nullcontext() if factory in ("plain", "late") else pytest.raises(UserError):
        build(f"of_mine.nets:{factory}", classes=6, channels=3)
    assert sys.path == before


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("of_mine.nowhere:net", "cannot import 'of_mine.nowhere': ModuleNotFoundError"),
        ("of_mine.broken:net", "No module named 'no_such_library'"),
        ("of_mine.typo:net", "cannot import 'of_mine.typo': SyntaxError"),
        ("of_mine.nets:resnet", "has no factory 'resnet'; it has: .*plain"),
        ("of_mine.nets:number", "has no factory 'number'"),
        ("of_mine.nets:", "has no factory ''"),
        (":net", "cannot import ''"),
        ("of_mine.nets:fails", "of_mine.nets:fails failed: KeyError: 'depth'"),
        ("of_mine.nets:wrong", "returned a str, not a torch.nn.Module"),
    ],
)
def test_a_users_factory_that_fails_is_told_in_their_words(package: Path, address: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as caught:
        build(address, classes=6, channels=3)
    assert "\n" not in caught.value.message + caught.value.hint

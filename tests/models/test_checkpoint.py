"""Checkpoints: every form that is read, every fault that is told, and bytes that depend on the content alone."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from edgeprune.data import load_data
from edgeprune.data.batches import Batches
from edgeprune.models import build
from edgeprune.models.checkpoint import find_checkpoint, load_checkpoint, read_metadata, read_state, save_state
from runtimes.errors import UserError

NAME = "resnet20-cifar"


def network(seed: int, classes: int = 10, name: str = NAME) -> nn.Module:
    torch.manual_seed(seed)
    return build(name, classes=classes, channels=3)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


FORMS: dict[str, Callable[[nn.Module, Path], None]] = {
    "plain.pt": lambda model, path: torch.save(model.state_dict(), path),
    "state_dict.pt": lambda model, path: torch.save({"epoch": 3, "state_dict": model.state_dict()}, path),
    "model.pth": lambda model, path: torch.save({"model": model.state_dict(), "optimizer": {}}, path),
    "parallel.th": lambda model, path: torch.save({"state_dict": nn.DataParallel(model).state_dict()}, path),
    "legacy.th": lambda model, path: torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False),
    "ours.safetensors": lambda model, path: save_state(model, path, {"role": "dense"}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_read(form: str, tmp_path: Path) -> None:
    saved, loaded = network(0), network(1)
    FORMS[form](saved, tmp_path / form)
    load_checkpoint(loaded, tmp_path / form, what="the student")
    assert same(saved, loaded)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_told_and_the_network_stays(form: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / form
    FORMS[form](network(0), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    model = network(1)
    with pytest.raises(UserError, match="cannot read the checkpoint") as caught:
        load_checkpoint(model, path, what="the student")
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    assert same(model, network(1))


class Canary:
    """Unpickling it creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": Canary(tmp_path / "canary")}, tmp_path / "evil.pt")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    torch.save(network(0), tmp_path / "whole.pt")
    for name in ("evil.pt", "raw.pt", "whole.pt"):
        with pytest.raises(UserError, match="cannot read the checkpoint"):
            read_state(tmp_path / name)
    assert not (tmp_path / "canary").exists()


def test_the_first_key_or_shape_that_differs_is_named(tmp_path: Path) -> None:
    path = tmp_path / "dense.safetensors"
    save_state(network(0), path, {})
    with pytest.raises(UserError, match=r"is not of the student: it lacks layer1\.3\.conv1\.weight"):
        load_checkpoint(network(0, name="resnet32-cifar"), path, what="the student")
    save_state(network(0, name="resnet32-cifar"), path, {})
    with pytest.raises(UserError, match=r"it has layer1\.3\.\S+, which the network has not"):
        load_checkpoint(network(0), path, what="the student")
    save_state(network(0).state_dict() | {"conv1.weight": torch.zeros(16, 1, 3, 3)}, path, {})
    with pytest.raises(UserError, match=r"conv1\.weight is \(16, 1, 3, 3\), not \(16, 3, 3, 3\)"):
        load_checkpoint(network(0), path, what="the student")


@pytest.mark.parametrize("name", [NAME, "squeezenet1_1", "mobilenet_v3_small"])
def test_another_number_of_classes_is_told_as_such(name: str, tmp_path: Path) -> None:
    save_state(network(0, 10, name), tmp_path / "dense.safetensors", {})
    with pytest.raises(UserError, match="has 10 classes, the teacher needs 100"):
        load_checkpoint(network(0, 100, name), tmp_path / "dense.safetensors", what="the teacher")


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = network(0).state_dict()
    state["bn1.weight"][2] = float("nan")
    save_state(state, tmp_path / "dense.safetensors", {})
    with pytest.raises(UserError, match=r"bn1\.weight has values that are not finite"):
        load_checkpoint(network(0), tmp_path / "dense.safetensors", what="the student")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [1, 2], {"state_dict": {"a": 1}}])
def test_a_file_without_weights_is_told(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(UserError, match="holds no state_dict"):
        read_state(tmp_path / "odd.pt")


def test_batch_counters_may_be_missing_as_in_old_files(tmp_path: Path) -> None:
    state = {key: value for key, value in network(0).state_dict().items() if "num_batches" not in key}
    torch.save(state, tmp_path / "old.pt")
    load_checkpoint(network(1), tmp_path / "old.pt", what="the student")


WRITE = """
import sys, torch
from pathlib import Path
from edgeprune.models.checkpoint import save_state
state = {name: torch.arange(6.0).view(2, 3) for name in ("b", "a", "c")}
save_state(state, Path(sys.argv[1]), {name: 1 for name in "xyzuvw"})
"""


def test_equal_content_makes_equal_bytes_in_every_process(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.safetensors" for i in range(2)]
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITE, path], env=os.environ | {"PYTHONHASHSEED": str(i)})
        for i, path in enumerate(paths)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1


def test_metadata_views_and_tied_weights_come_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "dense.safetensors"
    weight = torch.arange(6.0)
    save_state({"one": weight, "tied": weight, "view": weight.view(2, 3).T}, path, {"role": "dense", "epoch": 3})
    assert read_metadata(path) == {"role": "dense", "epoch": 3}
    assert torch.equal(read_state(path)["view"], weight.view(2, 3).T)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_checkpoints_are_found_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, weights = tmp_path / "here", tmp_path / "weights"
    for folder in (here, weights / "family"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(UserError, match=r"no checkpoint 'a\.th'") as caught:
        find_checkpoint("a.th", [weights])
    assert str(weights) in caught.value.message
    assert str(here) in caught.value.message
    for path in (weights / "family" / "a.th", weights / "a.th", here / "a.th"):
        path.touch()
        assert find_checkpoint("a.th", [weights]) == path
    assert find_checkpoint(str(weights / "a.th"), []) == weights / "a.th"
    with pytest.raises(UserError, match="looked in"):
        find_checkpoint(str(tmp_path / "a.th"), [weights])


PUBLISHED = {
    "resnet20-cifar": "resnet20-12fca82f.th",
    "resnet32-cifar": "resnet32-d509ac18.th",
    "resnet44-cifar": "resnet44-014dd654.th",
    "resnet56-cifar": "resnet56-4bfd9763.th",
}


def folder_of(variable: str) -> Path:
    """The folder a test needs, or a skip that says which variable names it."""
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set")
    return Path(os.environ[variable])


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_checkpoints_load(name: str) -> None:
    path = find_checkpoint(PUBLISHED[name], [folder_of("EDGEPRUNE_WEIGHTS")])
    load_checkpoint(network(0, name=name), path, what=name)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "correct"), [("resnet20-cifar", 9173), ("resnet56-cifar", 9339)])
def test_published_checkpoints_score_as_published(name: str, correct: int) -> None:
    """Top-1 on all 10,000 test images through our own data path; a preprocessing that is off shows here at once."""
    path = find_checkpoint(PUBLISHED[name], [folder_of("EDGEPRUNE_WEIGHTS")])
    data = load_data("cifar10", folder_of("EDGEPRUNE_DATA"), validation=0.1, split_seed=0, image_size=None)
    model = network(0, name=name)
    load_checkpoint(model, path, what=name)
    batches = Batches(data.test, data.preprocess, batch_size=500, device="cpu")
    with torch.no_grad():
        hits = [(model.eval()(b.images).argmax(1) == b.labels).sum().item() for b in batches.epoch(0)]
    assert sum(hits) == correct

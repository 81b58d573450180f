import json

import pytest

from runtimes.bundle import read_bundle, verify
from runtimes.errors import UserError


def edit(bundle, change):
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def test_a_bundle_is_what_was_written(pristine_bundle):
    found = read_bundle(pristine_bundle)
    assert list(found.networks) == ["dense", "sparse"]
    assert found.networks["sparse"].file == "model.onnx"
    assert (found.images, found.runtimes) == (50, ["ort"])
    verify(found)


def test_networks_are_chosen_in_the_bundles_order(pristine_bundle):
    found = read_bundle(pristine_bundle)
    assert [network.name for network in found.choose(["sparse", "dense"])] == ["dense", "sparse"]
    assert [network.name for network in found.choose([])] == ["dense", "sparse"]
    with pytest.raises(UserError, match="did you mean 'sparse'"):
        found.choose(["sparce"])


@pytest.mark.parametrize("name", ["model.onnx", "inputs/0000.npy", "runtimes/measure.py"])
def test_a_changed_or_lost_file_is_named(bundle, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=f"{name} in the bundle"):
        verify(read_bundle(bundle))
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"lost its file {name}"):
        verify(read_bundle(bundle))


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest.pop("networks"),
        lambda manifest: manifest.update(networks={}),
        lambda manifest: manifest.update(networks=["dense"]),
        lambda manifest: manifest["networks"]["dense"].update(file="/etc/passwd"),
        lambda manifest: manifest["files"].update({"../../secret": "00"}),
        lambda manifest: manifest["files"].pop("model.onnx"),
        lambda manifest: manifest["inputs"].update(n="many"),
        lambda manifest: manifest["workload"].update(options={"library": "/tmp/theirs.so"}),
        lambda manifest: manifest["inputs"]["preprocess"].pop("std"),
    ],
)
def test_a_damaged_manifest_is_a_user_error(bundle, change):
    edit(bundle, change)
    with pytest.raises(UserError, match=r"manifest\.json is damaged"):
        read_bundle(bundle)


def test_other_folders_and_other_versions_are_refused(bundle, tmp_path):
    with pytest.raises(UserError, match="is not a bundle"):
        read_bundle(tmp_path)
    edit(bundle, lambda manifest: manifest.update(schema_version=9))
    with pytest.raises(UserError, match="schema_version 1"):
        read_bundle(bundle)

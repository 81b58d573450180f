"""The folder that travels: its manifest, read and held to its word."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, TypeVar

from runtimes.errors import UserError
from runtimes.files import read_json, sha256
from runtimes.records import Workload
from runtimes.tables import pick

SCHEMA_VERSION = 1
_NAMES_CODE = "library"  # an option that only the person who measures may state: a manifest is somebody else's text
_REPAIR = "copy the bundle again, or write it again with `edgeprune compile`"
_Value = TypeVar("_Value")


class Network(NamedTuple):
    """One network of a bundle; `file` is relative to the bundle."""

    name: str
    file: str
    precision: str
    sha256: str


class Bundle(NamedTuple):
    """What manifest.json says, and where it lies."""

    root: Path
    id: str
    networks: Mapping[str, Network]
    images: int
    image_files: Sequence[Path]
    preprocess: Mapping[str, Any]
    runtimes: Sequence[str]
    workload: Workload
    files: Mapping[str, str]  # relative path -> sha256

    def choose(self, names: Sequence[str]) -> List[Network]:
        """The named networks in the bundle's order; all of them where none is named."""
        chosen = {pick(self.networks, name, "network").name for name in names} or set(self.networks)
        return [network for network in self.networks.values() if network.name in chosen]


def read_bundle(root: Path) -> Bundle:
    """The bundle in the folder `root`; a missing or damaged manifest is a `UserError`. Files are not looked at."""
    path = root / "manifest.json"
    if not path.is_file():
        raise UserError(
            "{} is not a bundle: it has no manifest.json".format(root), "give the folder that `edgeprune compile` wrote"
        )
    manifest = read_json(path)
    if not isinstance(manifest, dict) or manifest.get("schema_version") != SCHEMA_VERSION:
        raise UserError("{}: not a bundle of schema_version {}".format(path, SCHEMA_VERSION), _REPAIR)
    try:
        return _bundle(root.resolve(), manifest)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError("{} is damaged: {}".format(path, _what(error)), _REPAIR) from error


def verify(bundle: Bundle) -> None:
    """Hash every file the manifest lists; the first that is missing or differs is named in a `UserError`."""
    for name, expected in bundle.files.items():
        path = bundle.root / name
        if not path.is_file():
            raise UserError("the bundle {} has lost its file {}".format(bundle.root, name), _REPAIR)
        if sha256(path) != expected:
            raise UserError(
                "{} in the bundle {} is not what was written: its SHA-256 differs".format(name, bundle.root), _REPAIR
            )


def _bundle(root: Path, manifest: Dict[str, Any]) -> Bundle:
    inputs = manifest["inputs"]
    networks = {name: _network(name, entry) for name, entry in manifest["networks"].items()}
    files = {_inside(name): _of(str, digest) for name, digest in manifest["files"].items()}
    needed = [network.file for network in networks.values()] + list(inputs["files"])
    unlisted = [name for name in needed if name not in files]
    if unlisted or not networks or not inputs["files"]:
        raise ValueError("'files' does not list {}".format(unlisted[0]) if unlisted else "no network or no input in it")
    workload = Workload.from_json(manifest["workload"])
    if _NAMES_CODE in workload.options:
        raise ValueError("its workload has the option '{}'".format(_NAMES_CODE))
    return Bundle(
        root=root,
        id=_of(str, manifest["id"]),
        networks=networks,
        images=_of(int, inputs["n"]),
        image_files=[root / _inside(name) for name in inputs["files"]],
        preprocess={key: inputs["preprocess"][key] for key in ("scale", "mean", "std")},
        runtimes=[_of(str, name) for name in manifest["runtimes"]],
        workload=workload,
        files=files,
    )


def _network(name: str, entry: Mapping[str, Any]) -> Network:
    return Network(name, _inside(entry["file"]), _of(str, entry["precision"]), _of(str, entry["sha256"]))


def _inside(name: str) -> str:
    """A relative path that stays in the bundle: a manifest is somebody else's text."""
    path = Path(_of(str, name))
    if path.is_absolute() or ".." in path.parts:
        raise ValueError("the path {!r} leads out of the bundle".format(name))
    return name


def _of(kind: "type[_Value]", value: Any) -> _Value:
    if not isinstance(value, kind):
        raise TypeError("{!r} where {} is expected".format(value, kind.__name__))
    return value


def _what(error: Exception) -> str:
    return "{} is missing".format(error) if isinstance(error, KeyError) else str(error)

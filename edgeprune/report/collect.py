"""From a run folder to a `Report`: reads files, computes intervals, and names what is missing or stale."""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgeprune.report import across, compare, machines, pairing, sentences, side_by_side, stand_ins
from edgeprune.report.contests import contests
from edgeprune.report.headline import headline
from edgeprune.report.measured import row
from edgeprune.report.metrics import flatten
from edgeprune.report.origins import origin
from edgeprune.report.records import (
    Comparison,
    Layer,
    Missing,
    Network,
    Origin,
    Remark,
    Report,
    Row,
)
from runtimes.errors import UserError
from runtimes.files import read_json
from runtimes.records import Measurement

HISTORIES = {  # by the network that the training made
    "teacher": "0-teacher/teacher.history.json",
    "dense": "0-teacher/dense.history.json",
    "sparse": "2-retrain/history.json",
}
STEPS = (  # (the step, the file that shows it was done, what it makes, the verb)
    ("0-teacher", "0-teacher/completed.json", "teacher and dense network", "teach"),
    ("1-prune", "1-prune/completed.json", "masks", "prune"),
    ("2-retrain", "2-retrain/completed.json", "retrained sparse network", "retrain"),
    ("3-export", "3-export/manifest.json", "ONNX files with their counts and sizes", "export"),
    ("5-measure", "5-measure", "latencies, memory and accuracy on a device", "measure"),
)
DAMAGED = "damaged"  # code of the remark on a measurement that cannot be read


def collect(run: Path) -> Report:
    """Read the folder `run`. Steps that were not run are listed in `missing`; a damaged file is a `UserError`.

    A damaged measurement is a remark: it came from a device, and there may be others.
    """
    if not (run / "run.json").is_file() and not (run / "3-export" / "manifest.json").is_file():
        raise UserError(f"{run} is not a run folder", "give one that `edgeprune run` made, as runs/quickstart")
    origin, manifest = _optional(run / "run.json"), _optional(run / "3-export" / "manifest.json")
    toml, recipe = _recipe(run, origin)
    networks = _networks(manifest)
    rows, origins, remarks, environment = _measured(run, [*networks, *_for_other_targets(run)])
    comparisons, lonely = _compared(rows, run)
    runtimes = across.across(rows)
    training = machines.of_training(run)
    by_name = {network.name: network for network in networks}
    histories = {name: tuple(_optional(run / file) or ()) for name, file in HISTORIES.items()}
    return Report(
        name=str(recipe.get("name") or run.resolve().name),
        folder=run.resolve().name,
        command=_command(origin.get("command")),
        version=origin.get("version"),
        created_at=origin.get("created_at"),
        method=manifest.get("method") or recipe.get("method"),
        pattern=manifest.get("pattern") or recipe.get("prune", {}).get("pattern"),
        target=manifest.get("target") or recipe.get("export", {}).get("target"),
        headline=headline(by_name.get("sparse"), contests(comparisons, runtimes), rows),
        sentences=(
            *sentences.statements(by_name.get("sparse"), by_name.get("dense"), comparisons),
            *(f"Compaction: {each.compaction}." for each in networks if each.compaction and each.precision == "fp32"),
            *across.sentences(runtimes),
        ),
        rows=tuple(rows),
        comparisons=tuple(comparisons),
        columns=tuple(side_by_side.columns(rows, comparisons, environment)),
        origins=tuple(origins),
        networks=tuple(networks),
        layers=tuple(_layers(manifest)),
        histories=histories,
        scoring=_optional(run / "1-prune" / "scoring.json") or None,
        environment=environment,
        training=training,
        recipe=recipe,
        recipe_toml=toml,
        missing=tuple(_missing(run)),
        warnings=tuple(_vain(manifest) + remarks + lonely + machines.doubts(training)),
        metrics=flatten(rows, comparisons, networks, histories),
        across=tuple(runtimes),
    )


def _optional(path: Path) -> Any:
    return read_json(path) if path.is_file() else {}


def _recipe(run: Path, origin: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    path = run / "recipe.toml"
    if not path.is_file():
        return None, dict(origin.get("recipe") or {})
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}", "restore the recipe, or run again into a new folder") from None


def _command(command: list[str] | str | None) -> str | None:
    return shlex.join(str(part) for part in command) if isinstance(command, list) else command


def _networks(manifest: Mapping[str, Any]) -> list[Network]:
    """The exported networks, in the order that is used everywhere; unknown names come last."""
    found: Mapping[str, Mapping[str, Any]] = manifest.get("networks", {})
    return [_network(name, found[name]) for name in sorted(found, key=pairing.place)]


def _for_other_targets(run: Path) -> list[Network]:
    """What `edgeprune export --target` wrote beside the run's own export: a board measures those."""
    paths = sorted((run / "3-export").glob("*/manifest.json"))
    return [network for path in paths for network in _networks(read_json(path))]


def _network(name: str, entry: Mapping[str, Any]) -> Network:
    return Network(
        name=name,
        role=str(entry.get("network", name)),
        model=entry.get("model"),
        sha256=str(entry.get("sha256", "")),
        precision=str(entry.get("precision", "fp32")),
        pattern=str(entry.get("pattern", "dense")),
        sparsity=entry.get("sparsity"),
        sparsity_paper=entry.get("sparsity_paper"),
        zeros=entry.get("zeros"),
        weights=entry.get("weights"),
        macs=entry.get("macs"),
        nonzero_macs=entry.get("nonzero_macs"),
        size_bytes={key: entry.get("size_bytes", {}).get(key) for key in ("onnx", "nonzero", "compressed")},
        verification=entry.get("verification"),
        compaction=next(iter(entry.get("compaction", {}).get("summary", ())), None),
    )


def _layers(manifest: Mapping[str, Any]) -> list[Layer]:
    return [_layer(entry) for entry in manifest.get("networks", {}).get("sparse", {}).get("layers", [])]


def _layer(entry: Mapping[str, Any]) -> Layer:
    weights, zeros = int(entry["weights"]), int(entry["zeros"])
    masked = int(entry.get("masked") or 0)
    return Layer(
        name=str(entry["name"]),
        kind=str(entry["kind"]),
        shape=tuple(entry.get("shape", ())),
        weights=weights,
        zeros=zeros,
        sparsity=zeros / weights if weights else 0.0,
        pruned=masked > 0,
        reason=entry.get("reason") or (None if masked else "its mask keeps every weight"),
    )


def _measured(
    run: Path, networks: Sequence[Network]
) -> tuple[list[Row], list[Origin], list[Remark], dict[str, dict[str, Any]]]:
    """The rows as a report lists them, their origins, and what the device said in each session.

    A measurement belongs to the file that it names by its hash; one of another file is left out, and so is a damaged
    one, each with a remark.
    """
    measured: dict[str, Measurement] = {}  # by the row's source
    found: list[Row] = []
    remarks: list[Remark] = []
    for path in sorted((run / "5-measure").glob("*/*.json")):
        source, file = f"{path.parent.name}/{path.stem}", path.relative_to(run).as_posix()
        try:
            measurement = stand_ins.silenced(Measurement.read(path))
            made = row(measurement, measurement.device or path.parent.name, _network_of(measurement, networks), file)
        except UserError as error:  # one device's damaged file must not cost the others theirs
            remarks.append(Remark(source, DAMAGED, f"left out: {error.message}"))
            continue
        stale = _stale(measurement, networks)
        if stale:
            remarks.append(Remark(source, "stale", stale))
            continue
        measured[file] = measurement
        found.append(made)
        remarks += [Remark(source, doubt.code, doubt.message) for doubt in measurement.warnings]
    rows, environment = _machines(pairing.ordered(found), measured)
    return rows, [origin(each, measured[each.source]) for each in rows], remarks, environment


def _network_of(measurement: Measurement, networks: Sequence[Network]) -> Network | None:
    """The exported network that was measured: of that file, and of that name where one file has several."""
    same = [network for network in networks if network.sha256 == measurement.network_sha256]
    return next((network for network in same if network.name == measurement.name), same[0] if same else None)


def _machines(rows: Sequence[Row], measured: Mapping[str, Measurement]) -> tuple[list[Row], dict[str, dict[str, Any]]]:
    """What each session's device said, under the device's name or, from its second session on, under that and when."""
    keys: dict[Any, str] = {}
    environment: dict[str, dict[str, Any]] = {}
    named: list[Row] = []
    for each in rows:
        call = (pairing.session(each), pairing.state(each))
        if call not in keys:
            key = each.device if each.device not in environment else f"{each.device}, {_when(each)}"
            keys[call] = key if key not in environment else f"{key}, {each.source}"
            environment[keys[call]] = dict(measured[each.source].facts)
        named.append(replace(each, machine=keys[call]))
    return named, environment


def _when(row: Row) -> str:
    mode, locked = pairing.state(row)
    parts = [mode or "", "clocks locked" if locked else "", f"measured {row.started_at}"]
    return ", ".join(part for part in parts if part)


def _stale(measurement: Measurement, networks: Sequence[Network]) -> str | None:
    """Why a measurement belongs to no exported file, or None when it does.

    One of a file that is exported under another name now, while its own name is another file's, belongs to neither.
    """
    own = {network.sha256 for network in networks if network.name == measurement.name}
    known = own or {network.sha256 for network in networks}
    if not networks or measurement.network_sha256 in known:
        return None
    if all(measurement.name != network.name for network in networks):
        return f"measured a network '{measurement.name}' that is not exported any more; left out"
    return f"measured an earlier export of '{measurement.name}'; left out, measure again"


def _compared(rows: Sequence[Row], run: Path) -> tuple[list[Comparison], list[Remark]]:
    """Each sparse row beside its dense one of the same session; a sparse row alone gets a remark.

    A stand-in's rows are compared with nothing: what they took says nothing of the device.
    """
    comparisons: list[Comparison] = []
    remarks: list[Remark] = []
    for sparse in rows:
        if sparse.role != "sparse" or sparse.runtime == "null" or sparse.stand_in:
            continue
        dense = pairing.baseline(sparse, rows)
        if dense is None or not pairing.in_turns(dense, sparse):
            remarks.append(_alone(sparse, dense))
            continue
        comparisons.append(compare.compare(sparse, dense, rows, run))
        if sparse.precision != dense.precision:
            precisions = f"sparse in {sparse.precision}, dense in {dense.precision}: the ratio mixes both changes"
            remarks.append(Remark(_source(sparse), "precision", precisions))
    return comparisons, remarks


def _source(row: Row) -> str:
    """The measurement that a remark is about, as `device/runtime-network`."""
    path = PurePosixPath(row.source)
    return f"{path.parent.name}/{path.stem}"


def _vain(manifest: Mapping[str, Any]) -> list[Remark]:
    return [Remark("3-export", "no-gain", str(text)) for text in manifest.get("warnings", [])]


def _alone(sparse: Row, dense: Row | None) -> Remark:
    """Why a sparse row is compared with nothing."""
    source = _source(sparse)
    if dense is None:
        text = "no dense network was measured under the same conditions, so nothing is compared"
        return Remark(source, "no-baseline", text)
    when = f"sparse at {sparse.started_at}, dense at {dense.started_at}"
    text = f"measured apart from the dense network ({when}), so nothing is compared; measure both in one call"
    return Remark(source, "other-session", text)


def _missing(run: Path) -> list[Missing]:
    return [Missing(step, what, f"edgeprune {verb} {run}") for step, file, what, verb in STEPS if not _done(run / file)]


def _done(path: Path) -> bool:
    return any(path.glob("*/*.json")) if path.name == "5-measure" else path.is_file()

"""A run is a folder: where each step writes, what is already done, and who is at work in it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from edgeprune import __version__
from edgeprune.recipe import Recipe, differences, load, to_toml
from runtimes.errors import UserError
from runtimes.files import read_json, sha256, write_json, write_text

FOLDERS = {
    "teach": "0-teacher",
    "prune": "1-prune",
    "retrain": "2-retrain",
    "export": "3-export",
    "compile": "4-compile",
    "measure": "5-measure",
    "report": "6-report",
}

# What may differ between two calls on the same folder: where things lie on this machine, not what is computed.
PLACES = frozenset({"data.dir", "data.download", "weights_dir", "train.hardware", "train.threads"})

# table of the recipe -> the first step that looks at it, where that is not the first step of all
_FIRST_USE = {"prune": "prune", "retrain": "retrain", "export": "export", "measure": "compile"}


class RunDir:
    """The run folder at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, step: str) -> Path:
        """The folder of a step."""
        return self.path / FOLDERS[step]

    @property
    def recipe_path(self) -> Path:
        """The complete recipe of this run."""
        return self.path / "recipe.toml"

    def recipe(self, settings: Iterable[str] = (), extra: Mapping[str, Any] | None = None) -> Recipe:
        """The recipe of this run, with what the caller states laid over it.

        A run folder is of one method: another one is a `UserError`.
        """
        written, asked = load(str(self.recipe_path)), load(str(self.recipe_path), settings, extra)
        if asked.method != written.method:
            raise UserError(
                f"{self.path} is a run of method {written.method}, not {asked.method}",
                f"begin from its recipe: edgeprune run RECIPE --method {asked.method} --out FOLDER",
            )
        return asked

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process; another one at work in it is a `UserError`. A killed one holds nothing."""
        with self._lock_file() as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{self.path} is in use by another edgeprune", "wait for it, or choose another --out"
                ) from None
            yield

    def _lock_file(self) -> IO[str]:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return (self.path / ".lock").open("a")
        except OSError as error:
            raise UserError(f"{self.path} cannot be a run folder: {error.strerror}", "choose another --out") from error

    def adopt(self, recipe: Recipe) -> None:
        """Write `recipe` into a new folder, or lay it over the one there where no step has used yet what differs.

        So a call that failed can be corrected and loses nothing; what contradicts a step that has begun is a
        `UserError`.
        """
        if self.recipe_path.is_file():
            told = differences(self.recipe(), recipe, ignore=PLACES)
            fixed = [text for key, text in told.items() if self._begun(_FIRST_USE.get(key.partition(".")[0], "teach"))]
            if fixed:
                shown = "; ".join(fixed[:3]) + ("; ..." if len(fixed) > 3 else "")
                raise UserError(
                    f"{self.path} is a run of another recipe ({shown})", "choose another --out, or delete the folder"
                )
            if not told:
                return
        elif any(path.name not in (".lock", "run.json") and path.suffix != ".tmp" for path in self.path.iterdir()):
            (self.path / ".lock").unlink(missing_ok=True)  # leave nothing in somebody's folder
            raise UserError(f"{self.path} is not empty and not a run folder", "choose another --out")
        told = read_json(self.path / "run.json") if self._begun("teach") else {}
        held = {"inputs": told["inputs"]} if "inputs" in told else {}  # what steps have used stays held
        write_json(self.path / "run.json", {**_provenance(recipe, self.recipe_path), **held})
        write_text(self.recipe_path, to_toml(recipe))

    def _begun(self, first: str) -> bool:
        """Whether `first` or a step after it has written a file: before that nothing binds the folder to its values."""
        steps = list(FOLDERS)
        return any(path.is_file() for step in steps[steps.index(first) :] for path in self[step].rglob("*"))

    def hold_to(self, inputs: Mapping[str, str]) -> None:
        """Hold the run to what it was begun with: `inputs` maps checkpoints and images to their hashes.

        Files that were exchanged under the same name are a `UserError`, not "already done".
        """
        told = read_json(self.path / "run.json")
        for name, digest in inputs.items():
            if told.get("inputs", {}).get(name, digest) != digest:
                raise UserError(
                    f"{name} is not what {self.path} was begun with: its content has changed", "choose another --out"
                )
        known = {**told.get("inputs", {}), **inputs}
        if known != told.get("inputs", {}):
            write_json(self.path / "run.json", {**told, "inputs": known})

    def done(self, step: str) -> bool:
        """Whether a step was finished and its files are still what they were."""
        return (self[step] / "completed.json").is_file() and not self._changed(step)

    def begin(self, step: str) -> None:
        """Make the step's folder, and clear away what a killed process was about to write there.

        Of a finished step, clear away the files that are not what they were, so that nobody takes them for finished.
        """
        self[step].mkdir(parents=True, exist_ok=True)
        for unfinished in self[step].rglob(".*.tmp"):
            unfinished.unlink()
        if (self[step] / "completed.json").is_file():
            for path in self._changed(step):
                path.unlink(missing_ok=True)

    def _changed(self, step: str) -> list[Path]:
        """The files of a finished step that are missing or not what they were."""
        outputs = read_json(self[step] / "completed.json")["outputs"]
        digests = {self[step] / name: digest for name, digest in outputs.items()}
        return [path for path, digest in digests.items() if not path.is_file() or sha256(path) != digest]

    def complete(
        self, step: str, outputs: list[Path], seconds: float, machine: Mapping[str, Any] | None = None
    ) -> None:
        """Mark a step as finished, with the hashes of what it wrote and the `machine` it was done on.

        Where these are not the files of the last time, the steps after it are to be done again.
        """
        marker, names = self[step] / "completed.json", list(FOLDERS)
        digests = {str(path.relative_to(self[step])): sha256(path) for path in sorted(outputs)}
        if not marker.is_file() or read_json(marker)["outputs"] != digests:
            for later in names[names.index(step) + 1 :]:
                self.outdate(later)
        told = {"step": step, "seconds": round(seconds, 3), "machine": dict(machine or {}), "outputs": digests}
        write_json(marker, told)
        self._forget_progress(step)

    def accept(self, step: str) -> None:
        """Take the files of a finished step for finished as they are now; the steps after it are to be done again."""
        told = read_json(self[step] / "completed.json")
        self.complete(step, [self[step] / name for name in told["outputs"]], told["seconds"], told.get("machine", {}))

    def outdate(self, step: str) -> None:
        """Take back that a step is finished, and what it would resume from; its results stay until it is done again."""
        (self[step] / "completed.json").unlink(missing_ok=True)
        self._forget_progress(step)

    def _forget_progress(self, step: str) -> None:
        """Clear away what the step would resume from, and the folder of a schedule's rounds."""
        for path in self[step].rglob("*.checkpoint"):
            path.unlink()
        if (self[step] / "rounds").is_dir():
            shutil.rmtree(self[step] / "rounds")


def _provenance(recipe: Recipe, written: Path) -> dict[str, object]:
    """Where this run comes from; `command` makes the same run again: the call itself, where that was a whole one."""
    called = ["edgeprune", *sys.argv[1:]]
    again = ["edgeprune", "run", str(written), "--out", f"{written.parent}-again"]
    command = shlex.join(called if called[1:2] == ["run"] else again)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "command": command,
        "version": __version__,
        "created_at": created,
        "recipe": json.loads(recipe.model_dump_json()),
    }

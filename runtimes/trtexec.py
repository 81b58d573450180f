"""NVIDIA's own `trtexec` as a second way to the same numbers: it builds, times and tells in its log what it did.

This module has been run against stand-ins that print captured logs, and never against a real trtexec. trtexec feeds a
network with random numbers, not with the bundle's images; its kernels do the same work for any input.
"""

import datetime
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from runtimes import sampler
from runtimes.board.commands import find_program
from runtimes.bundle import Bundle, Network, verify
from runtimes.errors import UserError
from runtimes.files import write_json, write_text
from runtimes.lifetime import end_with_parent
from runtimes.records import Workload
from runtimes.trt_complaints import errors, incompatible, passed
from runtimes.trt_inspector import lines_of
from runtimes.trt_logs import version
from runtimes.trt_store import available_mb
from runtimes.trt_wishes import read_wishes, wants_graph
from runtimes.trtexec_command import EXPORTS, Job, Version, command, shapes
from runtimes.trtexec_report import document

_PLACES = (Path("/usr/src/tensorrt/bin/trtexec"),)  # where Jetson's package libnvinfer-bin puts it
_OLDEST = (8, 4, 0)
_LAST_WORDS, _LINE = 3, 300  # lines, characters of one
_POLL_S = 0.2
_SILENCE_S = 300.0  # beyond the time of the measurement itself; a builder prints a line for each kernel it tries
_HELP_S = 60.0


def find(places: Sequence[Path] = _PLACES) -> str:
    """The path of trtexec: on PATH, else in one of `places`.

    Raises:
        UserError: it is in none of them.
    """
    found = find_program("trtexec") or next((str(place) for place in places if os.access(str(place), os.X_OK)), None)
    if found is None:
        raise UserError(
            "trtexec is not on PATH and not in {}".format(", ".join(str(place.parent) for place in places)),
            "on a Jetson, `sudo apt-get install libnvinfer-bin` installs it; elsewhere it is in TensorRT's `bin`",
        )
    return found


def installed_version(executable: str) -> Version:
    """Major, minor and patch of the TensorRT that this trtexec belongs to, from the banner above its help.

    Raises:
        UserError: it cannot be run, has no banner, or is older than 8.4.
    """
    try:
        finished = subprocess.run(
            [executable, "--help"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_HELP_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError("{} cannot be run: {}".format(executable, error), "is it for this machine?") from error
    said = finished.stdout.decode("utf-8", "replace")
    found = version(said)
    if found is None:
        words = " ".join(said.split())[:200] or "nothing"
        raise UserError("{} --help does not say its version".format(executable), "it said: {}".format(words))
    if found < _OLDEST:
        raise UserError(
            "trtexec of TensorRT {} is too old".format(".".join(map(str, found))), "8.4 is the oldest that is known"
        )
    return found


def time_with_trtexec(
    bundle: Bundle,
    out: Path,
    networks: Sequence[str],
    batch: Optional[int] = None,
    duration_s: float = 10.0,
    say: Callable[[str], None] = lambda line: None,
) -> Dict[str, Dict[str, Any]]:
    """Build and time the named networks of a bundle, all where none is named, one after the other.

    Args:
        bundle: its files are hashed before anything is run. The options of its workload are those of the runtime
            `trt`, with the same defaults: `cuda_graph`, `sparsity`, `workspace_mb`.
        out: folder for `trtexec-<network>.json`, and beside it the log and what trtexec exports.
        batch: images in one query; default: the bundle's workload.
        duration_s: seconds of timing, after a warm-up of one second.
        say: gets one line of progress at a time.

    Returns:
        Name of the JSON file -> what is in it, see `runtimes.trtexec_report`.

    Raises:
        UserError: a damaged bundle, an unknown network, no trtexec, or one that failed, with its own last words; its
            log is kept.
    """
    chosen = bundle.choose(networks)
    if not 0 < duration_s < float("inf"):
        raise UserError("the duration is {:g} s".format(duration_s), "it has to be more than 0 seconds")
    workload = bundle.workload if batch is None else bundle.workload.changed(batch=batch)
    verify(bundle)
    executable = find()
    release = installed_version(executable)
    jobs = {network.name: _job(bundle, network, workload, duration_s) for network in chosen}
    documents = {}
    for number, network in enumerate(chosen):
        say("progress {}/{} trtexec builds and times '{}'".format(number, len(chosen), network.name))
        name = "trtexec-{}.json".format(network.name)
        documents[name] = _timed(bundle, network, out, (release, executable), jobs[network.name])
        write_json(out / name, documents[name])
    say("progress {0}/{0} trtexec".format(len(chosen)))
    return documents


def _job(bundle: Bundle, network: Network, workload: Workload, duration_s: float) -> Job:
    own = {"precision": network.precision, "batch": str(workload.batch)}
    options = {**workload.options, **own}
    path = bundle.root / network.file
    shape = shapes(path, workload.batch)
    return Job(path, shape, Path(), duration_s, read_wishes(options), wants_graph(options), available_mb())


def _timed(bundle: Bundle, network: Network, out: Path, tool: Tuple[Version, str], job: Job) -> Dict[str, Any]:
    """Run trtexec in a folder of its own, and keep what it left there under the network's name in `out`.

    A run that failed leaves `trtexec-<network>.failed.log`, and the results of an earlier one as they were.
    """
    started_at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    before, begin = sampler.changing(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgeprune-trtexec-") as folder:
        argv = command(tool[0], tool[1], job._replace(folder=Path(folder)))
        log = Path(folder) / "log"
        try:
            code = _run(argv, log, job.duration_s + _SILENCE_S)
            seconds = time.monotonic() - begin
            said = _text(log)
            _check(said, code)
        except UserError as error:
            kept = out / "trtexec-{}.failed.log".format(network.name)
            write_text(kept, _text(log))
            what = "trtexec on network '{}' {}".format(network.name, error.message)
            raise UserError(what, error.hint or "its whole log is in {}".format(kept)) from error
        exports = {
            flag: _text(Path(folder) / name) for flag, name in EXPORTS.items() if (Path(folder) / name).is_file()
        }
    return {
        **document(said, exports),
        "network": network.name,
        "network_sha256": network.sha256,
        "precision": network.precision,
        "batch": job.wishes.batch,
        "bundle": bundle.id,
        "tensorrt": ".".join(map(str, tool[0])),
        "argv": argv,
        "seconds": seconds,
        "started_at": started_at,
        "facts": sampler.facts(before),
        "files": _keep(out, network.name, {"log": said, **exports}),
    }


def _run(argv: Sequence[str], log: Path, silence_s: float) -> int:
    """Run trtexec to its end with all it says in `log`; its exit code. It ends with this process, whatever happens."""
    with open(str(log), "wb") as said:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,  # warnings and errors go there; they belong between the other lines
                preexec_fn=end_with_parent,
            )
        except OSError as error:
            raise UserError("cannot be run: {}".format(error), "is {} for this machine?".format(argv[0])) from error
        try:
            return _wait(process, said, silence_s)
        finally:
            process.kill()  # nothing happens to one that has ended
            process.wait()


def _wait(process: "subprocess.Popen[bytes]", said: IO[bytes], silence_s: float) -> int:
    size, heard = -1, time.monotonic()
    while True:
        try:
            return process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            grown = os.fstat(said.fileno()).st_size
            if grown != size:
                size, heard = grown, time.monotonic()
            elif time.monotonic() - heard > silence_s:
                raise UserError("said nothing for {:g} s".format(silence_s), "") from None


def _check(said: str, code: int) -> None:
    """Hold a finished run to its own word.

    Raises:
        UserError: another exit code than 0, or no PASSED line, which a killed process does not print.
    """
    if code == 0 and passed(said):
        return
    elsewhere = incompatible(said)
    how = "was killed by signal {}".format(-code) if code < 0 else "ended with exit code {}".format(code)
    lines = errors(said) or [line.strip() for line in lines_of(said) if line.strip()]
    words = [line[:_LINE] for line in lines[-_LAST_WORDS:]]
    raise UserError(
        "{}: {}".format(how, " | ".join(words) or "it said nothing"),
        "an engine for compute capability {} was found on a GPU of {}: build it here".format(*elsewhere)
        if elsewhere
        else "",
    )


def _keep(out: Path, network: str, texts: Mapping[str, str]) -> Dict[str, str]:
    """Write what trtexec left into `out`; what an earlier run left there goes. What it is -> name of its file."""
    kept = {}
    for what, name in {"log": "log", **EXPORTS}.items():
        target = out / "trtexec-{}.{}".format(network, name)
        if what in texts:
            write_text(target, texts[what])
            kept[what] = target.name
        elif target.exists():
            target.unlink()
    return kept


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

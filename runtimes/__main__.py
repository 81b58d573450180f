"""`python3 -m runtimes measure BUNDLE`, `trtexec BUNDLE` and `probe`: all that ever happens on a device.

The last line of standard output is JSON; standard error is for people. Exit code 2 is something the user can put
right, told in two lines.
"""

import argparse
import importlib.util
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, List, Optional

from runtimes import installing
from runtimes.errors import UserError
from runtimes.lifetime import end_with_named_parent

_COUNTS = ("batch", "threads", "passes", "builds", "rounds")
_ENDINGS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command; the exit code."""
    for number in _ENDINGS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup, and of the shell's jobs in the background
            signal.signal(number, _leave)
    end_with_named_parent()
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command != "probe":  # which says what is missing
            _check_numpy()
        print(json.dumps(_COMMANDS[arguments.command](arguments)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


def _leave(number: int, frame: Optional[FrameType]) -> None:
    """A signal that ends the process unwinds it first: the workers end and the board is put back as it was.

    That takes a moment in which a second signal changes nothing.
    """
    for other in _ENDINGS:
        signal.signal(other, signal.SIG_IGN)
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m runtimes", description="Measure a bundle on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure", help="time the networks of a bundle and write what they answer")
    measure.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder with manifest.json")
    measure.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: results in the bundle)")
    measure.add_argument(
        "--runtime", action="append", default=[], metavar="NAME", help="may be repeated; default: the bundle's"
    )
    measure.add_argument("--network", action="append", default=[], metavar="NAME", help="may be repeated; default: all")
    measure.add_argument(
        "--protocol", metavar="NAME", help="quick, standard or mlperf-like; default: the bundle's workload"
    )
    for name in _COUNTS:
        measure.add_argument("--" + name, type=int, metavar="N", help="default: the bundle's workload")
    measure.add_argument("--cpus", metavar="LIST", help="processors the engines may use, for example 0-3,6")
    measure.add_argument("--power-mode", metavar="NAME", help="switch a Jetson to it, and back afterwards")
    measure.add_argument("--lock-clocks", action="store_true", help="fix the clocks, and let them go afterwards")
    measure.add_argument("--timeout", type=float, metavar="S", help="seconds of silence after which an engine hangs")
    measure.add_argument("--sample-s", type=float, metavar="S", help="between two looks at power and clocks; 0: none")
    measure.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="handed to the runtime")
    measure.add_argument("--no-accuracy", action="store_true", help="time only: do not write what the networks answer")
    trtexec = commands.add_parser("trtexec", help="build and time the networks of a bundle with NVIDIA's trtexec")
    trtexec.add_argument("bundle", type=Path, metavar="BUNDLE", help="the folder with manifest.json")
    trtexec.add_argument("--network", action="append", default=[], metavar="NAME", help="may be repeated; default: all")
    trtexec.add_argument("--out", type=Path, metavar="DIR", help="where results go (default: results in the bundle)")
    trtexec.add_argument("--batch", type=int, metavar="N", help="default: the bundle's workload")
    trtexec.add_argument("--duration", type=float, default=10.0, metavar="S", help="seconds of timing (default: 10)")
    commands.add_parser("probe", help="say what this machine is and which runtimes it has")
    return parser


def _measure(arguments: argparse.Namespace) -> Dict[str, Any]:
    from runtimes.board.settings import Settings
    from runtimes.bundle import read_bundle
    from runtimes.measure import measure

    bundle = read_bundle(arguments.bundle)
    workload = bundle.workload.changed(**_overrides(arguments, bundle.workload.options))
    out = arguments.out or bundle.root / "results"
    settings = Settings(arguments.power_mode, arguments.lock_clocks)
    measured = measure(bundle, out, arguments.runtime, arguments.network, workload, _say, settings)
    outputs = [measurement.outputs["file"] for measurement in measured.values() if measurement.outputs]
    return {"measurements": list(measured), "outputs": outputs, "out": str(out), "bundle": bundle.id}


def _trtexec(arguments: argparse.Namespace) -> Dict[str, Any]:
    from runtimes.bundle import read_bundle
    from runtimes.trtexec import time_with_trtexec

    bundle = read_bundle(arguments.bundle)
    out = arguments.out or bundle.root / "results"
    timed = time_with_trtexec(bundle, out, arguments.network, arguments.batch, arguments.duration, _say)
    return {"trtexec": list(timed), "out": str(out), "bundle": bundle.id}


def _overrides(arguments: argparse.Namespace, options: Any) -> Dict[str, Any]:
    given = {name: getattr(arguments, name) for name in ("protocol", *_COUNTS, "sample_s")}
    given["cpus"] = _cpus(arguments.cpus)
    given["timeout_s"] = arguments.timeout
    changed = {name: value for name, value in given.items() if value is not None}
    if arguments.no_accuracy:
        changed["accuracy"] = False
    if arguments.option:
        changed["options"] = {**options, **dict(map(_option, arguments.option))}
    return changed


def _cpus(text: Optional[str]) -> Optional[List[int]]:
    from runtimes.readings import parse_cpu_list

    try:
        found = None if text is None else parse_cpu_list(text)
    except ValueError:
        found = []
    if found == []:
        raise UserError("--cpus {} is no list of processors".format(text), "for example: --cpus 0-3,6")
    return found


def _option(text: str) -> List[str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UserError("--option {} is not NAME=VALUE".format(text), "for example: --option busy_us=1000")
    return [name, value]


def _probe(arguments: argparse.Namespace) -> Dict[str, Any]:
    from runtimes.probe import probe

    return probe()


def _check_numpy() -> None:
    if importlib.util.find_spec("numpy") is None:
        raise UserError(
            "numpy is not installed for {}".format(sys.executable),
            "run {}".format(installing.command("numpy")),
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


_COMMANDS: Dict[str, Callable[[argparse.Namespace], Dict[str, Any]]] = {
    "measure": _measure,
    "trtexec": _trtexec,
    "probe": _probe,
}

if __name__ == "__main__":
    sys.exit(main())

"""What runs on the other machine: these files' text goes there over SSH, and the Python found there executes it.

It needs Python 3.8 and its standard library; no shell, no tar, no place in which programs may lie. It answers one
request and ends. The first words on the command line are all that a login shell gets to see, and every shell takes them
the same way: letters, digits, and signs that mean nothing between single quotes. They wait for nothing, say which
Python they are (which old ones can too), and read the program from the standard input.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from devices.ssh.far_command import run
from devices.ssh.far_files import RefusedError, give, held, take
from devices.ssh.wire import Wire, keep_alive

OLDEST = (3, 8)
_PARTS = ("wire", "far_files", "far_command", "far_side")
_LAUNCHER = """import sys, types
for name, text in {sources!r}:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
module.main()
"""
_FIRST_WORDS = (
    "import sys;sys.path=[p for p in sys.path if p];"  # nothing is imported from the folder one lands in
    'print("");print("{token} %d.%d" % sys.version_info[:2]);sys.stdout.flush();'
    'exec(getattr(sys.stdin,"buffer",sys.stdin).read({size}))'
)
_BEYOND_PATIENCE_S = 10.0


def program() -> bytes:
    """The text that the far side executes."""
    here = Path(__file__).parent
    sources = [(f"devices.ssh.{part}", (here / f"{part}.py").read_text(encoding="utf-8")) for part in _PARTS]
    return _LAUNCHER.format(sources=sources).encode("ascii", "backslashreplace")


def first_words(token: str, size: int) -> str:
    """What is between the single quotes of `python -E -c '...'`; it answers `TOKEN 3.11` on a line of its own."""
    return _FIRST_WORDS.format(token=token, size=size)


def main() -> None:
    """Serve one request on the standard streams, and leave without waiting for the threads."""
    signal.signal(signal.SIGHUP, _stay)
    signal.signal(signal.SIGTERM, _leave)
    wire = Wire(sys.stdin.buffer, sys.stdout.buffer)
    code = 1
    try:
        wire.send_json(b"x", _served(wire))
        code = 0
    except OSError:  # the host is gone: there is nobody to tell, and the exit code is not read either
        code = 1
    finally:
        os._exit(code)


def _served(wire: Wire) -> dict[str, Any]:
    """Do what the host asks for; the last word."""
    try:
        kind, content = wire.receive()
        if kind != b"j":
            raise RefusedError("broken", why="no request came")
        return _do(wire, json.loads(content.decode("utf-8")))
    except RefusedError as error:
        return error.answer
    except OSError as error:
        return {"error": "system", "path": str(error.filename or ""), "why": os.strerror(error.errno or 0)}
    except Exception as error:
        return {"error": "broken", "why": f"{type(error).__name__}: {error}"}


def _do(wire: Wire, request: dict[str, Any]) -> dict[str, Any]:
    over, given_up = threading.Event(), threading.Event()
    silence_s, patience_s = request["silence_s"], request["patience_s"]
    longest_s = silence_s + (patience_s + _BEYOND_PATIENCE_S if request["do"] == "run" else 0.0)

    def give_up() -> None:
        """A command is ended in order first; this process ends wherever it is stuck."""
        given_up.set()
        over.set()
        if wire.silent_for() > longest_s:
            os._exit(1)

    keep_alive(wire, threading.Event(), request["beat_s"], silence_s, give_up)
    if request["do"] == "take":
        take(wire, request["folder"], request["name"], request["files"])
    elif request["do"] == "give":
        give(wire, request["place"], request["names"])
    elif request["do"] == "hold":
        wire.send_json(b"j", held(request["folder"]))
    else:
        words, place = request["command"], request["place"]
        code = run(wire, over, words, place, request["environment"], patience_s)
        if given_up.is_set():  # and the host is heard again: it slept
            raise RefusedError("silent", why=f"{silence_s:g} s")
        return {"code": code}
    return {"code": 0}


def _stay(number: int, frame: FrameType | None) -> None:
    """Not SIG_IGN, which the command would inherit."""


def _leave(number: int, frame: FrameType | None) -> None:
    """A signal that ends this process unwinds it first, so that the command ends too."""
    raise SystemExit(128 + number)

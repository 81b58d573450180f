"""Processes that end with the one that started them, so that none goes on alone after a `kill -9`."""

import contextlib
import ctypes
import os
import signal

END_WITH = "EDGEPRUNE_END_WITH"  # the process id of the parent that `python -m runtimes` is to end with
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Ask Linux to kill this process with the thread that started it; other systems have no such wish."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_named_parent() -> None:
    """`end_with_parent` where the environment names the parent; at once where that one has ended already.

    The name is taken out of the environment: it is not meant for the children of this process.
    """
    parent = os.environ.pop(END_WITH, "")
    if not parent:
        return
    end_with_parent()
    if str(os.getppid()) != parent:
        raise SystemExit(128 + signal.SIGKILL)

"""What tests of several packages share; its folder is on the path, so that they can import `toys`."""

import os
import signal
import sys

# Before torch is imported, and for every child process: on tiny tensors two threads mostly wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from edgeprune import cli

# A process in the background of a shell ignores Ctrl-C, and so would every child of it: some tests press it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def edgeprune(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """The console script in this process: `edgeprune("run", "quickstart") -> (exit code, stdout, stderr)`."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgeprune", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call

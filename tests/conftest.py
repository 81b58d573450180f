"""What tests of several packages share; its folder is on the path, so that they can import `toys`."""

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

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


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The quickstart in small, run once for all tests: a `Run`. No test may change it: that is asserted at the end."""
    from whole_run import run_it, stamps  # with torch, which not every file of tests needs

    run = run_it(tmp_path_factory.mktemp("whole-run"))
    before = stamps(run.folder)
    yield run
    assert stamps(run.folder) == before, "a test changed the run that all share"

"""Run folders to report on."""

from pathlib import Path

import pytest
from run_folder import build, build_boards, build_wide


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Measured on this machine alone."""
    return build(tmp_path / "quickstart")


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Measured on a board with two runtimes as well."""
    return build_wide(tmp_path / "quickstart")


@pytest.fixture
def boards(tmp_path: Path) -> Path:
    """Measured on two boards with power readings and on a stand-in as well."""
    return build_boards(tmp_path / "quickstart")

"""The doctor where something is broken: it is called for exactly then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from architecture_rules import ROOT

DOCTOR = "from edgeprune.doctor import as_text, examine; print(as_text(examine()))"


def examined(broken: Path) -> dict[str, str]:
    """What the doctor says of each thing, in a process that finds the modules in the folder `broken` first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(broken), str(ROOT)])}
    found = subprocess.run(
        [sys.executable, "-c", DOCTOR], cwd=broken, env=environment, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    lines = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return {told.split("  ")[0].strip(): f"{mark} {told}" for mark, told in lines}


BROKEN = {
    "torch": "OSError('libtorch_cpu.so: undefined symbol')",
    "torchvision": "RuntimeError('operator torchvision::nms does not exist')",
    "onnx": "ImportError('DLL load failed')",
    "onnxruntime": "RuntimeError('module compiled against another numpy')",
}


def test_libraries_that_cannot_be_imported_are_findings(tmp_path: Path) -> None:
    for module, fails_with in BROKEN.items():
        (tmp_path / f"{module}.py").write_text(f"raise {fails_with}\n")
    found = examined(tmp_path)
    for module, fails_with in BROKEN.items():
        assert found[module].startswith("MISSING ")
        assert fails_with.split("'")[1] in found[module]
    assert found["Python"].startswith("ok ")
    assert found["numpy"].startswith("ok ")
    assert found["ziglang"].startswith("ok ")
    assert found["runtime ort"].startswith("MISSING ")
    assert found["GPU"].startswith("- "), "not needed"
    assert "undefined symbol" in found["GPU"]


def test_a_driver_that_fails_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(
        "class cuda:\n    def is_available():\n        raise RuntimeError('CUDA driver error')\n__version__ = '0'\n"
    )
    found = examined(tmp_path)
    assert found["torch"].startswith("ok ")
    assert found["GPU"].startswith("- ")
    assert "CUDA driver error" in found["GPU"]

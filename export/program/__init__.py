"""ONNX to the flat program that `runtimes/sparse_cpu` runs."""

from __future__ import annotations

from export.program.convert import to_program
from export.program.write import Written, read_program, write_program

__all__ = ["Written", "read_program", "to_program", "write_program"]

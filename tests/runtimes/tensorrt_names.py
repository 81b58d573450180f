"""Which of the names that edgeprune asks TensorRT for does a release have? From its published bindings.

    pip download --no-deps --only-binary=:all: tensorrt-bindings==8.6.1 tensorrt-cu12-bindings==10.3.0
    python tests/runtimes/tensorrt_names.py WHEEL...

The wheels of the bindings come without TensorRT's libraries. So each is loaded over empty libraries, compiled here, in
which the few functions that the bindings call give nothing: enough to import it and look at its classes, and for no
more. The wheel has to be one for the Python that runs this. It writes `tests/captured/tensorrt-names/<version>.txt`.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "captured" / "tensorrt-names"
_HEAD = "# TensorRT {}: of the names in runtimes/trt_adapter.py, those that its bindings have\n"


def known_names(path: Path) -> set[str]:
    """The names in a file of `FOLDER`."""
    return {line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")}


def members(module: object) -> set[str]:
    """Everything public in a module, and `Class.member` for everything public in its classes."""
    found = set()
    for name, value in vars(module).items():
        if not name.startswith("_"):
            found.add(name)
            if isinstance(value, type):
                found |= {f"{name}.{member}" for member in dir(value) if not member.startswith("_")}
    return found


def named_members(module: object, names: Iterable[str]) -> set[str]:
    """Of names such as `DataType.HALF`, those whose value calls itself by that name."""
    found = set()
    for name in names:
        kind, member = name.split(".")
        value = getattr(getattr(module, kind, None), member, None)
        if getattr(value, "name", None) == member:
            found.add(name)
    return found


def empty_libraries(bindings: Path, folder: Path) -> None:
    """Compile what `bindings` is linked against: libraries whose functions give nothing."""
    needed = re.findall(r"NEEDED.*\[(libnv\S+)\]", _output("readelf", "-d", str(bindings)))
    called = re.findall(
        r" U (\w*(?:create\w+|get\w+|init\w+|nvuff\w+|nvcaffe\w+))$", _output("nm", "-D", str(bindings)), re.M
    )
    ours = [name for name in called if not name.startswith(("Py", "_Py", "__"))]
    source = folder / "empty.c"
    for number, library in enumerate(needed):
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ours) if number == 0 else "")
        target = str(folder / library)
        subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}", "-o", target, str(source)], check=True)


def list_names(wheel: Path) -> Path:
    """Write the list of one wheel; returns where."""
    version = wheel.name.split("-")[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zipfile.ZipFile(wheel).extractall(folder)
        bindings = next(folder.rglob("tensorrt.so"))
        empty_libraries(bindings, folder)
        # A process of its own: the loader's path is read when one starts, and two releases do not go into one.
        command = ["env", f"LD_LIBRARY_PATH={folder}", sys.executable, __file__, "--of", str(bindings)]
        found = set(_output(*command).split())
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{version}.txt"
    path.write_text(_HEAD.format(version) + "".join(f"{name}\n" for name in sorted(found)), encoding="utf-8")
    return path


def _print_names(bindings: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from runtimes.trt_adapter import NAMED, OPTIONAL, REQUIRED

    spec = importlib.util.spec_from_file_location("tensorrt", bindings)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(*sorted(members(module) & {*REQUIRED, *OPTIONAL} | named_members(module, NAMED)))


def _output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    if sys.argv[1:2] == ["--of"]:
        _print_names(Path(sys.argv[2]))
    else:
        for argument in sys.argv[1:]:
            print(list_names(Path(argument)))

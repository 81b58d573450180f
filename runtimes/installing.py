"""The exact commands that install a Python package on this machine, as this machine's Python wants it done."""

import importlib.util
import os
import sys
import sysconfig

VENV = "~/edgeprune-venv"


def command(*packages: str) -> str:
    """What to type to have `packages`: pip where it may install here, else an environment and how to name it."""
    names = " ".join(packages)
    if in_venv() or not (externally_managed() or importlib.util.find_spec("pip") is None):
        return "`{} -m pip install {}`".format(sys.executable, names)
    return "{} and `{}/bin/python -m pip install {}`, then {}".format(new_venv(), VENV, names, named(VENV))


def new_venv() -> str:
    """The command that makes an environment which sees the system's packages: a Jetson's TensorRT is one of them."""
    venv = "`{} -m venv --system-site-packages {}`".format(base_python(), VENV)
    if importlib.util.find_spec("ensurepip") is None:  # Debian and Ubuntu leave it out
        return "`sudo apt-get install python3-venv`, {}".format(venv)
    return venv


def named(venv: str) -> str:
    """How edgeprune is told to use the Python of an environment."""
    return "name it: --python {}/bin/python".format(venv)


def in_venv() -> bool:
    """Whether this is the Python of an environment."""
    return sys.prefix != sys.base_prefix


def externally_managed() -> bool:
    """Whether pip may not install here, because the system's packages own this Python (PEP 668)."""
    return os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED"))


def sees_system_packages() -> bool:
    """Whether the system's Python packages can be imported: in an environment only where it was made so."""
    if not in_venv():
        return True
    try:
        with open(os.path.join(sys.prefix, "pyvenv.cfg"), encoding="utf-8") as file:
            lines = [line.replace(" ", "").strip().lower() for line in file]
    except OSError:
        return False
    return "include-system-site-packages=true" in lines


def base_python() -> str:
    """The Python that this environment was made from, or this one."""
    return os.path.join(sys.base_prefix, "bin", "python3") if in_venv() else sys.executable

"""The user's own devices: a table each in `devices.toml`, which this file reads and never writes."""

import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from devices.ssh import FOLDER, PYTHON
from devices.ssh.address import interpreter_word, read_address
from runtimes.errors import UserError
from runtimes.tables import pick

PLACE_NAME = "EDGEPRUNE_DEVICES"  # environment: another file than the user's own
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # it becomes a folder's name
_KEYS = ("url", "python", "ssh_config", "folder")
_EXAMPLE = '[orin] and below it url = "ssh://jetson@10.0.0.5"'


class Known(NamedTuple):
    """One device of the user's."""

    name: str
    url: str  # ssh://[user@]host[:port]
    python: str = PYTHON  # the interpreter there
    ssh_config: Path | None = None  # instead of the user's own
    folder: str = FOLDER  # where bundles lie there


def devices_file() -> Path:
    """Where the devices stand: $EDGEPRUNE_DEVICES, or `edgeprune/devices.toml` among the user's settings."""
    named = os.environ.get(PLACE_NAME)
    if named:
        return _expanded(Path(named), PLACE_NAME)
    settings = os.environ.get("XDG_CONFIG_HOME")
    # Its specification has a relative path passed over.
    root = Path(settings) if settings and Path(settings).is_absolute() else Path.home() / ".config"
    return root / "edgeprune" / "devices.toml"


def known_devices() -> dict[str, Known]:
    """The user's devices by name, in the file's order; no file, no devices.

    Raises:
        UserError: a file that cannot be read, an unknown key, or a value that cannot be one.
    """
    path = devices_file()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if os.environ.get(PLACE_NAME):
            raise UserError(f"{path} is missing", f"{PLACE_NAME} names it: write it, or unset that") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}", f"it is a TOML file, for example {_EXAMPLE}") from error
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}", f"for example {_EXAMPLE}") from error
    return {name: _known(path, name, table) for name, table in tables.items()}


def known_device(name: str, others: Iterable[str]) -> Known:
    """The user's device of that name; an unknown one is a `UserError` with the nearest, also of the names `others`."""
    table = {**dict.fromkeys(others, Known("", "")), **known_devices()}
    try:
        return pick(table, name, "device")
    except UserError as error:
        more = f"or name an address, ssh://user@host, or write the device into {devices_file()}"
        raise UserError(error.message, f"{error.hint}; {more}") from None


def _known(path: Path, name: str, table: Any) -> Known:
    where = f"{path}, [{name}]"
    if not isinstance(table, dict):
        raise UserError(f"{path}: {name!r} stands outside of any table", f"a device is a table: {_EXAMPLE}")
    if not _NAME.fullmatch(name):
        raise UserError(f"{where}: not a name for a device", "letters, digits, dots, dashes and underscores")
    if name == "local":
        raise UserError(f"{where}: 'local' is this machine", "give the device another name")
    for key, value in table.items():
        if isinstance(value, dict):
            raise UserError(
                f"{where} holds another table, {key!r}", f'a name with dots stands in quotes: ["{name}.{key}"]'
            )
        pick(dict.fromkeys(_KEYS), key, f"key in {where}:")
        if not isinstance(value, str) or not value:
            raise UserError(f"{where}: {key} is {value!r}", "it has to be a text in quotes")
    if "url" not in table:
        raise UserError(f"{where}: url is missing", f"for example {_EXAMPLE}")
    values = {**table, "ssh_config": _beside(path, table.get("ssh_config"), where)}
    known = Known(name=name, **values)
    _check(where, known)
    return known


def _beside(path: Path, config: str | None, where: str) -> Path | None:
    """A relative path is one from the folder of `devices.toml`."""
    return None if config is None else path.parent / _expanded(Path(config), f"{where}: ssh_config")


def _expanded(path: Path, what: str) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # ~somebody
        raise UserError(f"{what}: {path} begins with a user whom nobody knows here", "give the whole path") from None


def _check(where: str, known: Known) -> None:
    try:
        read_address(known.url)
        interpreter_word(known.python)
    except UserError as error:
        raise UserError(f"{where}: {error.message}", error.hint) from error

"""Where a machine is, as `ssh://[user@]host[:port]`: anything in it that ssh or a shell could misread is refused."""

import re
import shlex
from typing import NamedTuple

from runtimes.errors import UserError

_URL = re.compile(r"ssh://(?:(?P<user>[^/]*)@)?(?P<host>\[[^\]/]*\]|[^/:@\[\]]*)(?::(?P<port>[^/:]*))?/?")
_USER = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*")
_HOST = re.compile(
    r"(?=.*[A-Za-z0-9])[A-Za-z0-9_.:][A-Za-z0-9_.:%-]*"
)  # a name, an alias of the user's ssh config, or an address
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_./+=:@,][A-Za-z0-9_./+=:@,-]*")
_FORM = (
    "give it as ssh://user@host:port; the user and the port may be left out, and host may be a name of your ssh config"
)


class Address(NamedTuple):
    """What is left to ssh's own config is None."""

    user: str | None
    host: str
    port: int | None

    @property
    def name(self) -> str:
        """As files and folders can have it."""
        user = f"{self.user}@" if self.user else ""
        port = f"-{self.port}" if self.port else ""
        return re.sub(r"[^A-Za-z0-9._@-]", "_", f"{user}{self.host}{port}").lstrip(".")

    def words(self) -> list[str]:
        """For ssh's command line, the host last and after a `--`."""
        port = ["-p", str(self.port)] if self.port else []
        user = ["-l", self.user] if self.user else []
        return [*port, *user, "--", self.host]

    def typed(self) -> list[str]:
        """As a person types it."""
        port = ["-p", str(self.port)] if self.port else []
        return [*port, f"{self.user}@{self.host}" if self.user else self.host]


def read_address(url: str) -> Address:
    """The address in a URL; a `UserError` for anything but the plain form, which does not repeat a password in it."""
    found = _URL.fullmatch(url)
    if found and found["user"] is not None and ":" in found["user"]:
        raise UserError(
            f"a password stands in the URL of the device {found['host']}",
            "leave it out and use a key: ssh-keygen, then ssh-copy-id",
        )
    if not found:
        raise UserError(f"{url!r} is not the address of a device", _FORM)
    user, host, port = found["user"], found["host"].strip("[]"), found["port"]
    if user is not None and not _USER.fullmatch(user):
        raise UserError(f"{url!r}: {user!r} is not the name of a user", _FORM)
    if not _HOST.fullmatch(host):
        raise UserError(f"{url!r}: {host!r} is not the name of a host", _FORM)
    if port is not None and not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise UserError(f"{url!r}: {port!r} is not a port", _FORM)
    return Address(user, host, int(port) if port else None)


def interpreter_word(path: str) -> str:
    """An interpreter's path as sh, bash, zsh, csh and fish all take it; `~/` stays for them to expand.

    What they would read in different ways is a `UserError`.
    """
    home, rest = ("~/", path[2:]) if path.startswith("~/") else ("", path)
    if rest and _PLAIN_WORD.fullmatch(rest):
        return home + rest
    if not rest or rest.startswith("-") or not rest.isprintable() or not {"'", "\\", "!"}.isdisjoint(rest):
        raise UserError(
            f"{path!r} cannot be the interpreter of a device", "give its path there, for example /usr/bin/python3"
        )
    return home + shlex.quote(rest)

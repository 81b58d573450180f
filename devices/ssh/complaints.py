"""What goes wrong on the way to a device, in the user's words: what ssh printed, and what the far side answered."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from devices.answers import printable
from runtimes.errors import UserError

_MIB = float(1 << 20)
_NO_PYTHON = re.compile(
    r"(?i)command not found|Unknown command|No such file or directory|: not found|Permission denied"
)


class LostError(UserError):
    """The connection ended before the far side had its last word; `started` if it had begun with its work."""

    def __init__(self, message: str, hint: str, *, started: bool) -> None:
        super().__init__(message, hint)
        self.started = started


class Way(NamedTuple):
    """The way to a device as ssh sees it, for advice that can be pasted."""

    device: str
    typed: str  # ssh and its words, as a person types them
    host: str  # as known_hosts has it
    port: int
    known_hosts: str


class _Known(NamedTuple):
    pattern: str
    message: str
    hint: str


_AT_CONNECT = (
    _Known(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Offending .* key in",
        "the host key is not the one that is known",
        "if the board was set up anew: `ssh-keygen -f {known_hosts} -R '{entry}'`, then `{typed}` once by hand;"
        " if not, somebody may stand in between",
    ),
    _Known(
        r"Host key verification failed|host key is known for",
        "its host key is not known here",
        "connect once by hand and compare the fingerprint: `{typed}`;"
        " or where the network is trusted: `ssh-keyscan -p {port} {host} >> {known_hosts}`",
    ),
    _Known(
        r"Could not resolve hostname|Name or service not known|nodename nor servname",
        "no machine of that name is known: {said}",
        "look at the url in devices.toml or on the command line; `ssh -G` shows how your ssh config reads a name",
    ),
    _Known(
        r"Too many authentication failures",
        "it refused the login after too many keys",
        "name the one that fits in your ssh config: IdentityFile, and IdentitiesOnly yes",
    ),
    _Known(
        r"Permission denied",
        "it refused the login: {said}",
        "no password is asked for here: put your key there (`{copy_id}`), and load one that has a passphrase"
        " into the agent (`ssh-add`)",
    ),
    _Known(
        r"Connection refused",
        "the connection was refused: {said}",
        "is it switched on, does its ssh server run, and on that port? try `{typed}`",
    ),
    _Known(
        r"timed out|No route to host|Network is unreachable|Host is down",
        "it does not answer: {said}",
        "is it switched on, and on the same network? try `{typed}`",
    ),
    _Known(
        r"[Bb]ad configuration option|terminating, \d+ bad|Can't open user config file|Bad owner or permissions",
        "ssh does not take its config: {said}",
        "put the file right, or give another with --ssh-config",
    ),
    _Known(
        r"Connection (closed|reset)|kex_exchange_identification|banner exchange|UNKNOWN port",
        "it closed the connection before the login: {said}",
        "does an ssh server listen on that port, and does a jump host in your ssh config let you through?"
        " try `{typed}`",
    ),
)


def at_connect(way: Way, said: str) -> UserError:
    """Why there is no connection, from what ssh wrote."""
    known = next((one for one in _AT_CONNECT if re.search(one.pattern, said)), None)
    message = known.message if known else "ssh does not connect: {said}"
    hint = known.hint if known else "try `{typed}`"
    values = {
        "said": last_line(said) or "it gave no reason",
        "typed": way.typed,
        "host": way.host,
        "port": way.port,
        "known_hosts": way.known_hosts,
        "entry": way.host if way.port == 22 else f"[{way.host}]:{way.port}",
        "copy_id": re.sub(r"^ssh\b", "ssh-copy-id", way.typed),
    }
    return UserError(f"{way.device}: {message.format(**values)}", hint.format(**values))


def no_client() -> UserError:
    """There is no ssh here."""
    return UserError(
        "no OpenSSH client is installed here", "install it: apt-get install openssh-client, or your system's own"
    )


def no_start(way: Way, python: str, code: int, said: str) -> UserError:
    """The interpreter there did not answer, although the login went well."""
    if code != 255 and (code in (126, 127) or _NO_PYTHON.search(said)):
        return UserError(
            f"{way.device}: there is no Python at {python}: {last_line(said) or 'not found'}",
            'name the one to use: --python PATH, or python = "PATH" in devices.toml',
        )
    if code != 255:
        no_python = f"{python} there does not answer as a Python does"
        return UserError(
            f"{way.device}: {no_python} (exit code {code}): {last_line(said) or 'it said nothing'}",
            f'name the Python to use: --python PATH, or python = "PATH" in devices.toml; if it is one, try'
            f" `{way.typed} {python} --version`: your login's start-up files must not end the shell",
        )
    return LostError(
        f"{way.device}: the connection was lost: {last_line(said) or 'ssh gave no reason'}",
        "see whether the device is on and the network holds, then give the same command again",
        started=False,
    )


def too_old(way: Way, python: str, version: str, oldest: str) -> UserError:
    """The interpreter is there and cannot run the far side."""
    return UserError(
        f"{way.device}: {python} there is Python {version}; {oldest} or later is needed",
        'name a newer one: --python PATH, or python = "PATH" in devices.toml',
    )


def no_answer(way: Way, python: str, seconds: float) -> UserError:
    """The login went well, and then nothing came."""
    return UserError(
        f"{way.device}: {python} there did not answer within {seconds:g} s of the login",
        f"is it a Python (--python PATH)? do your login's start-up files wait for input? try `{way.typed} true`",
    )


def lost(way: Way, said: str) -> LostError:
    """The connection broke off in the middle of the work."""
    return LostError(
        f"{way.device}: the connection was lost: {last_line(said) or 'ssh gave no reason'}",
        "what ran there is ended by the device itself; give the same command again: what has arrived is not sent again",
        started=True,
    )


def closed(way: Way) -> UserError:
    """Another thread of ours ended the connection."""
    return UserError(f"{way.device}: the connection was closed here", "give the same command again")


def too_much(way: Way, what: str, limit: int) -> UserError:
    """More than anything of ours ever sends."""
    return UserError(
        f"{way.device}: {what} is larger than {limit >> 20} MiB, which is more than edgeprune takes from a device",
        "a device that sends such a thing does not run a bundle of edgeprune; see what it runs",
    )


def nonsense(way: Way, what: str) -> UserError:
    """An answer that the far side of ours does not give."""
    return UserError(f"{way.device}: it answered what was not asked: {what}", f"see what `{way.typed}` reaches")


def refused(way: Way, answer: Mapping[str, Any], folder: str) -> UserError:
    """The far side's own refusal, its last word."""
    kind, path, why = (printable(str(answer.get(key, ""))) for key in ("error", "path", "why"))
    if kind == "room":
        needed, free = (megabytes(answer.get(key)) for key in ("needed", "free"))
        limit = "; look at the limits of that user, too (`quota`, `ulimit -f`)" if why else ""
        return UserError(
            f"{way.device}: no room in {path}: {f'{why}: ' if why else ''}{needed} needed, {free} free on the disk",
            f"free some space there (older bundles lie in {folder}), or set folder = in devices.toml{limit}",
        )
    if kind == "silent":
        return UserError(
            f"{way.device}: it heard nothing from here for {why}, and ended what ran there",
            "keep this machine awake and on the network while a device measures, then give the same command again",
        )
    if kind == "differs":
        return UserError(
            f"{way.device}: {path} did not arrive as it is here: its SHA-256 differs",
            "does something write to the file? give the same command again",
        )
    if kind == "missing":
        return UserError(f"{way.device}: {path} is not there: {why}", "measure again")
    if kind == "start":
        return UserError(f"{way.device}: {path} does not run there: {why}", "see --python, and python in devices.toml")
    if kind == "system":
        return UserError(
            f"{way.device}: {path or 'the system there'}: {why}",
            f"bundles go to {folder} there: set folder = in devices.toml to a place that can be written",
        )
    return UserError(f"{way.device}: our program there failed: {why or kind}", "report it, with this message")


def last_line(said: str) -> str:
    """The last line with anything on it, safe for a terminal and not endless."""
    lines = [line for line in map(str.strip, said.splitlines()) if line]
    return printable(lines[-1]) if lines else ""


def megabytes(value: object) -> str:
    """So many bytes as people read them."""
    return f"{value / _MIB:.1f} MiB" if isinstance(value, int) else "an unknown amount"

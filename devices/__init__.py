"""Reach a machine: carry a bundle there, have it measured, bring the measurements back."""

from pathlib import Path

from devices.protocol import Device
from runtimes.tables import resolve

DEVICES = {
    "local": "devices.local:Local",  # this machine
}
_SSH = "ssh://"


def open_device(name: str, *, ssh_config: Path | None = None, python: str | None = None) -> Device:
    """The device of that name; it is not connected to before it is used.

    Args:
        name: one of `DEVICES`, one of the user's `devices.toml`, or `ssh://[user@]host[:port]`.
        ssh_config, python: instead of what `devices.toml` has for it: ssh's config file, and the interpreter there.

    Raises:
        UserError: an unknown name, with the nearest; a URL that is none; a `devices.toml` that cannot be read.
    """
    if name in DEVICES:
        device: Device = resolve(DEVICES[name])()
        device.python = python or device.python
        return device
    from devices.known import Known, known_device
    from devices.ssh import Ssh

    if name.startswith(_SSH):
        known, own_name = Known(name, name), None
    else:
        known, own_name = known_device(name, DEVICES), name
    return Ssh(
        known.url,
        name=own_name,
        python=python or known.python,
        ssh_config=ssh_config or known.ssh_config,
        folder=known.folder,
    )

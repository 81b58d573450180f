"""Reach a machine: carry a bundle there, have it measured, bring the measurements back."""

from devices.protocol import Device
from runtimes.tables import pick, resolve

DEVICES = {
    "local": "devices.local:Local",  # this machine
}


def open_device(name: str) -> Device:
    """The device of that name; an unknown one is a `UserError` with the nearest name."""
    device: Device = resolve(pick(DEVICES, name, "device"))()
    return device

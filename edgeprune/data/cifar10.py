"""CIFAR-10: see `edgeprune.data.cifar`."""

from __future__ import annotations

from edgeprune.data.cifar import load_cifar
from edgeprune.data.records import Request, Source


def load(request: Request) -> Source:
    """Torchvision's official files, or `cifar10.npz`, in the folder."""
    return load_cifar("cifar10", request)

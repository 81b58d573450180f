"""CIFAR-100: see `edgeprune.data.cifar`."""

from __future__ import annotations

from edgeprune.data.cifar import load_cifar
from edgeprune.data.records import Request, Source


def load(request: Request) -> Source:
    """Torchvision's official files, or `cifar100.npz`, in the folder."""
    return load_cifar("cifar100", request)

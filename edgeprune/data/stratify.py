"""Holding out a share of labelled examples so that every class gives its part."""

from __future__ import annotations

import numpy as np

from edgeprune.data.records import Indices, Labels


def quotas(sizes: Labels, fraction: float) -> Labels:
    """How many of each class to hold out: in all `round(fraction * n)`, each class within one of `fraction * size`.

    The largest remainders are rounded up; among equal remainders the first class goes first.
    """
    exact = sizes * fraction
    counts: Labels = np.floor(exact).astype(np.int64)
    short = round(float(sizes.sum()) * fraction) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    return counts


def hold_out(labels: Labels, fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Split `range(len(labels))` into (kept, held out), both ascending; the same for one seed, forever.

    The legacy generator is used because numpy promises never to change its stream.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    counts = quotas(sizes, fraction)
    parts = [shuffled[labels[shuffled] == label][:count] for label, count in zip(classes, counts, strict=True)]
    held = np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), held), held

"""Named methods: each is a point in the space criterion x guide x allocation x retraining.

A method fills only what it prescribes; a recipe adds sparsity, pattern and budget, and what a recipe states wins
over the method it names.
"""

from collections.abc import Mapping
from typing import Any

from runtimes.tables import pick

Settings = Mapping[str, Any]

_UNDER_TEACHER: Settings = {"loss": "ca_kld", "weight": 0.5}
_LABELS_ONLY: Settings = {"loss": "ce", "weight": 0.0}

METHODS: Mapping[str, Settings] = {
    # Alim et al. 2025 (arXiv 2511.16653) read literally: EMA of |g| under CE + CA-KLD, one global threshold.
    "teacher_guided": {
        "summary": "the paper: EMA of |gradient| of CE + CA-KLD, one global threshold, retraining under the teacher",
        "prune": {"criterion": "ema_gradient", "guide": _UNDER_TEACHER, "allocation": "global", "floor": 0.0},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "teacher_guided_ce": {
        "summary": "the paper's mask, retrained on the labels alone",
        "prune": {"criterion": "ema_gradient", "guide": _UNDER_TEACHER, "allocation": "global", "floor": 0.0},
        "retrain": {"objective": _LABELS_ONLY},
    },
    # |w| * EMA|g| ranks like diagonal-Fisher Optimal Brain Damage (docs/design/0002); the floor prevents collapse.
    "teacher_guided_weighted": {
        "summary": "|weight| x EMA of |gradient| under CE + CA-KLD, with a floor per layer",
        "prune": {"criterion": "weighted_ema_gradient", "guide": _UNDER_TEACHER, "allocation": "global", "floor": 0.02},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "magnitude": {
        "summary": "|weight|, one global threshold; the baseline that everything has to beat",
        "prune": {
            "criterion": "magnitude",
            "guide": _UNDER_TEACHER,
            "allocation": "global",
            "floor": 0.0,
            "epochs": 0.0,
        },
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "random": {
        "summary": "a random mask with the same share of zeros in each layer; what any criterion has to beat",
        "prune": {"criterion": "random", "guide": _UNDER_TEACHER, "allocation": "uniform", "floor": 0.0, "epochs": 0.0},
        "retrain": {"objective": _UNDER_TEACHER},
    },
}

ALIASES = {"default": "teacher_guided_weighted"}


def method(name: str) -> Settings:
    """The settings of a named method; `default` is an alias. Unknown: `UserError` with the nearest name."""
    known = {**METHODS, **{alias: METHODS[real] for alias, real in ALIASES.items()}}
    return pick(known, name, "method")

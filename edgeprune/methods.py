"""Named methods: each is a point in the space criterion x guide x allocation x schedule x retraining.

A method fills only what it prescribes; a recipe adds sparsity, pattern and budget, and what a recipe states wins
over the method it names.
"""

from collections.abc import Mapping
from typing import Any

from runtimes.tables import pick

Settings = Mapping[str, Any]

_UNDER_TEACHER: Settings = {"loss": "ca_kld", "weight": 0.5}
_LABELS_ONLY: Settings = {"loss": "ce", "weight": 0.0}
# Self-distillation: the published strength of each term, as a share of the whole (a / (1 - a)).
_CS_KD: Settings = {"loss": "cs_kd", "weight": 0.5, "temperature": 4.0}  # lambda = 1
_PS_KD: Settings = {"loss": "ps_kd", "weight": 0.8}  # alpha_T = 0.8
_DLB: Settings = {"loss": "dlb", "weight": 0.5, "temperature": 3.0}  # alpha = 1

_ONE_SHOT: Settings = {"schedule": "one_shot", "allocation": "global", "floor": 0.0, "rewind": False}
_NO_SCORING: Settings = {**_ONE_SHOT, "guide": _UNDER_TEACHER, "epochs": 0.0}
_STANDING: Settings = {**_ONE_SHOT, "guide": _UNDER_TEACHER, "lr": 0.0, "beta": 0.999}  # beta near 1: a plain mean


def _simple(loss: Settings, name: str) -> Settings:
    """Early pruning that does not look at the loss it will be trained with: SNIP on the labels (EPSD's "Simple")."""
    return {
        "summary": f"SNIP on the labels, then training with {name}: what EPSD calls Simple",
        "prune": {**_STANDING, "criterion": "snip", "guide": _LABELS_ONLY},
        "retrain": {"objective": loss},
    }


def _epsd(loss: Settings, name: str, told: str = "") -> Settings:
    """Chen et al. 2024 (arXiv 2402.00084): ProsPr's score under the self-distillation loss; trained from the start.

    How many steps are taken before the score, and how large, was not at hand; they are `prune.epochs` and `prune.lr`.
    """
    return {
        "summary": f"EPSD: ProsPr's first-order score under {name}, rewound, then training with it{told}",
        "prune": {**_ONE_SHOT, "criterion": "prospr", "guide": loss, "beta": 0.0, "rewind": True},
        "retrain": {"objective": loss},
    }


def _standing(criterion: str, summary: str, **prune: Any) -> Settings:
    """A criterion from the literature, scored at the dense weights under the teacher, and retrained under it."""
    return {
        "summary": summary,
        "prune": {**_STANDING, "criterion": criterion, **prune},
        "retrain": {"objective": _UNDER_TEACHER},
    }


METHODS: Mapping[str, Settings] = {
    # Alim et al. 2025 (arXiv 2511.16653) read literally: EMA of |g| under CE + CA-KLD, one global threshold.
    "teacher_guided": {
        "summary": "the paper: EMA of |gradient| of CE + CA-KLD, one global threshold, retraining under the teacher",
        "prune": {**_ONE_SHOT, "criterion": "ema_gradient", "guide": _UNDER_TEACHER},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "teacher_guided_ce": {
        "summary": "the paper's mask, retrained on the labels alone",
        "prune": {**_ONE_SHOT, "criterion": "ema_gradient", "guide": _UNDER_TEACHER},
        "retrain": {"objective": _LABELS_ONLY},
    },
    "teacher_guided_shuffled": {
        "summary": "a control: as many weights in each layer as under the paper's mask, drawn by lot",
        "prune": {**_ONE_SHOT, "criterion": "ema_gradient", "guide": _UNDER_TEACHER, "pattern": "shuffled"},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    # |w| * EMA|g| ranks like diagonal-Fisher Optimal Brain Damage (docs/design/0002); the floor prevents collapse.
    "teacher_guided_weighted": {
        "summary": "|weight| x EMA of |gradient| under CE + CA-KLD, with a floor per layer",
        "prune": {**_ONE_SHOT, "criterion": "weighted_ema_gradient", "guide": _UNDER_TEACHER, "floor": 0.02},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "magnitude": {
        "summary": "|weight|, one global threshold; the baseline that everything has to beat",
        "prune": {**_NO_SCORING, "criterion": "magnitude"},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "random": {
        "summary": "a random mask with the same share of zeros in each layer; what any criterion has to beat",
        "prune": {**_NO_SCORING, "criterion": "random", "allocation": "uniform"},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "lamp": {
        "summary": "layer-adaptive magnitude: each weight against what is larger in its layer",
        "prune": {**_NO_SCORING, "criterion": "lamp"},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "erk": {
        "summary": "|weight| within layers whose densities follow their shapes (Erdos-Renyi kernel)",
        "prune": {**_NO_SCORING, "criterion": "magnitude", "allocation": "erk"},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "taylor": _standing("taylor", "mean of |gradient x weight| under CE + CA-KLD, at the dense weights"),
    "snip": _standing("snip", "|mean gradient x weight| under CE + CA-KLD, at the dense weights"),
    "grasp": _standing("grasp", "what keeps the gradient flowing under CE + CA-KLD: -w Hg, at the dense weights"),
    "fisher": _standing("fisher", "w^2 x Fisher diagonal under CE + CA-KLD, at the dense weights"),
    "staged_fisher": _standing(
        "fisher",
        "w^2 x Fisher diagonal in 8 stages with recomputed scores, a floor per layer",
        schedule="staged",
        rounds=8,
        floor=0.005,
    ),
    "obs": _standing(
        "obs", "block-Fisher Optimal Brain Surgeon in 8 stages, survivors updated", schedule="staged", rounds=8
    ),
    "synflow": {
        "summary": "synaptic flow, without data, in 100 stages",
        "prune": {**_NO_SCORING, "criterion": "synflow", "schedule": "staged", "rounds": 100},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "entropy_gradient": {
        "summary": "entropy of the units a layer feeds x EMA of |gradient| under CE + CA-KLD",
        "prune": {**_ONE_SHOT, "criterion": "entropy_gradient", "guide": _UNDER_TEACHER},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "gradual_magnitude": {
        "summary": "|weight|, the mask tightened by a cubic law while the student learns under the teacher",
        "prune": {**_ONE_SHOT, "criterion": "magnitude", "guide": _UNDER_TEACHER, "schedule": "gradual"},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    # Ours: LAMP shares the weights among the layers at every tightening, the teacher guides the learning meanwhile.
    "teacher_guided_gradual": {
        "summary": "ours: LAMP scores, the mask tightened by a cubic law while the student learns under the teacher",
        "prune": {**_ONE_SHOT, "criterion": "lamp", "guide": _UNDER_TEACHER, "schedule": "gradual"},
        "retrain": {"objective": _UNDER_TEACHER},
    },
    "gradual_ce": {
        "summary": "a control: our schedule and scores on the labels alone",
        "prune": {**_ONE_SHOT, "criterion": "lamp", "guide": _LABELS_ONLY, "schedule": "gradual"},
        "retrain": {"objective": _LABELS_ONLY},
    },
    "cs_kd_simple": _simple(_CS_KD, "CS-KD"),
    "cs_kd_epsd": _epsd(_CS_KD, "CS-KD"),
    "ps_kd_simple": _simple(_PS_KD, "PS-KD"),
    "ps_kd_epsd": _epsd(_PS_KD, "PS-KD", "; in its first epoch that loss is plain CE"),
    "dlb_simple": _simple(_DLB, "DLB"),
    "dlb_epsd": _epsd(_DLB, "DLB"),
    # Hossain et al. 2025 (arXiv 2212.12770): 15 % a round there; 12 rounds take 29 % each on the way to 98.5 %
    "colt": {
        "summary": "tickets that networks for parts of the classes agree on, rewound; many rounds of training",
        "prune": {
            **_NO_SCORING,
            "criterion": "magnitude",
            "schedule": "colt",
            "rounds": 12,
            "parts": 2,
            "rewind": True,
        },
        "retrain": {"objective": _LABELS_ONLY},
    },
    # Liao et al. 2023 (arXiv 2308.06619): each round takes half of what is left, if six of them end at 98.4 %
    "egp": {
        "summary": "entropy-guided: layers whose units are certain lose most; rounds of pruning and training",
        "prune": {
            **_ONE_SHOT,
            "criterion": "entropy",
            "guide": _LABELS_ONLY,
            "lr": 0.0,
            "allocation": "egp",
            "schedule": "iterative",
            "rounds": 6,
        },
        "retrain": {"objective": _LABELS_ONLY},
    },
    # Zimmer et al. 2023 (arXiv 2111.00843)
    "imp_slr": {
        "summary": "iterative magnitude pruning without rewinding, retrained each time on COLT's steps, compressed",
        "prune": {**_NO_SCORING, "criterion": "magnitude", "schedule": "iterative", "rounds": 4},
        "retrain": {"objective": _LABELS_ONLY, "lr_schedule": "slr"},
    },
}

ALIASES = {"default": "teacher_guided_gradual"}


def method(name: str) -> Settings:
    """The settings of a named method; `default` is an alias. Unknown: `UserError` with the nearest name."""
    known = {**METHODS, **{alias: METHODS[real] for alias, real in ALIASES.items()}}
    return pick(known, name, "method")

"""Everything that can be chosen by name, on one page.

A row is `name: "module:attribute"`, imported on use, so that this page costs nothing to read. Adding a row is how
edgeprune is extended: one file and one line here (`docs/adding-*.md`); the contract tests run over every row.
"""

from collections.abc import Mapping

from devices import DEVICES
from edgeprune.data import DATASETS
from edgeprune.methods import METHODS
from edgeprune.models import MODELS
from edgeprune.report import FORMATS
from export.targets import TARGETS
from runtimes import RUNTIMES
from runtimes.records import PROTOCOLS

# importance of each weight: (w, signals) -> scores
CRITERIA = {
    "ema_gradient": "edgeprune.prune.criteria.ema_gradient:ema_gradient",
    "entropy": "edgeprune.prune.criteria.entropy:entropy",
    "entropy_gradient": "edgeprune.prune.criteria.entropy_gradient:entropy_gradient",
    "fisher": "edgeprune.prune.criteria.fisher:fisher",
    "grasp": "edgeprune.prune.criteria.grasp:grasp",
    "lamp": "edgeprune.prune.criteria.lamp:lamp",
    "magnitude": "edgeprune.prune.criteria.magnitude:magnitude",
    "obs": "edgeprune.prune.criteria.obs:obs",
    "prospr": "edgeprune.prune.criteria.prospr:prospr",
    "random": "edgeprune.prune.criteria.random:random",
    "snip": "edgeprune.prune.criteria.snip:snip",
    "synflow": "edgeprune.prune.criteria.synflow:synflow",
    "taylor": "edgeprune.prune.criteria.taylor:taylor",
    "weighted_ema_gradient": "edgeprune.prune.criteria.weighted_ema_gradient:weighted_ema_gradient",
}

# how many weights each layer keeps: (scores of all layers, sparsity, floor) -> counts
ALLOCATIONS = {
    "egp": "edgeprune.prune.allocate:by_entropy",
    "erk": "edgeprune.prune.allocate:erdos_renyi_kernel",
    "global": "edgeprune.prune.allocate:by_global_ranking",
    "uniform": "edgeprune.prune.allocate:uniform",
}

# when weights are removed: (task) -> masks
SCHEDULES = {
    "colt": "edgeprune.prune.schedules.colt:colt",
    "gradual": "edgeprune.prune.schedules.gradual:gradual",
    "iterative": "edgeprune.prune.schedules.iterative:iterative",
    "one_shot": "edgeprune.prune.schedules.one_shot:one_shot",
    "staged": "edgeprune.prune.schedules.staged:staged",
}

# which weights of a layer are kept: a name, or N:M such as 2:4
PATTERNS = {
    "unstructured": "edgeprune.prune.patterns.unstructured:UNSTRUCTURED",
    "2:4": "edgeprune.prune.patterns.n_of_m:TWO_OF_FOUR",
    "1:4": "edgeprune.prune.patterns.n_of_m:ONE_OF_FOUR",
    "shuffled": "edgeprune.prune.patterns.shuffled:SHUFFLED",
}

# what a student learns from beside the labels: a teacher, other images, its own past
LOSSES = {
    "ca_kld": "edgeprune.distill.ca_kld:ca_kld",
    "ce": "edgeprune.distill.ce:ce",
    "cs_kd": "edgeprune.distill.cs_kd:CsKd",
    "dlb": "edgeprune.distill.dlb:Dlb",
    "kd": "edgeprune.distill.kd:kd",
    "ldrld": "edgeprune.distill.ldrld:ldrld",
    "ps_kd": "edgeprune.distill.ps_kd:PsKd",
}

# the weight of that loss over a training, and the temperature
WEIGHTS = {
    "balanced": "edgeprune.distill.weight:balanced",
    "constant": "edgeprune.distill.weight:constant",
    "decayed": "edgeprune.distill.weight:decayed",
}
TEMPERATURES = {
    "annealed": "edgeprune.distill.temperature:Annealed",
    "constant": "edgeprune.distill.temperature:Constant",
    "learned": "edgeprune.distill.temperature:Learned",
}

# learning rate over a training
LR_SCHEDULES = {
    "allr": "edgeprune.learning_rate:ALLR",
    "constant": "edgeprune.learning_rate:CONSTANT",
    "cosine": "edgeprune.learning_rate:COSINE",
    "linear": "edgeprune.learning_rate:LINEAR",
    "llr": "edgeprune.learning_rate:LLR",
    "multistep": "edgeprune.learning_rate:MULTISTEP",
    "slr": "edgeprune.learning_rate:SLR",
}

# what is mended in the pruned network before it is retrained: (model, dense, masks, batches) -> None
REPAIRS = {
    "batch_norm": "edgeprune.prune.repair:batch_norm",
    "least_squares": "edgeprune.prune.least_squares:least_squares",
    "none": "edgeprune.prune.repair:nothing",
}

TABLES: Mapping[str, Mapping[str, object]] = {
    "allocations": ALLOCATIONS,
    "criteria": CRITERIA,
    "datasets": DATASETS,
    "devices": DEVICES,
    "formats": FORMATS,
    "losses": LOSSES,
    "lr-schedules": LR_SCHEDULES,
    "methods": METHODS,
    "models": MODELS,
    "patterns": PATTERNS,
    "protocols": PROTOCOLS,
    "repairs": REPAIRS,
    "runtimes": RUNTIMES,
    "schedules": SCHEDULES,
    "targets": TARGETS,
    "temperatures": TEMPERATURES,
    "weights": WEIGHTS,
}

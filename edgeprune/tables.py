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
    "magnitude": "edgeprune.prune.criteria.magnitude:magnitude",
    "random": "edgeprune.prune.criteria.random:random",
    "taylor": "edgeprune.prune.criteria.taylor:taylor",
    "weighted_ema_gradient": "edgeprune.prune.criteria.weighted_ema_gradient:weighted_ema_gradient",
}

# how many weights each layer keeps: (scores of all layers, sparsity, floor) -> counts
ALLOCATIONS = {
    "global": "edgeprune.prune.allocate:by_global_ranking",
    "uniform": "edgeprune.prune.allocate:uniform",
}

# which weights of a layer are kept: a name, or N:M such as 2:4
PATTERNS = {
    "unstructured": "edgeprune.prune.patterns.unstructured:UNSTRUCTURED",
    "2:4": "edgeprune.prune.patterns.n_of_m:TWO_OF_FOUR",
    "1:4": "edgeprune.prune.patterns.n_of_m:ONE_OF_FOUR",
}

# the distance to the teacher, and the labels alone: (student, teacher, labels, objective) -> loss per example
LOSSES = {
    "ca_kld": "edgeprune.distill.ca_kld:ca_kld",
    "ce": "edgeprune.distill.ce:ce",
    "kd": "edgeprune.distill.kd:kd",
}

# learning rate over a training: (progress from 0 to 1) -> factor
LR_SCHEDULES = {
    "constant": "edgeprune.learning_rate:constant",
    "cosine": "edgeprune.learning_rate:cosine",
    "linear": "edgeprune.learning_rate:linear",
    "multistep": "edgeprune.learning_rate:multistep",
}

# what is mended in the pruned network before it is retrained: (model, batches) -> None
REPAIRS = {
    "batch_norm": "edgeprune.prune.repair:reestimate_batch_norm",
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
    "targets": TARGETS,
}

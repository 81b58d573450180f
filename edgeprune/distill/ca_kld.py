"""Context-aware KL divergence on standardised logits (Alim et al. 2025, arXiv 2511.16653).

The paper's abstract names the loss and its reviews give the standardisation; the formula itself was not at hand when
this was written. The default is the form published under this name elsewhere: the blend of forward and reverse KL by
the teacher's confidence (Du et al. 2024, BitDistiller, arXiv 2402.10631, equation 6). The objective's switches
give the other candidates: `gamma = 0` is the plain KL of Sun et al. 2024 (arXiv 2403.01427), `gamma = "sample"` lets
each image blend by its own confidence, and `gamma = "weight"` blends nothing but weighs the plain KL of each image by
the teacher's confidence in it. Confidence is the largest probability (raw or softened), or 1 - entropy / log C.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from edgeprune.distill.divergence import kl, standardise
from edgeprune.recipe import Objective


def ca_kld(student: Tensor, teacher: Tensor, labels: Tensor, objective: Objective) -> Tensor:
    """T^2 * [gamma * KL(q || p) + (1 - gamma) * KL(p || q)]: logits (N, C) -> (N,).

    p = softmax(z(teacher) / T), q = softmax(z(student) / T), z the standardisation, gamma the teacher's confidence c.
    With `gamma = "weight"`, T^2 * c * KL(p || q).
    """
    T = objective.temperature
    scale = T * T if objective.square_temperature else 1.0
    log_p = F.log_softmax(standardise(teacher, objective.standardise) / T, dim=1)
    log_q = F.log_softmax(standardise(student, objective.standardise) / T, dim=1)
    if objective.gamma == "weight":
        return scale * confidence(teacher, log_p, objective) * kl(log_p, log_q)
    gamma = _share(teacher, log_p, objective)
    return scale * (gamma * kl(log_q, log_p) + (1 - gamma) * kl(log_p, log_q))


def confidence(teacher: Tensor, log_p: Tensor, objective: Objective) -> Tensor:
    """How sure the teacher is of each image, (N,), in 0 .. 1.

    raw, softened: max_c p(c | x), of the plain or of the standardised and tempered softmax. entropy: 1 - H / log C of
    the plain one, which is 0 for a teacher who has no idea.
    """
    if objective.confidence == "softened":
        return log_p.exp().amax(dim=1)
    log_raw = F.log_softmax(teacher, dim=1)
    if objective.confidence == "raw":
        return log_raw.exp().amax(dim=1)
    return 1.0 + (log_raw.exp() * log_raw).sum(dim=1) / math.log(teacher.shape[1])


def _share(teacher: Tensor, log_p: Tensor, objective: Objective) -> Tensor | float:
    """gamma: a fixed number, or the confidence in each image (N,) or averaged over the batch (scalar)."""
    if not isinstance(objective.gamma, str):
        return objective.gamma
    certain = confidence(teacher, log_p, objective)
    return certain if objective.gamma == "sample" else certain.mean()

"""Local dense relational logit distillation with adaptive decay weights (Xu et al. 2025, LDRLD, arXiv 2507.15911).

Written after the abstract and what the authors' public implementation computes; the paper's equations were not at hand.
From the implementation: the classes are ranked by the student's logits, not the teacher's; the k leading ones are taken
apart into all of their pairs and put together again as one group; the constants below. There is one set of proportions
of the three terms in it, given for one pair of networks (ResNet-32x4 and ResNet-8x4 on CIFAR-100); others may need
others. Inferred: that all terms share the objective's temperature, and k = C where there are fewer classes than k.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from edgeprune.distill.divergence import kl
from edgeprune.recipe import Objective

LEADING = 7  # k, classes that are looked at in pairs
DECAY = 0.05  # of a pair's weight with the sum of its ranks
LOCAL, REMAINING = 10.5, 7.0  # proportions; an objective.weight of 0.5 gives cross entropy its share of 1 beside them


def ldrld(student: Tensor, teacher: Tensor, labels: Tensor, objective: Objective) -> Tensor:
    """T^2 * [10.5 * (sum_ij w_ij KL_ij + KL_top) / (pairs + 1) + 7 * KL_rest]: logits (N, C) -> (N,).

    KL_S = KL(softmax(teacher_S / T) || softmax(student_S / T)) within a set S of classes: the pair of ranks i < j among
    the k leading classes, all k of them, or the rest, whose knowledge is kept beside.
    """
    T = objective.temperature
    scale = T * T if objective.square_temperature else 1.0
    k = min(LEADING, student.shape[1])
    order = student.detach().argsort(dim=1, descending=True)
    ranked_p, ranked_q = teacher.gather(1, order) / T, student.gather(1, order) / T
    pairs = torch.combinations(torch.arange(k, device=student.device)).T  # (2, pairs)
    weights = adaptive_decay_weight((pairs + 1).to(student.dtype))
    in_pairs = (within(ranked_p[:, pairs], ranked_q[:, pairs]) * weights).sum(dim=1)  # no matmul: autocast would round
    local = (in_pairs + within(ranked_p[:, :k], ranked_q[:, :k])) / (pairs.shape[1] + 1)
    return scale * (LOCAL * local + REMAINING * within(ranked_p[:, k:], ranked_q[:, k:]))


def within(teacher: Tensor, student: Tensor) -> Tensor:
    """KL of the softmax over dimension 1 of tempered logits: (N, S, ...) -> (N, ...); 0 for an empty set."""
    return kl(F.log_softmax(teacher, dim=1), F.log_softmax(student, dim=1))


def adaptive_decay_weight(ranks: Tensor) -> Tensor:
    """2 / (1.5 + |i - j|) * exp(-0.05 (i + j)) for pairs of ranks (2, P), floats of which the first is 1: (P,).

    The first factor falls with the difference of the ranks (inverse rank weighting), the second with their sum
    (exponential rank decay).
    """
    i, j = ranks[0], ranks[1]
    return 2.0 / (1.5 + (i - j).abs()) * torch.exp(-DECAY * (i + j))

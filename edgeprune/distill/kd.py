"""Knowledge distillation (Hinton et al. 2015, arXiv 1503.02531, section 2)."""

import torch.nn.functional as F
from torch import Tensor

from edgeprune.distill.divergence import kl
from edgeprune.recipe import Objective


def kd(student: Tensor, teacher: Tensor, labels: Tensor, objective: Objective) -> Tensor:
    """T^2 * KL(softmax(teacher / T) || softmax(student / T)): logits (N, C) -> (N,).

    Summed over the classes: an average over them would make distillation C times too weak.
    """
    T = objective.temperature
    scale = T * T if objective.square_temperature else 1.0
    return scale * kl(F.log_softmax(teacher / T, dim=1), F.log_softmax(student / T, dim=1))

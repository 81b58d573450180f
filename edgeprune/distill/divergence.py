"""What the distillation losses share: the standardised logit and the Kullback-Leibler divergence."""

from typing import Literal

from torch import Tensor

EPSILON = 1e-7  # keeps a constant row of logits finite (Sun et al. 2024, reference implementation)


def standardise(z: Tensor, deviation: Literal["population", "unbiased", "none"]) -> Tensor:
    """(z - mean) / (deviation + epsilon) over the classes of each example: (N, C) -> (N, C).

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation", equation 9. The gradient flows through the mean
    and the deviation. With the population's deviation no entry exceeds sqrt(C - 1).
    """
    if deviation == "none":
        return z
    centred = z - z.mean(dim=1, keepdim=True)
    variance = centred.square().sum(dim=1, keepdim=True) / (z.shape[1] - (deviation == "unbiased"))
    # A constant row has deviation 0, where sqrt has no finite gradient: it stays 0 instead.
    positive = variance > 0
    sigma = variance.where(positive, variance.new_ones(())).sqrt() * positive
    return centred / (sigma + EPSILON)


def kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) = sum_c p_c (log p_c - log q_c), from log-probabilities (N, C) -> (N,)."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=1)

"""How large a standardised logit can be, and how sure a teacher of such logits."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeprune.distill.divergence import standardise

ROWS = arrays(np.float64, st.tuples(st.just(1), st.integers(2, 60)), elements=st.floats(-1e3, 1e3, width=32))


@given(row=ROWS)
@settings(max_examples=50, deadline=None)
def test_no_standardised_logit_exceeds_the_root_of_c_minus_1(row: np.ndarray) -> None:
    z = standardise(torch.from_numpy(row), "population")
    assert z.abs().max() <= math.sqrt(row.shape[1] - 1) * (1 + 1e-9)


@given(row=ROWS, T=st.floats(1, 10))
@settings(max_examples=50, deadline=None)
def test_the_teacher_is_never_surer_than_the_bound(row: np.ndarray, T: float) -> None:
    C = row.shape[1]
    bound = 1 / (1 + (C - 1) * math.exp(-C / (T * math.sqrt(C - 1))))
    sure = (standardise(torch.from_numpy(row), "population") / T).softmax(dim=1).max()
    assert sure <= bound * (1 + 1e-9)


@pytest.mark.parametrize(("C", "T", "percent"), [(10, 3, 25.24), (100, 3, 22.36), (200, 5, 7.89), (10, 5, 17.79)])
def test_a_one_hot_teacher_reaches_the_bound(C: int, T: float, percent: float) -> None:
    row = torch.zeros(1, C, dtype=torch.float64)
    row[0, 0] = 7.0
    sure = float((standardise(row, "population") / T).softmax(dim=1).max())
    assert sure == pytest.approx(1 / (1 + (C - 1) * math.exp(-C / (T * math.sqrt(C - 1)))), rel=1e-6)
    assert 100 * sure == pytest.approx(percent, abs=0.01)

"""scikit-learn's digits: 1,797 images of 8 x 8 pixels with values 0 to 16, shipped inside scikit-learn.

E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import numpy as np

from edgeprune.data.records import ArraySplit, Augment, Preprocess, Request, Source
from edgeprune.data.stratify import hold_out

TEST_SHARE = 0.2
TEST_SEED = 0  # part of the data set's definition: another `split_seed` moves the validation split only


def load(request: Request) -> Source:
    """All digits; a stratified fifth, always the same, is the test split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = digits.images.astype(np.uint8)[..., None]
    everything = ArraySplit(images, digits.target.astype(np.int64))
    train, test = hold_out(everything.labels, TEST_SHARE, TEST_SEED)
    return Source(
        classes=tuple(str(name) for name in digits.target_names),
        train=everything.take(train),
        test=everything.take(test),
        preprocess=Preprocess(scale=1 / 16, mean=(0.305,), std=(0.376,)),
        augment=Augment(crop_padding=1),
    )

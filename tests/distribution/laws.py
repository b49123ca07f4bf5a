"""Statistics that compare samples of Brownian increments with the law they must have.

Every test has a fixed seed, so it always passes or always fails. The false-alarm rate is the fraction of seeds for
which a correct sampler would fail. Each comparison is a statistic that is standard normal if the sampler is correct. A
sample is rejected if the largest of them exceeds `LIMIT`: 6.5 standard deviations, which has probability 8e-11 for each
of the few thousand comparisons of this folder, so less than 1e-6 for all together. Kolmogorov–Smirnov tests use the
same rate.
"""

import itertools

import numpy as np
from scipy import stats

LIMIT = 6.5
RATE = 2 * stats.norm.sf(LIMIT)
DEVIATION = np.sqrt([1, 1 / 12, 1 / 720])


def rows(increment) -> np.ndarray:
    """The fields W, H, K that a batch of scalar increments has, of shape (kinds, samples)."""
    return np.stack([np.asarray(getattr(increment, name)) for name in ("W", "H", "K") if hasattr(increment, name)])


def standardised(increment, length: float) -> np.ndarray:
    """`rows` of increments over an interval of this length, scaled to variance one."""
    values = rows(increment)
    return values / (np.sqrt(abs(length)) * DEVIATION[: len(values), None])


def moment_scores(samples: np.ndarray) -> np.ndarray:
    """Means, variances and covariances of supposed independent standard normals, in standard errors."""
    count = samples.shape[1]
    means = samples.sum(axis=1) / np.sqrt(count)
    variances = ((samples**2).sum(axis=1) - count) / np.sqrt(2 * count)
    pairs = itertools.combinations(samples, 2)
    covariances = [(x * y).sum() / np.sqrt(count) for x, y in pairs]
    return np.concatenate([means, variances, covariances])


def worst_score(samples: np.ndarray) -> float:
    """The largest absolute score; a sampler is rejected above `LIMIT`."""
    return float(np.abs(moment_scores(samples)).max())


def assert_standard_normal(samples: np.ndarray) -> None:
    """Assert that each row of `samples` is standard normal and that no two are correlated."""
    scores = moment_scores(samples)
    assert np.abs(scores).max() < LIMIT, scores
    for row in samples:
        assert stats.kstest(row, "norm").pvalue > RATE

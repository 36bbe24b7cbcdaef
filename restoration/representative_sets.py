"""A few samples out of many, chosen by where they lie in a feature space: three rules, on rows of numbers."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist

#: (features [M, d], number to keep, generator) -> rows to keep, each once.
Rule = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]

NEIGHBOURS = 5  # beside the sample itself, as in the code of 2310.16047


def choose(
    features: np.ndarray, keep: int, *, rule: str, dimensions: int | None, generator: np.random.Generator
) -> np.ndarray:
    """The rows to keep, ascending, each once.

    Args:
        features: [M, d]; of d = 0, where no pixel is missing, all rows are alike.
        keep: how many, 1 .. M.
        rule: a name of :data:`RULES`.
        dimensions: how many principal components of these rows are looked at; None: the features themselves.
        generator: draws what a rule draws.

    Raises:
        ValueError: unknown rules, more rows to keep than there are, features that are not finite.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got '{rule}'")
    if not 1 <= keep <= len(features):
        raise ValueError(f"keep must lie in 1 .. {len(features)}, the number of samples, got {keep}")
    if not np.isfinite(features).all():
        raise ValueError("features of samples must be finite: the method that draws them has diverged")
    if not features.shape[1]:
        features = np.zeros((len(features), 1))
    if dimensions is not None:
        features = principal_components(features, dimensions)
    return np.sort(RULES[rule](features, keep, generator))


def principal_components(features: np.ndarray, dimensions: int) -> np.ndarray:
    """The coordinates [M, min(dimensions, M, d)] of rows along the directions in which they vary most."""
    centred = features - features.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    return u[:, :dimensions] * s[:dimensions]


def nearest_to_centres(features: np.ndarray, keep: int, generator: np.random.Generator) -> np.ndarray:
    """K-means of `keep` clusters (k-means++, 10 starts, 300 iterations); of each the row nearest to its centre."""
    from sklearn.cluster import KMeans  # a second to import, for one rule
    from sklearn.exceptions import ConvergenceWarning

    distinct = len(np.unique(features, axis=0))
    seed = int(generator.integers(2**31))
    # The library's stubs know n_init as a word alone.
    model = KMeans(min(keep, distinct), n_init=10, max_iter=300, random_state=seed)  # pyright: ignore[reportArgumentType]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of rows that are equal but for rounding
        found = model.fit(features)
    rows = []
    for cluster, centre in enumerate(found.cluster_centers_):
        members = np.flatnonzero(found.labels_ == cluster)
        if len(members):  # none in a cluster whose centre is another's but for rounding
            rows.append(members[np.linalg.norm(features[members] - centre, axis=1).argmin()])
    rest = np.setdiff1d(np.arange(len(features)), rows)  # of samples that are equal some are kept as well
    return np.array([*rows, *rest[: keep - len(rows)]], dtype=np.int64)


def uniformised(features: np.ndarray, keep: int, generator: np.random.Generator) -> np.ndarray:
    """Drawn without replacement with weights r^d, r = the distance to the fifth nearest other row: the inverse of a
    density estimate, so that what is kept is spread evenly over where there are samples.
    """
    M, d = features.shape
    distances = np.sort(cdist(features, features), axis=1)[:, min(NEIGHBOURS, M - 1)]
    # The power of 25 dimensions leaves the range of numbers, and relative weights are all that counts.
    with np.errstate(divide="ignore"):
        logarithm = d * np.log(distances)
    # The keys of Efraimidis and Spirakis 2006: the largest of log w + Gumbel noise are such a draw, also for w = 0.
    noise = generator.gumbel(size=M)
    return np.lexsort((noise, logarithm + noise))[::-1][:keep].copy()


def farthest_points(features: np.ndarray, keep: int, generator: np.random.Generator) -> np.ndarray:
    """A row drawn evenly, then again and again the row whose nearest chosen one is farthest away."""
    rows = [int(generator.integers(len(features)))]
    gap = np.full(len(features), np.inf)
    while len(rows) < keep:
        gap = np.minimum(gap, np.linalg.norm(features - features[rows[-1]], axis=1))
        gap[rows] = -1  # of samples that are equal each is kept once
        rows.append(int(gap.argmax()))
    return np.array(rows)


RULES: dict[str, Rule] = {"kmeans": nearest_to_centres, "uniform": uniformised, "farthest": farthest_points}

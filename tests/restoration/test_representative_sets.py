"""Few samples out of many: what each rule keeps of rows whose answer is known."""

import numpy as np
import pytest

from restoration.representative_sets import RULES, choose, farthest_points, principal_components, uniformised


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


#: 90 rows around (0, 0), 6 around (10, 0), 4 around (0, 10).
CLUSTERS = np.concatenate(
    [
        generator(1).normal(size=(n, 2)) * 0.3 + centre
        for n, centre in ((90, (0.0, 0.0)), (6, (10.0, 0.0)), (4, (0.0, 10.0)))
    ]
)


def kept(rule: str, seed: int = 0, keep: int = 3) -> list[int]:
    found = choose(CLUSTERS, keep, rule=rule, dimensions=None, generator=generator(seed))
    return found.tolist()


@pytest.mark.parametrize("rule", ["kmeans", "farthest"])
@pytest.mark.parametrize("seed", range(3))
def test_each_of_three_clusters_is_shown(rule, seed):
    found = kept(rule, seed)
    assert [sum(k < 90 for k in found), sum(90 <= k < 96 for k in found), sum(k >= 96 for k in found)] == [1, 1, 1]


def test_kmeans_keeps_the_row_in_the_middle():
    rows = np.array([[-1.0], [0.1], [1.0], [9.0], [10.0], [11.2]])
    assert choose(rows, 2, rule="kmeans", dimensions=None, generator=generator()).tolist() == [1, 4]


def test_farthest_points_by_hand():
    """From 0: the farthest of 0, 1, 5, 6, 20 is 20, then 6."""
    rows = np.array([[0.0], [1.0], [5.0], [6.0], [20.0]])
    seed = next(s for s in range(20) if generator(s).integers(5) == 0)
    assert farthest_points(rows, 3, generator(seed)).tolist() == [0, 4, 3]


def test_uniformisation_draws_by_the_inverse_of_the_density():
    """On a line, 60 rows at distance 1 and 60 at distance 3: drawn one in four to three in four."""
    rows = np.concatenate([np.arange(60.0), 1000 + 3 * np.arange(60.0)])[:, None]
    first = [int(uniformised(rows, 1, generator(s))[0]) for s in range(2000)]
    assert np.mean([k >= 60 for k in first]) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("rule", RULES)
def test_every_row_once_also_of_equal_ones(rule):
    """Also where all distances are 0, and where 25 dimensions would leave the range of numbers."""
    equal = choose(np.zeros((8, 3)), 5, rule=rule, dimensions=2, generator=generator())
    assert len(set(equal.tolist())) == 5
    high = generator(2).normal(size=(40, 300)) * 1e30
    found = choose(high, 40, rule=rule, dimensions=25, generator=generator())
    assert found.tolist() == list(range(40))
    # no pixel is missing, so there is nothing to compare
    assert len(set(choose(np.zeros((8, 0)), 5, rule=rule, dimensions=25, generator=generator()).tolist())) == 5


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dimensions", [None, 25])
def test_rows_that_are_equal_but_for_rounding(rule, dimensions):
    """Samples that a measurement leaves no doubt about: two places, or one, with the last digits of a float."""
    rounding = generator(5).normal(size=(12, 40))
    places = np.repeat(generator(6).normal(size=(2, 40)), 6, 0)
    for rows in (places + 1e-15 * rounding, 1 + 1e-16 * rounding, 1e-300 * rounding, 1e8 + 1e-8 * rounding):
        for keep in (1, 2, 5, 12):
            found = choose(rows, keep, rule=rule, dimensions=dimensions, generator=generator())
            assert len(set(found.tolist())) == keep == len(found)
            if rule != "uniform" and keep == 2 and np.abs(rows[0] - rows[-1]).max() > 0.1:
                assert found[0] < 6 <= found[1]


def test_principal_components_keep_distances():
    rows = generator(3).normal(size=(20, 4)) @ generator(4).normal(size=(4, 50))
    found = principal_components(rows, 25)
    assert found.shape == (20, 20)
    for a in (0, 7):
        assert np.linalg.norm(found[a] - found[3]) == pytest.approx(np.linalg.norm(rows[a] - rows[3]))
    assert principal_components(rows, 1).shape == (20, 1)


def test_what_it_refuses():
    with pytest.raises(ValueError, match="rule must be one of"):
        choose(CLUSTERS, 2, rule="middle", dimensions=None, generator=generator())
    with pytest.raises(ValueError, match=r"keep must lie in 1 \.\. 100"):
        choose(CLUSTERS, 101, rule="kmeans", dimensions=None, generator=generator())
    with pytest.raises(ValueError, match="must be finite"):
        choose(np.full((4, 2), np.nan), 2, rule="kmeans", dimensions=2, generator=generator())

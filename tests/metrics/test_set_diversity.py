import math

import pytest
import torch

from metrics.set_diversity import set_diversity


def _pixels(count, shape=(3, 4, 5), seed=0):
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def _root_mean_square_of_pairs(values):
    return torch.pdist(values.double().flatten(1)).square().mean().sqrt().item()


@pytest.mark.parametrize("count", [4, 7, 300])
def test_moments_are_the_loop_over_pairs(count):
    """Including far-off features, whose sums of squares alone would lose the differences."""
    pixels = _pixels(count)
    features = 1e6 + torch.randn(count, 6, generator=torch.Generator().manual_seed(1)) * 8
    found = set_diversity(pixels, features)
    assert found.pixel_rmse.value == pytest.approx(_root_mean_square_of_pairs(pixels) / math.sqrt(60), rel=1e-12)
    assert found.feature_distance.value == pytest.approx(_root_mean_square_of_pairs(features), rel=1e-9)


def test_intervals_leave_out_one_block_after_the_other():
    pixels, features = _pixels(40), torch.randn(40, 3, generator=torch.Generator().manual_seed(2))
    found = set_diversity(pixels, features, blocks=4)
    for k, (pixel_rmse, distance) in enumerate(
        zip(found.pixel_rmse.left_out, found.feature_distance.left_out, strict=True)
    ):
        kept = torch.tensor([i for i in range(40) if i // 10 != k])
        part = set_diversity(pixels[kept], features[kept], blocks=3)
        assert pixel_rmse == pytest.approx(part.pixel_rmse.value) and distance == pytest.approx(
            part.feature_distance.value
        )
        assert found.feature_dimensions.left_out[k] == pytest.approx(part.feature_dimensions.value)
    assert found.pixel_rmse.low < found.pixel_rmse.value < found.pixel_rmse.high


def test_known_numbers_of_a_gaussian():
    """Variances v: distance sqrt(2 sum v), dimensions (sum v)^2 / sum v^2; a rotation changes neither."""
    variances = torch.tensor([4.0, 4.0, 1.0, 0.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    features = torch.randn(20_000, 4, generator=generator, dtype=torch.float64) * variances.sqrt() @ rotation
    found = set_diversity(torch.zeros(20_000, 1, 1, 1, dtype=torch.uint8), features)
    assert found.feature_distance.value == pytest.approx(math.sqrt(18), rel=0.01)
    assert found.feature_dimensions.value == pytest.approx(81 / 33, rel=0.02)
    assert found.pixel_rmse.value == 0


def test_collapse_is_seen():
    """Images of one colour each vary in as many directions as there are channels; equal images in none."""
    generator = torch.Generator().manual_seed(4)
    colours = torch.randint(0, 256, (4000, 3, 1, 1), generator=generator, dtype=torch.uint8)
    flat = colours.expand(-1, 3, 4, 4)
    noisy = torch.randint(0, 256, flat.shape, generator=generator, dtype=torch.uint8)
    assert set_diversity(flat, flat.flatten(1).float()).feature_dimensions.value == pytest.approx(3, rel=0.01)
    assert set_diversity(noisy, noisy.flatten(1).float()).feature_dimensions.value > 45
    same = set_diversity(torch.full((8, 1, 2, 2), 9, dtype=torch.uint8), torch.ones(8, 2))
    assert same.pixel_rmse.value == same.feature_distance.value == 0 and math.isnan(same.feature_dimensions.value)


def test_black_and_white_halves_by_hand():
    """Of the pairs of n black and n white images, n / (2 n - 1) differ, by 255."""
    pixels = torch.cat([torch.zeros(5, 1, 2, 2), torch.full((5, 1, 2, 2), 255)]).to(torch.uint8)
    assert set_diversity(pixels, torch.zeros(10, 1)).pixel_rmse.value == pytest.approx(255 * math.sqrt(5 / 9))


def test_refusals():
    with pytest.raises(TypeError, match="uint8"):
        set_diversity(torch.zeros(8, 1, 2, 2), torch.zeros(8, 2))
    with pytest.raises(ValueError, match="same N"):
        set_diversity(_pixels(8), torch.zeros(7, 2))
    with pytest.raises(ValueError, match="at least 4"):
        set_diversity(_pixels(3), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="finite"):
        set_diversity(_pixels(8), torch.full((8, 2), float("nan")))

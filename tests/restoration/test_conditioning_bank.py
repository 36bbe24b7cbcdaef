"""ConditioningImages that are computed once: goes on after an interruption, refuses other options, the noise of a
diffused bank belongs to the image.
"""

import json

import pytest
import torch
from safetensors.torch import save_file

from common.build import build
from common.errors import UserError
from common.image_range import to_float
from restoration.conditioning_bank import ConditioningBank

PIXELS = torch.randint(256, (7, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
INDEX = torch.tensor([30, 31, 40, 41, 50, 51, 60])
TV = {"class_path": "restoration.total_variation.TotalVariation", "init_args": {"iterations": 3}}


def read(rows):
    return PIXELS[rows], INDEX[rows]


def bank(folder, **options) -> ConditioningBank:
    return ConditioningBank(
        **{
            "path": str(folder / "conditioning_images.safetensors"),
            "method": "restoration.degraded.Degraded",
            "noise": {"sigma": 0.3},
            **options,
        }
    )


def test_the_guides_are_the_methods_answers_by_index(tmp_path):
    made = bank(tmp_path)
    made.compute(read, 7)
    found = bank(tmp_path).conditioning_images(torch.tensor([50, 30]))
    y = made.measurement(to_float(PIXELS[[4, 0]]), [50, 30]).y
    torch.testing.assert_close(found.image, y.clamp(-1, 1), atol=1e-3, rtol=0)  # float16
    assert (
        found.time is None
        and found.image.dtype == torch.float32
        and float((found.image - to_float(PIXELS[[4, 0]])).std()) > 0.1
    )


def test_it_goes_on_where_it_was_stopped(tmp_path):
    parts = []

    def stop(done, rows):
        parts.append(done)
        if len(parts) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bank(tmp_path, batch_size=3).compute(read, 7, stop)
    again = bank(tmp_path, batch_size=3)
    with pytest.raises(UserError, match="nothing of image 60"):
        again.conditioning_images(INDEX)
    seen = []
    method = again.method.restore
    again.method.restore = lambda m, **k: seen.extend(m.index) or method(m, **k)
    again.compute(read, 7)
    assert seen == [60] and parts == [3, 6]
    whole = bank(tmp_path / "other")
    whole.compute(read, 7)
    assert torch.equal(again.conditioning_images(INDEX).image, whole.conditioning_images(INDEX).image)
    assert again.seconds > 0


def test_a_file_of_other_options_is_refused_and_equal_ones_are_recognised(tmp_path):
    bank(tmp_path, method=TV).compute(read, 2)
    written_out = {"class_path": TV["class_path"], "init_args": {**TV["init_args"]}}
    spec = {
        "class_path": "restoration.conditioning_bank.ConditioningBank",
        "init_args": {"path": str(tmp_path / "conditioning_images.safetensors"), "method": written_out},
    }
    spec["init_args"]["noise"] = {"sigma": 0.3}
    assert build(spec, ConditioningBank, where="bank").conditioning_images(INDEX[:2]).image.shape == (2, 1, 8, 8)
    for other in ({"noise": {"sigma": 0.4}}, {"seed": 1}, {"method": "restoration.degraded.Degraded"}):
        with pytest.raises(UserError, match="was made with another"):
            bank(tmp_path, **{"method": TV, **other}).conditioning_images(INDEX[:2])
    (tmp_path / "conditioning_images.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="damaged"):
        bank(tmp_path, method=TV).conditioning_images(INDEX[:2])
    with pytest.raises(UserError, match=r"studies\.dip_bank"):
        bank(tmp_path / "nowhere").conditioning_images(INDEX[:2])


def test_a_diffused_bank_knows_time_and_noise_of_every_image(tmp_path):
    made = bank(tmp_path, noise=None, schedule="diffusion.schedules.Linear")
    made.compute(read, 7)
    found = made.conditioning_images(INDEX)
    alpha_bar = made.schedule.alpha_bar_of(found.time).view(-1, 1, 1, 1).float()
    x = alpha_bar.sqrt() * to_float(PIXELS) + (1 - alpha_bar).sqrt() * found.noise
    torch.testing.assert_close(found.image, x.clamp(-1, 1), atol=1e-3, rtol=0)
    assert len(found.time.unique()) > 3 and torch.equal(made.conditioning_images(INDEX[[5]]).noise[0], found.noise[5])


def test_the_level_that_a_method_is_told_does_not_depend_on_the_batch(tmp_path):
    """A bank that goes on after an interruption, or in batches of another size, asks the same."""
    made = bank(tmp_path, noise=None, schedule="diffusion.schedules.Linear")
    whole = made.measurement(to_float(PIXELS), INDEX.tolist())
    for row in range(7):
        alone = made.measurement(to_float(PIXELS[[row]]), [int(INDEX[row])])
        assert alone.sigma == whole.sigma and torch.equal(alone.y[0], whole.y[row])
    assert whole.sigma == pytest.approx(float((1 - made.schedule.alphas_bar).mean()) ** 0.5)


def test_options():
    with pytest.raises(UserError, match="leave degradation and noise out"):
        ConditioningBank(
            path="x",
            method="restoration.degraded.Degraded",
            schedule="diffusion.schedules.Linear",
            noise={"sigma": 0.1},
        )
    with pytest.raises(UserError, match="reads the truth"):
        stopping = {"class_path": "restoration.stopping.oracle.Oracle"}
        ConditioningBank(path="x", method={"class_path": "restoration.dip.DIP", "init_args": {"stopping": stopping}})
    with pytest.raises(UserError, match="there is no module"):
        ConditioningBank(path="x", method="restoration.dipp.DIP")


@pytest.mark.parametrize(
    ("method", "newer"),
    [(TV, "iterations"), ({"class_path": "restoration.dip.DIP", "init_args": {"iterations": 2}}, "jitter_law")],
    ids=["total_variation", "dip"],
)
def test_a_bank_from_before_an_option_was_there_is_one_with_its_default(tmp_path, method, newer):
    """And refused where the option now has another value than that default."""
    plain = {**method, "init_args": {k: v for k, v in method["init_args"].items() if k != newer}}
    path = tmp_path / "conditioning_images.safetensors"
    made = bank(tmp_path, method=plain)
    options = json.loads(json.dumps(made.options))
    del options["method"]["init_args"][newer]
    guides = {"index": torch.tensor([30]), "guide": torch.zeros(1, 1, 8, 8, dtype=torch.float16)}
    save_file(guides, path, metadata={"options": json.dumps(options), "seconds": "1"})
    assert bank(tmp_path, method=plain).conditioning_images(torch.tensor([30])).image.shape == (1, 1, 8, 8)
    other = {**plain, "init_args": {**plain["init_args"], newer: {"iterations": 7, "jitter_law": "sign"}[newer]}}
    with pytest.raises(UserError, match="was made with another method"):
        bank(tmp_path, method=other).conditioning_images(torch.tensor([30]))

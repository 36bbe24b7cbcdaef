import pytest
import torch

from common.errors import UserError
from studies.conditioning_floor import read, unread_share


def test_the_share_that_is_read():
    """All from clean + gain * noise; nothing without it; 1 / (1 + s^2) of it under foreign noise of deviation s; a half
    where half of the spectrum is gone.
    """
    generator = torch.Generator().manual_seed(0)
    clean, noise, other = (torch.randn(200, 1, 16, 16, generator=generator) for _ in range(3))
    assert unread_share(clean + 0.3 * noise, clean, noise) == pytest.approx(0, abs=1e-9)
    assert unread_share(clean + other, clean, noise) == pytest.approx(1, abs=0.01)
    assert unread_share(clean + noise + 0.5 * other, clean, noise) == pytest.approx(0.25 / 1.25, abs=0.01)
    radius = torch.fft.fftfreq(16)
    low = ((radius[:, None] ** 2 + radius[None] ** 2).sqrt() < 0.3).float()
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * low).real
    assert unread_share(clean + 0.7 * smooth, clean, noise) == pytest.approx(1 - float(low.mean()), abs=0.06)


ARCHITECTURE = {
    "class_path": "networks.untrained.skip.SkipArchitecture",
    "init_args": {"preset": "small", "channels": [4, 6], "skip": [2, 2], "inputs": 3},
}


def config(schedule="diffusion.schedules.Linear"):
    method = {"class_path": "restoration.dip.DIP", "init_args": {"architecture": ARCHITECTURE, "iterations": 3}}
    bank = {"path": "nowhere", "method": method, "schedule": schedule}
    data = {"class_path": "datamodules.digits.Digits", "init_args": {"validation": 8}}
    return {"model": {"init_args": {"bank": {"init_args": bank}}}, "data": data}


def test_a_longer_fit_is_looked_at_as_it_goes():
    found = read(config(), "test", images=6, iterations=[1, 4])
    assert [at for at, _ in found] == [1, 4] and all(0 <= s["all"] <= 1 for _, s in found)
    with pytest.raises(UserError, match="give it a schedule"):
        read(config(schedule=None), "test", images=2, iterations=[1])

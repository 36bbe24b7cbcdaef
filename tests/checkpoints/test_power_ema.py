"""Post-hoc synthesis on weights whose averages are known: a random walk in float64, and a real run's folder."""

import sys
from pathlib import Path

import pytest
import torch
from helpers import ROOT, call, one_sentence, tiny_denoiser

from checkpoints.load import load_prior
from checkpoints.power_ema import main, synthesise
from checkpoints.prior import describe_prior
from checkpoints.snapshots import Snapshot, read_snapshots, snapshot_path, write_snapshot
from common.averaging import WeightAverage
from common.errors import UserError
from common.power_profile import Profile, combine, gamma_of, power_decay

BATCH, STEPS, EVERY = 16, 2048, 64  # 32 snapshots


def walk(seed: int = 0) -> torch.Tensor:
    """[STEPS, 50] float64: what training looks like from far away."""
    return torch.randn(STEPS, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).cumsum(0)


def tracked(theta: torch.Tensor, width: float) -> list[torch.Tensor]:
    """The average after every step, by its recursion in float64."""
    gamma, average, out = gamma_of(width), torch.zeros_like(theta[0]), []
    for k, value in enumerate(theta, start=1):
        average = torch.lerp(value, average, power_decay(BATCH, BATCH * k, gamma))
        out.append(average)
    return out


@pytest.mark.parametrize(
    ("width", "bound"),
    [(0.05, 1e-9), (0.1, 1e-9), (0.04, 3e-4), (0.07, 1e-4), (0.085, 5e-5), (0.15, 2e-4), (0.2, 2e-3)],
)
def test_a_width_that_was_not_kept_comes_out_as_if_it_had_been(width, bound):
    """Relative to the spread of the walk over training; float64, 32 snapshots of the widths 0.05 and 0.10."""
    theta = walk()
    kept = {w: tracked(theta, w) for w in (0.05, 0.1)}
    steps = range(EVERY, STEPS + 1, EVERY)
    profiles = [Profile(BATCH * k, gamma_of(w)) for k in steps for w in kept]
    found = combine(profiles, Profile(BATCH * STEPS, gamma_of(width)))
    made = sum(
        f * kept[w][k - 1] for f, (k, w) in zip(found.weights, [(k, w) for k in steps for w in kept], strict=True)
    )
    error = (made - tracked(theta, width)[-1]).norm() / theta.std(0).norm()
    assert error < bound, float(error)
    nearest = min((made - kept[w][-1]).norm() for w in kept) / theta.std(0).norm()
    assert width in kept or nearest > 5 * error, "better than taking the nearest width that was kept"


def test_no_start_up_bias():
    """A start far away leaves nothing: the first update forgets it."""
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(1e6)
    average = WeightAverage(module, ["0.05"])
    with torch.no_grad():
        module.weight.fill_(1.0)
    for k in range(1, 4):
        average.update(power_decay(8, 8 * k, gamma_of(0.05)))
        assert average.weights()["weight"].item() == 1.0


def run_folder(folder: Path, dtype: str = "float32") -> dict[float, dict[str, torch.Tensor]]:
    """<folder>/ema of a network that moves at random; the averages of some widths that were followed to the end."""
    denoiser = tiny_denoiser()
    network, widths = denoiser.network, (0.05, 0.1, 0.07, 0.15)
    average, generator = WeightAverage(network, [str(w) for w in widths]), torch.Generator().manual_seed(0)
    description = {"prior": describe_prior(denoiser, data="Digits")}
    for k in range(1, 65):
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.02 * torch.randn(p.shape, generator=generator))
        average.update(*(power_decay(16, 16 * k, gamma_of(w)) for w in widths))
        if k % 4 == 0:
            for which, width in enumerate(widths[:2]):
                snapshot = Snapshot(width=width, gamma=gamma_of(width), images=16 * k, step=k)
                write_snapshot(
                    snapshot_path(folder / "ema", snapshot), snapshot, average.weights(which), description, dtype=dtype
                )
    return {w: average.weights(i) for i, w in enumerate(widths)}


def call_main(monkeypatch, *args: object) -> None:
    monkeypatch.setattr(sys, "argv", ["power_ema", *map(str, args)])
    main()


def distance(a: dict, b: dict) -> float:
    return float(torch.cat([(a[k].float() - b[k].float()).flatten() for k in a]).norm())


def test_the_command_writes_a_prior_of_any_width(tmp_path, monkeypatch):
    kept = run_folder(tmp_path / "run", "float16")
    call_main(monkeypatch, tmp_path / "run", "--width", 0.07, "--output", tmp_path / "p.safetensors")
    prior = load_prior(tmp_path / "p.safetensors")
    made = prior.denoiser.network.state_dict()
    # 64 steps are few: the integral stands for a sum. Still far nearer than the widths beside it.
    assert distance(made, kept[0.07]) < 0.1 * min(distance(kept[0.05], kept[0.07]), distance(kept[0.1], kept[0.07]))
    assert (
        prior.description["weights"] == "power_ema"
        and prior.description["width"] == 0.07
        and prior.description["residual"] < 0.01
    )
    call_main(
        monkeypatch, tmp_path / "run", "--widths", "0.05,0.15", "--output", tmp_path / "several", "--dtype", "float32"
    )
    assert sorted(p.name for p in (tmp_path / "several").iterdir()) == [
        "width_0.05.safetensors",
        "width_0.15.safetensors",
    ]
    same = load_prior(tmp_path / "several" / "width_0.05.safetensors").denoiser.network.state_dict()
    assert distance(same, kept[0.05]) < 2e-3 * torch.cat([v.flatten() for v in same.values()]).norm(), (
        "a width that was kept: rounding of float16 alone"
    )


def test_an_earlier_time_of_training(tmp_path):
    run_folder(tmp_path / "run")
    earlier = next(p for p, s in read_snapshots(tmp_path / "run" / "ema").items() if s.images == 512 and s.width == 0.1)
    weights, header, _ = synthesise(tmp_path / "run" / "ema", 0.1, images=512)
    assert distance(weights, load_prior(earlier).denoiser.network.state_dict()) < 1e-4
    assert header["prior"]["images"] == 512


def test_every_snapshot_is_a_prior_itself(tmp_path):
    kept = run_folder(tmp_path / "run")
    newest = list(read_snapshots(tmp_path / "run" / "ema"))[-1]
    assert distance(load_prior(newest).denoiser.network.state_dict(), kept[0.1]) < 1e-5


def test_what_the_snapshots_cannot_span_is_refused(tmp_path):
    run_folder(tmp_path)
    for width, words in ((0.005, "cannot span the width 0.005"), (0.4, "between 0 and 0.288")):
        with pytest.raises(UserError, match=words):
            synthesise(tmp_path / "ema", width)
    with pytest.raises(UserError, match="--images must be between 64 and 1024"):
        synthesise(tmp_path / "ema", 0.07, images=5000)
    (tmp_path / "ema" / "width_0.05_images_000000000009.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="is not a snapshot"):
        synthesise(tmp_path / "ema", 0.07)


def test_mistakes_are_one_sentence(tmp_path):
    (tmp_path / "ema").mkdir()
    out = tmp_path / "p.safetensors"
    for args, words in (
        ((tmp_path, "--width", 0.07, "--output", out), ("no snapshots", "snapshot_every_n_images")),
        ((tmp_path / "nowhere", "--width", 0.07, "--output", out), ("no run folder",)),
    ):
        one_sentence(call("-m", "checkpoints.power_ema", *args, cwd=ROOT), *words)

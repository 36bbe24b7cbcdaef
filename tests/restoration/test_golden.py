"""DPS and SDEdit give what they gave before they shared a loop: bit for bit against their old loops, written out here,
and by hashes of numbers that the old files made.
"""

import hashlib
from itertools import pairwise

import pytest
import torch
from helpers import tiny_denoiser
from torch import Tensor

from common.random_streams import RandomStreams
from degradations.average_pool import AveragePool
from degradations.box_mask import BoxMask
from degradations.circular_blur import CircularGaussianBlur
from degradations.grey import Grey
from degradations.identity import Identity
from degradations.measurement import Measurement, measure
from degradations.noise import GaussianNoise
from degradations.random_mask import RandomMask
from degradations.reflecting_blur import ReflectingGaussianBlur
from diffusion.closed_form import GaussianDenoiser
from diffusion.samplers.base import predictor
from diffusion.samplers.ddim import DDIM
from diffusion.samplers.dpm_solver_pp import DPMSolverPP2M
from diffusion.samplers.heun import Heun
from restoration.dps import DPS, guided_step, step_scales
from restoration.sdedit import SDEdit

DEGRADATIONS = {
    "identity": Identity(),
    "random_mask": RandomMask(removed=0.4),
    "box": BoxMask(size=4),
    "pool": AveragePool(factor=2),
    "circular": CircularGaussianBlur(std=0.6),
    "reflecting": ReflectingGaussianBlur(std=0.6),
    "grey": Grey(),
}
SAMPLERS = {
    "ancestral": None,
    "ddim": DDIM(eta=0.5),
    "heun": Heun(),
    "churn": Heun(churn=0.5),
    "dpm": DPMSolverPP2M(),
}


def measured(degradation: str, dtype: torch.dtype, count: int = 2) -> Measurement:
    x = (RandomStreams(7).uniform("images", 0, 0, (count, 3, 8, 8)) * 2 - 1).to(dtype)
    noise, index = GaussianNoise(sigma=0.1), list(range(10, 10 + count))
    return measure(x, degradation=DEGRADATIONS[degradation], noise=noise, index=index, random=RandomStreams(3))


def keys(measurement: Measurement, num_samples: int) -> tuple[list[int], list[int]]:
    index = [i for i in measurement.index for _ in range(num_samples)]
    return index, [k for _ in measurement.index for k in range(num_samples)]


def dps_before(method: DPS, measurement: Measurement, num_samples: int) -> tuple[Tensor, list[float]]:
    """The loop of restoration/dps.py at commit db541dc."""
    random, operator = RandomStreams(5), measurement.operator.repeat(num_samples)
    y = measurement.y.repeat_interleave(num_samples, 0)
    index, sample = keys(measurement, num_samples)
    shape, steps = tuple(operator.input_shape), len(method.sigmas) - 1
    scale = step_scales(operator, y, steps, scale=method.scale, relative_scale=method.relative_scale)
    predict = predictor(method.prior, clip=method.clip)
    residuals, memory = [], method.sampler.start(method.sigmas.tolist())
    x = float(method.sigmas[0]) * random.normal_batch("dps start", index, sample, shape, y.device).to(y.dtype)
    with random.sequence("dps", index, sample, shape, y.device) as noise:
        for sigma, sigma_next in pairwise(method.sigmas.tolist()):
            outcome, norm = guided_step(
                method.sampler, predict, x, sigma, sigma_next, memory, noise, operator=operator, y=y, scale=scale
            )
            x, memory = outcome.x, outcome.memory
            residuals.append(float(norm.mean()))
    return x.unflatten(0, (-1, num_samples)), residuals


@torch.no_grad()
def sdedit_before(method: SDEdit, measurement: Measurement, num_samples: int) -> tuple[Tensor, list[tuple[int, float]]]:
    """The loop of restoration/sdedit.py at commit db541dc."""
    random, seen = RandomStreams(5), []
    x = measurement.operator.pseudo_inverse(measurement.y).repeat_interleave(num_samples, 0)
    index, sample = keys(measurement, num_samples)
    steps = len(method.sigmas) - 1
    with random.sequence("sdedit", index, sample, x.shape[1:], x.device) as noise:
        for k in range(method.repeats):
            x = x + float(method.sigmas[0]) * noise.next()

            def report(i: int, x0: Tensor, done: int = k * steps) -> None:
                seen.append((done + i, float(x0.sum())))

            x = method.sampler.sample(method.prior, x, method.sigmas, noise=noise, clip=method.clip, on_step=report)
    return x.unflatten(0, (-1, num_samples)), seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_dps_is_its_old_loop_bit_for_bit(degradation, dtype):
    measurement = measured(degradation, dtype)
    for options in (
        {"steps": 3, "relative_scale": 8.0},
        {"steps": 2, "scale": 0.7, "clip": False, "spacing": "trailing"},
    ):
        method = DPS(prior=tiny_denoiser((3, 8, 8)).requires_grad_(False), **options)
        samples, residuals = dps_before(method, measurement, 2)
        found = method.restore(measurement, num_samples=2, random=RandomStreams(5))
        assert torch.equal(found.samples, samples) and found.trace == {"residual": residuals}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("degradation", DEGRADATIONS)
def test_sdedit_is_its_old_loop_bit_for_bit(degradation, dtype):
    measurement, seen = measured(degradation, dtype), []
    method = SDEdit(prior=tiny_denoiser((3, 8, 8)).requires_grad_(False), start=0.5, steps=5, repeats=2)
    samples, steps = sdedit_before(method, measurement, 2)
    found = method.restore(
        measurement, num_samples=2, random=RandomStreams(5), on_step=lambda i, n, x0: seen.append((i, float(x0.sum())))
    )
    assert torch.equal(found.samples, samples) and found.trace == {} and seen == steps


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_walks_as_before(sampler):
    measurement, prior = measured("pool", torch.float32), tiny_denoiser((3, 8, 8)).requires_grad_(False)
    for spacing in ("linspace", "karras"):
        edited = SDEdit(prior=prior, start=0.5, steps=8, repeats=2, spacing=spacing, sampler=SAMPLERS[sampler])
        assert torch.equal(
            edited.restore(measurement, random=RandomStreams(5)).samples, sdedit_before(edited, measurement, 1)[0]
        )
    guided = DPS(prior=prior, steps=5, relative_scale=8.0, spacing="karras", sampler=SAMPLERS[sampler])
    assert torch.equal(
        guided.restore(measurement, random=RandomStreams(5)).samples, dps_before(guided, measurement, 1)[0]
    )


def digests() -> dict[str, str]:
    """What the methods made of Gaussian data in float64, rounded to six digits, which hides the last bits of another
    processor, hashed: samples, residuals and cost.
    """
    i = torch.arange(192, dtype=torch.float64)
    prior = GaussianDenoiser(mean=0.1, covariance=0.3 * torch.exp(-(i[:, None] - i).abs() / 4), data_shape=(3, 8, 8))
    found = {}
    for degradation in DEGRADATIONS:
        for batch, num_samples in ((1, 1), (2, 3)):
            measurement = measured(degradation, torch.float64, batch)
            for name, method in {
                "dps": DPS(prior=prior, steps=12, relative_scale=8.0),
                "dps-scale": DPS(
                    prior=prior, steps=8, scale=0.7, clip=False, spacing="trailing", sampler=DDIM(eta=0.5)
                ),
                "sdedit": SDEdit(prior=prior, start=0.5, steps=10, repeats=2),
                "sdedit-heun": SDEdit(prior=prior, start=1.0, steps=5, spacing="karras", clip=False, sampler=Heun()),
            }.items():
                restoration = method.restore(measurement, num_samples=num_samples, random=RandomStreams(5))
                numbers = [*restoration.samples.flatten().tolist(), *restoration.trace.get("residual", [])]
                text = " ".join(f"{v + 0.0:.6f}" for v in numbers).replace("-0.000000", "0.000000")
                text += f" {restoration.cost.nfe} {restoration.cost.backwards}"
                found[f"{name}/{degradation}/{batch}x{num_samples}"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return found


#: digests() of this file, called with the tree of commit db541dc in front of sys.path: the last in which DPS and SDEdit
#: had loops of their own.
BEFORE: dict[str, str] = {
    "dps/identity/1x1": "54e2de79a188",
    "dps-scale/identity/1x1": "14594fe67a5a",
    "sdedit/identity/1x1": "444d4d94cb7e",
    "sdedit-heun/identity/1x1": "6e716b37c31e",
    "dps/identity/2x3": "6c465b18c356",
    "dps-scale/identity/2x3": "b16f97d381b0",
    "sdedit/identity/2x3": "a765ba905596",
    "sdedit-heun/identity/2x3": "6063b426b5a0",
    "dps/random_mask/1x1": "bf56dca906f9",
    "dps-scale/random_mask/1x1": "2e854473e017",
    "sdedit/random_mask/1x1": "e458aee9f06d",
    "sdedit-heun/random_mask/1x1": "5b18dfc361c8",
    "dps/random_mask/2x3": "95be32a60bde",
    "dps-scale/random_mask/2x3": "378afcdbe738",
    "sdedit/random_mask/2x3": "d3f62e132baa",
    "sdedit-heun/random_mask/2x3": "c5d46e183de9",
    "dps/box/1x1": "b7cb4352a2c9",
    "dps-scale/box/1x1": "b13698df56d5",
    "sdedit/box/1x1": "9c98bb991d50",
    "sdedit-heun/box/1x1": "53829d7e63e4",
    "dps/box/2x3": "36c76f1b4f95",
    "dps-scale/box/2x3": "3b2317d1dd27",
    "sdedit/box/2x3": "1692b70246a2",
    "sdedit-heun/box/2x3": "bde13f65429f",
    "dps/pool/1x1": "381bcbcd87b6",
    "dps-scale/pool/1x1": "91c6048c5122",
    "sdedit/pool/1x1": "6d6bb597cddf",
    "sdedit-heun/pool/1x1": "f9daff2cebc1",
    "dps/pool/2x3": "02ec4e7735e2",
    "dps-scale/pool/2x3": "60be77137e3a",
    "sdedit/pool/2x3": "d44a8ab24705",
    "sdedit-heun/pool/2x3": "6e283e1b19da",
    "dps/circular/1x1": "4b69f14dd6f3",
    "dps-scale/circular/1x1": "ee1eb80e1991",
    "sdedit/circular/1x1": "5a86a82269a8",
    "sdedit-heun/circular/1x1": "fefe164ea23d",
    "dps/circular/2x3": "8ad54348bae1",
    "dps-scale/circular/2x3": "dc2f99650b69",
    "sdedit/circular/2x3": "797c0e8c7417",
    "sdedit-heun/circular/2x3": "4ca161ae5d3f",
    "dps/reflecting/1x1": "50458e6b5df0",
    "dps-scale/reflecting/1x1": "8a2612fbd7da",
    "sdedit/reflecting/1x1": "332efbf26b7a",
    "sdedit-heun/reflecting/1x1": "4516879de855",
    "dps/reflecting/2x3": "1c88c0860163",
    "dps-scale/reflecting/2x3": "155f0f65c1f3",
    "sdedit/reflecting/2x3": "6a4a73dec0a7",
    "sdedit-heun/reflecting/2x3": "2612fb5d2506",
    "dps/grey/1x1": "87fd5a4d483c",
    "dps-scale/grey/1x1": "355e457f2969",
    "sdedit/grey/1x1": "fc850efdfa7d",
    "sdedit-heun/grey/1x1": "8ac945dee7bc",
    "dps/grey/2x3": "81ddaae5e43f",
    "dps-scale/grey/2x3": "10e85e24d3ff",
    "sdedit/grey/2x3": "ec5b64c2bba5",
    "sdedit-heun/grey/2x3": "c21d9fd48fca",
}


def test_numbers_of_the_files_of_before():
    assert digests() == BEFORE

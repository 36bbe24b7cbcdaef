"""SDEdit: noise a guide until its faults drown, and denoise it with the prior."""

import torch

from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.measurement import Measurement
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from diffusion.levels import below, spaced_sigmas
from diffusion.samplers.base import Sampler
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported, repeat_samples


class SDEdit(Method):
    """x = g + sigma_start z with the guide g = A^+ y, then the sampler's steps from sigma_start to 0; repeated with the
    result as the guide.

    The operator is used for the guide only: the larger the start, the more realistic and the less faithful. Holes of
    the guide are mid-grey and are kept so at a small start. Meng et al. 2021 (2108.01073), algorithm 1, in x = x0 +
    sigma * noise units.

    Args:
        prior: the denoiser.
        start: fraction of the training times in (0, 1], the paper's t0.
        repeats: the paper's K.
        steps: levels over all training times, null for each of them; those below the start are walked.
        spacing: see diffusion/levels.py.
        clip: clip every x0 to [-1, 1].
        sampler: ancestral DDPM where it is null.

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True

    def __init__(
        self,
        *,
        prior: Denoiser,
        start: float = 0.4,
        repeats: int = 1,
        steps: int | None = None,
        spacing: str = "linspace",
        clip: bool = True,
        sampler: Sampler | None = None,
    ) -> None:
        if not 0 < start <= 1 or repeats < 1:
            raise ValueError(
                f"start must lie in (0, 1] and repeats be at least 1, got start={start}, repeats={repeats}"
            )
        self.prior, self.repeats, self.clip, self.sampler = prior, repeats, clip, sampler or AncestralDDPM()
        self.sampler.check(prior)
        grid = spaced_sigmas(prior, prior.num_timesteps if steps is None else steps, spacing)
        time = torch.tensor([round(start * prior.num_timesteps) - 1.0], dtype=torch.float64).clamp(min=0)
        # min: a spacing such as "leading" may begin below the level asked for.
        self.sigmas = below(grid, min(float(prior.level_at(time)), float(grid[0])))

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        if not operator.linear:
            raise Unsupported(
                f"sdedit needs an image-shaped guide A^+ y, and {operator.description or type(operator).__name__} is"
                " not linear"
            )

    def calls(self) -> Cost:
        return Cost(nfe=self.repeats * self.sampler.calls(len(self.sigmas) - 1))

    @torch.no_grad()
    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        self.check(measurement.operator, measurement.noise)
        x = measurement.operator.pseudo_inverse(measurement.y).repeat_interleave(num_samples, 0)
        index, sample = repeat_samples(measurement, num_samples)
        steps = len(self.sigmas) - 1
        with random.sequence("sdedit", index, sample, x.shape[1:], x.device) as noise:
            for k in range(self.repeats):
                x = x + float(self.sigmas[0]) * noise.next()

                def report(i: int, x0: torch.Tensor, done: int = k * steps) -> None:
                    if on_step is not None:
                        on_step(done + i, self.repeats * steps, x0)

                x = self.sampler.sample(self.prior, x, self.sigmas, noise=noise, clip=self.clip, on_step=report)
        return Restoration(samples=x.unflatten(0, (-1, num_samples)), cost=self.calls())

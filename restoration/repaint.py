"""RePaint: known pixels are put back at every level, and the chain goes up and down until the rest fits them."""

from torch import Tensor

from common.random_streams import NoiseSequence
from degradations.base import Operator
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from diffusion.samplers.base import Predict
from diffusion.samplers.ddpm import AncestralDDPM
from restoration.base import Bias, Unsupported
from restoration.posterior import PosteriorSampler, Problem


class RePaint(PosteriorSampler):
    """x <- M (y + sigma z) + (1 - M) x, then an ancestral step; every jump_length levels the chain goes that many
    levels up again, jump_repeats - 1 times.

    Lugmayr et al. 2022 (2201.09865), algorithm 1 with the jumps of its code: T + (r - 1) j ceil((T - j) / j) calls for
    T steps, length j and r repeats. A jump of j levels is one draw of the forward kernel, which is the law of j draws.
    Known pixels of the result are the prior's last estimate, near y at the last level's noise, and are not pasted.

    Args:
        prior: the denoiser.
        steps: T, number of noise levels, 1 .. the prior's training times; null for all of them; the paper takes 250.
        spacing: how the levels lie, see diffusion/levels.py.
        jump_length: j, at least 1; the paper takes 10.
        jump_repeats: r, at least 1, which is no jump; the paper takes 10.
        clip: clip every x0 that the prior estimates to [-1, 1].

    Raises:
        ValueError: options out of range.
    """

    needs = frozenset({"mask"})
    bias = Bias(
        "known pixels never hear of the others, which a finite number of repeats makes up for in part",
        mean=0.8,
        deviation=(0.1, 1.2),
    )

    def __init__(
        self,
        *,
        prior: Denoiser,
        steps: int | None = 250,
        spacing: str = "leading",
        jump_length: int = 10,
        jump_repeats: int = 10,
        clip: bool = True,
    ) -> None:
        if jump_length < 1 or jump_repeats < 1:
            raise ValueError(f"jump_length and jump_repeats must be at least 1, got {jump_length} and {jump_repeats}")
        super().__init__(prior=prior, steps=steps, spacing=spacing, clip=clip)
        self.jump_length, self.jump_repeats = jump_length, jump_repeats

    def levels(self) -> list[float]:
        sigmas = self.sigmas.tolist()
        total = len(sigmas) - 1
        credit = dict.fromkeys(range(0, total - self.jump_length, self.jump_length), self.jump_repeats - 1)
        place, walked = total, []
        while place > 0:
            place -= 1
            walked.append(sigmas[total - 1 - place])
            if credit.get(place, 0) > 0:
                credit[place] -= 1
                place += self.jump_length
                walked.append(sigmas[total - 1 - place])
        return [*walked, 0.0]

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        if noise.sigma > 0:
            raise Unsupported(
                f"repaint needs a measurement without noise, and there is {noise!r}: its known pixels would keep it;"
                " take ddnm or pigdm"
            )

    def step(
        self,
        problem: Problem,
        prepared: None,
        predict: Predict,
        x: Tensor,
        sigma: float,
        sigma_next: float,
        noise: NoiseSequence,
    ) -> tuple[Tensor, Tensor]:
        mask = problem.operator.mask
        assert mask is not None
        if sigma < float(self.sigmas[0]):  # pure noise knows nothing yet
            mask = mask.to(x)
            x = mask * (problem.y + sigma * noise.next().to(x)) + (1 - mask) * x
        outcome = AncestralDDPM().step(predict, x, sigma, sigma_next, None, noise)
        return outcome.x, outcome.prediction.x0

"""A deep image prior that a trained denoiser looks after."""

from dataclasses import replace
from typing import Literal

from degradations.base import Operator
from degradations.noise import Noise
from diffusion.denoiser import Denoiser
from restoration.base import Cost, Method
from restoration.deep_image_prior.terms.base import Term
from restoration.deep_image_prior.terms.denoiser import DenoiserTerm
from restoration.dip import DIP


class DIPWithPrior(DIP):
    """min_theta mean |A f_theta(z) - y|^2 + weight * R(f_theta), R the regulariser of
    restoration/deep_image_prior/terms/denoiser.py; all options of DIP, and of R.

    The regulariser pushes against noise, so that overfitting comes later; it does not go away as long as the data
    term is minimised over all weights. The cost is what was really called: one call an iteration, or every `refresh`
    iterations, until the criterion stops.

    Args:
        prior: the denoiser; one that takes a conditioning image gets the pseudo-inverse or the averaged output.
        weight: of the prior's term, see DenoiserTerm; null: the one that the noise implies.
        from_255: level that the prior is asked at first, in grey levels of 255 (default 127.5: sigma 1).
        to_255: level that it is asked at last, in grey levels of 255 (default 12.75).
        add_noise: give the prior the output with fresh noise of that level (true, default), or the output itself.
        refresh: iterations between two calls of the prior (default 1).
        conditioning: what a prior that takes a conditioning image is given: "pseudo_inverse" of y (default) or the
            "average" of the outputs.

    Raises:
        ValueError: options out of range.
    """

    needs_prior = True
    gives_image = True
    cost_varies = True

    def __init__(
        self,
        *,
        prior: Denoiser,
        weight: float | None = None,
        from_255: float = 127.5,
        to_255: float = 12.75,
        add_noise: bool = True,
        refresh: int = 1,
        conditioning: Literal["pseudo_inverse", "average"] = "pseudo_inverse",
        **options,
    ) -> None:
        super().__init__(**options)
        self.prior = prior
        self.term = DenoiserTerm(
            prior=prior,
            weight=weight,
            from_255=from_255,
            to_255=to_255,
            add_noise=add_noise,
            refresh=refresh,
            conditioning=conditioning,
            any_size=True,  # who gives a prior to a method has looked at its size
        )

    def check(self, operator: Operator, noise: Noise) -> None:
        Method.check(self, operator, noise)
        super().check(operator, noise)

    def active_terms(self) -> list[Term]:
        return [*super().active_terms(), self.term]

    def calls(self) -> Cost:
        """The most there can be: fits that stop earlier ask less."""
        iterations = self.changes["iterations"] or 3000
        others = super().calls()
        return replace(others, nfe=others.nfe + -(-iterations // self.term.refresh))

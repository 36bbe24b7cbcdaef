"""A denoiser that a config names by its file, for what is configured and not given a prior by an entry point: a term of
a deep image prior.
"""

from pathlib import Path
from typing import Literal

from torch import Tensor

from checkpoints.load import load_prior
from common.build import Recorded
from diffusion.denoiser import Condition, Denoiser, Prediction


class DenoiserFile(Recorded, Denoiser):
    """The denoiser of a file, frozen, as it is in there.

    Args:
        path: as checkpoints/prior.py reads it: a .ckpt or .safetensors of this project, or a prior of another one.
        weights: averaged or raw ones of a .ckpt.
        preset: what a .pt file of guided-diffusion does not say.

    Raises:
        UserError: where it cannot be read.
    """

    def __init__(self, *, path: str, weights: Literal["ema", "raw"] = "ema", preset: str | None = None) -> None:
        super().__init__()
        loaded = load_prior(Path(path), weights=weights, preset=preset)
        self.denoiser, self.fingerprint = loaded.denoiser, loaded.fingerprint
        self.data_shape = self.denoiser.data_shape
        self.sigma_min, self.sigma_max, self.num_timesteps = (
            self.denoiser.sigma_min,
            self.denoiser.sigma_max,
            self.denoiser.num_timesteps,
        )
        self.learns_variance, self.takes_image = self.denoiser.learns_variance, self.denoiser.takes_image
        self.takes_maps, self.any_size, self.blind = (
            self.denoiser.takes_maps,
            self.denoiser.any_size,
            self.denoiser.blind,
        )
        self.reach, self.multiple = self.denoiser.reach, self.denoiser.multiple
        self.eval()

    def level_at(self, time: Tensor) -> Tensor:
        return self.denoiser.level_at(time)

    def refused(self, least: float, most: float) -> str | None:
        return self.denoiser.refused(least, most)

    def predict(self, x: Tensor, sigma: Tensor, condition: Condition | None = None) -> Prediction:
        return self.denoiser.predict(x, sigma, condition)

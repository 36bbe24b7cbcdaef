"""Small deep image priors: two-scale networks of a few hundred weights on digits of 16 pixels."""

from pathlib import Path

import lightning.pytorch as pl
from helpers import tiny_trainer

from callbacks.early_stopping import EarlyStopping
from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.health import Health
from callbacks.restored_pictures import RestoredPictures
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from callbacks.sample_grid import SampleGrid
from datamodules.degraded_images import DegradedImages
from datamodules.digits import Digits
from degradations.noise import GaussianNoise
from lightning_modules.deep_image_prior import DeepImagePrior
from networks.untrained.skip import SkipArchitecture
from restoration.stopping.base import StoppingCriterion
from restoration.stopping.es_wmv import ESWMV

ARCHITECTURE = {"preset": "small", "channels": [4, 4], "skip": [2, 2], "inputs": 3}


def stops_soon() -> StoppingCriterion:
    return ESWMV(window=3, patience=4)


def tiny_prior(**options: object) -> DeepImagePrior:
    fixed = {
        "architecture": SkipArchitecture(**ARCHITECTURE),
        "iterations": 20,
        "stopping": ESWMV(window=3, patience=30),
        "backtrack_db": 0.5,
    }
    return DeepImagePrior(**{**fixed, **options})


def tiny_pictures(count: int = 2, **options: object) -> DegradedImages:
    fixed = {"source": Digits(), "count": count, "size": 16, "noise": GaussianNoise(sigma_255=25)}
    return DegradedImages(**{**fixed, **options})


def every_callback(every: int = 10) -> list[pl.Callback]:
    """Those of the command line, in its order."""
    return [
        EMA(),
        FiniteLoss(),
        Health(),
        SampleGrid(),
        EarlyStopping(),
        RestoredPictures(),
        RunCheckpoint(every_n_steps=every),
    ]


def fitted(
    folder: Path,
    module: DeepImagePrior,
    data: DegradedImages,
    *,
    callbacks: list[pl.Callback] | None = None,
    ckpt: Path | None = None,
    **options,
):
    """The trainer that has fitted it."""
    fixed = {"max_steps": -1, "max_epochs": -1, "enable_checkpointing": True, "plugins": [AtomicCheckpointIO()]}
    trainer = tiny_trainer(folder, *(every_callback() if callbacks is None else callbacks), **{**fixed, **options})
    trainer.fit(module, datamodule=data, ckpt_path=ckpt)
    return trainer

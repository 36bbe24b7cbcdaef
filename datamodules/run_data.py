"""What train.py asks of all data, whether it is trained on or restored."""

from abc import ABC, abstractmethod

import lightning.pytorch as pl


class RunData(pl.LightningDataModule, ABC):
    """The data of one run."""

    @abstractmethod
    def batch_per_process(self, world_size: int) -> int:
        """Images of one step that each of `world_size` processes takes at most; UserError where they cannot be shared
        among so many.
        """

    @abstractmethod
    def contents(self) -> str:
        """What is there, for ``--prepare``: reads it; UserError where something is missing."""

    @abstractmethod
    def sharing(self, processes: int) -> str:
        """How many images a step has and how `processes` share them, for ``--prepare``."""

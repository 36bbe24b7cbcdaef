"""A share of an evaluation for one of several jobs. Imports nothing heavy."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FOLDER = "shards"


@dataclass(frozen=True)
class Shard:
    """Share `rank` of `world`: of every cell the batches rank, rank + world, ... Batches are those of one process, so
    that a row does not depend on how many shards there are.
    """

    rank: int
    world: int

    @property
    def name(self) -> str:
        """Of its folder below shards/."""
        return f"{self.rank}_of_{self.world}"


def parse_shard(text: str) -> Shard:
    """ "I/N", I from 0 to N - 1; ValueError otherwise."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    if match is None or not int(match[1]) < int(match[2]):
        raise ValueError(f"must be I/N with I from 0 to N - 1, as 0/4, got '{text}'")
    return Shard(int(match[1]), int(match[2]))


def shard_of_launcher(environment: Mapping[str, str]) -> Shard | None:
    """The share of this process where `srun` (several tasks in one step) or torchrun started it; None otherwise, also
    in a batch script outside of srun, which knows of the tasks too.
    """
    pairs = (("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), ("RANK", "WORLD_SIZE"))
    for rank, world in pairs:
        if environment.get(world, "1") != "1" and rank in environment:
            return Shard(int(environment[rank]), int(environment[world]))
    return None


def shard_folder(folder: Path, shard: Shard) -> Path:
    """Where a shard of the evaluation in `folder` writes."""
    return folder / FOLDER / shard.name


def folders_of(folder: Path) -> list[Path]:
    """The folders of all shards, also of those of another number of shards."""
    return sorted(path for path in (folder / FOLDER).glob("*_of_*") if path.is_dir())

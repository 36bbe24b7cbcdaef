"""A run folder is the state of a training run: the same command again continues it."""

import fcntl
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import yaml

from common.errors import UserError
from common.files import remove_parts, require_writable_folder, write_atomically

# What may differ when a run goes on: where it is computed, what is shown, and how long it lasts. The number of devices
# is free because batch_size counts the images of all processes: a run goes on with the same batches and noise on any
# number that divides it.
FREE = (
    "run",
    "ckpt_path",
    "weights_only",
    "wandb",
    "samples",
    "quality",
    "progress",
    "checkpoint",
    "preemption",
    "lost_ranks",
    "finite_loss",
    "health",
    "early_stopping",
    "restored",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.enable_progress_bar",
    "trainer.enable_model_summary",
    "trainer.logger",
    "trainer.default_root_dir",
    "trainer.max_steps",
    "trainer.max_epochs",
    "trainer.max_time",
    "trainer.log_every_n_steps",
    "trainer.plugins",
    "trainer.profiler",
    "data.init_args.data_dir",
    "data.init_args.workers",
    "data.init_args.keep_on_device",
    "data.init_args.memory_limit_mb",
    "data.init_args.predict_images",
    "model.init_args.together",
)

# the newest checkpoint, and what was it before: where the one cannot be read, the run goes on from the other
LAST, PREVIOUS, DAMAGED = "checkpoints/last.ckpt", "checkpoints/previous.ckpt", "checkpoints/damaged.ckpt"

# from the moment a run was stopped and saved until it goes on: what exit code 75 says where a launcher hides it
# (torchrun)
PREEMPTED = "preempted.json"


class RunFolder:
    """runs/NAME: config.yaml, checkpoints/last.ckpt and previous.ckpt, metrics.csv, samples/, wandb_id, preempted.json
    or finished.json.

    complete: gives a stored config the options that the code has had since, with their defaults, so that an older run
    can go on.
    """

    def __init__(
        self, path: str | Path, *, complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda stored: stored
    ) -> None:
        self.path, self.complete = Path(path), complete
        self._lock: IO[str] | None = None

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @property
    def last_checkpoint(self) -> Path | None:
        """checkpoints/last.ckpt where it exists, else the one before."""
        return next(iter(self.checkpoints), None)

    @property
    def checkpoints(self) -> list[Path]:
        """Those that a run can go on from, the newest first."""
        return [self.path / name for name in (LAST, PREVIOUS) if (self.path / name).is_file()]

    def set_aside(self, checkpoint: Path) -> None:
        """Give a checkpoint that cannot be read another name, so that the one before is not replaced by it."""
        os.replace(checkpoint, self.path / DAMAGED)

    def open(self, config: dict[str, Any]) -> None:
        """Claim the folder for this process and this config: UserError where it cannot be written, is in use, or holds
        a run of another config.
        """
        require_writable_folder(self.path, "run folder")
        self._lock = open(self.path / ".lock", "w")  # noqa: SIM115 (held until the process ends: the kernel frees it however it dies)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(
                f"run folder '{self.path}' is in use by another process: wait for it, or give another --run"
            ) from error
        # Lustre without -o flock, NFS without its lock service: training goes on, a second run of the folder is not
        # noticed
        except OSError as error:
            print(
                f"the file system of '{self.path}' has no locks ({error.strerror}): make sure that only one job at a"
                " time uses this run folder",
                flush=True,
            )
        else:
            remove_parts(self.path)  # of writers that were killed: nobody else writes here
        (self.path / PREEMPTED).unlink(missing_ok=True)
        text = yaml.safe_dump(config, sort_keys=False)
        # nothing was trained yet: a run that a mistake ended at its start may be corrected
        if self.last_checkpoint is None:
            write_atomically(self.config_file, text)
            return
        self.compare(config)
        write_atomically(self.config_file, text)  # what may differ is kept as it is now

    def compare(self, config: dict[str, Any]) -> None:
        """UserError where the folder holds a run of another config, with the difference; writes nothing."""
        if self.last_checkpoint is None:
            return
        if not self.config_file.is_file():
            raise UserError(
                f"run folder '{self.path}' has a checkpoint but no config.yaml: give another --run, or put the file"
                " back"
            )
        stored = self.complete(self._stored())
        differences = [d for d in _differences(stored, config) if not _is_free(d[0])]
        if differences:
            shown = "; ".join(f"{k}: {a!r} there, {b!r} now" for k, a, b in differences[:8])
            more = f" and {len(differences) - 8} more" if len(differences) > 8 else ""
            raise UserError(
                f"run folder '{self.path}' holds a run with another config ({shown}{more}): give another --run, or the"
                " same config"
            )

    def _stored(self) -> dict[str, Any]:
        try:
            stored = yaml.safe_load(self.config_file.read_text())
        except (yaml.YAMLError, UnicodeDecodeError):
            stored = None
        if not isinstance(stored, dict):
            raise UserError(
                f"'{self.config_file}' holds no config, so that nobody can tell whether its run is the same: give"
                " another --run, or put back the file as train.py wrote it"
            )
        return stored

    def wandb_id(self) -> str:
        """The id of the run in W&B, made once."""
        path = self.path / "wandb_id"
        if not path.is_file():
            write_atomically(path, secrets.token_hex(4))
        return path.read_text().strip()

    def finished(self) -> dict[str, int] | None:
        """{"step", "images", "max_epochs", "complete"} of a run that has come to its end, else None.

        complete: it came to an end of its own, whatever the trainer's limits.
        """
        path = self.path / "finished.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def mark_finished(self, *, step: int, images: int, max_epochs: int, complete: bool = False) -> None:
        content = {"step": step, "images": images, "max_epochs": max_epochs, "complete": complete}
        write_atomically(self.path / "finished.json", json.dumps(content))


def is_first_process() -> bool:
    """Whether this is the process that owns the run folder: rank 0 under every launcher."""
    if "RANK" in os.environ:  # torchrun, which may itself run as any task of a SLURM job
        return int(os.environ["RANK"]) == 0
    # SLURM's tasks, and the processes that Lightning starts itself, perhaps inside a SLURM job.
    return all(int(os.environ.get(name, "0")) == 0 for name in ("SLURM_PROCID", "LOCAL_RANK", "NODE_RANK"))


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict) and tree:
        return {k: v for name, part in tree.items() for k, v in _flatten(part, f"{prefix}{name}.").items()}
    return {prefix.rstrip("."): tree}


def _differences(stored: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    a, b = _flatten(stored), _flatten(now)
    return [(k, a.get(k), b.get(k)) for k in dict.fromkeys([*a, *b]) if a.get(k) != b.get(k)]


def _is_free(key: str) -> bool:
    return any(key == f or key.startswith(f + ".") for f in FREE)

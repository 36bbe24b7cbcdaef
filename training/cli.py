"""The command line of train.py: Lightning's, with run folders that continue, short errors and W&B that never asks."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning.pytorch as pl
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from callbacks.early_stopping import EarlyStopping
from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.generation_quality import GenerationQuality
from callbacks.health import Health
from callbacks.lost_ranks import LostRanks
from callbacks.metrics_csv import MetricsCSV
from callbacks.preemption import Preemption
from callbacks.progress_line import ProgressLine
from callbacks.restored_pictures import RestoredPictures
from callbacks.run_checkpoint import AtomicCheckpointIO, RunCheckpoint
from callbacks.sample_grid import SampleGrid
from callbacks.write_images import WriteImages
from checkpoints.files import load_weights
from common.errors import UserError
from common.files import require_writable_folder
from common.private_names import subcommand_parser
from common.renamed import modernised
from common.run_folder import RunFolder, is_first_process
from common.wandb_options import WandbOptions, agent_part
from datamodules.run_data import RunData
from lightning_modules.cold_diffusion import ColdDiffusion
from lightning_modules.deep_image_prior import DeepImagePrior
from lightning_modules.prior import PriorModule
from lightning_modules.run_module import RunModule
from training.begin_run import BeginRun
from training.checks import apply_seed, check_numbers, check_seeds, check_trainer_options, without_summary
from training.constructor_errors import placed
from training.find_batch import find_batch, on_one_device
from training.going_on import end_of, going_on, is_over
from training.meeting import bound_meeting
from training.parser import Parser
from training.prepare import on_this_machine, prepare
from training.same_checkpoint import Weights, checked_weights, module_of_the_loss
from training.sharded_strategy import check_strategy
from training.wandb_logger import wandb_logger

#: Entries of a configuration that are callbacks. In the order in which they are called: the average is updated before
#: anything looks at it or saves it.
CALLBACKS: dict[str, type[pl.Callback]] = {
    "ema": EMA,
    "finite_loss": FiniteLoss,
    "health": Health,
    "samples": SampleGrid,
    "quality": GenerationQuality,
    "early_stopping": EarlyStopping,
    "restored": RestoredPictures,
    "progress": ProgressLine,
    "lost_ranks": LostRanks,
    "preemption": Preemption,
    "checkpoint": RunCheckpoint,
}


class TrainCLI(LightningCLI):
    """fit, validate, test, predict on a RunModule and its RunData, around one run folder."""

    subcommand: str
    weights: Weights | None = None

    def __init__(self) -> None:
        super().__init__(
            model_class=RunModule,
            datamodule_class=RunData,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            parser_class=Parser,
            auto_configure_optimizers=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run", type=str | None, default=None, help="run folder (default: runs/<name of the first config>)"
        )
        parser.add_argument(
            "--seed",
            type=int | None,
            default=None,
            help="seed_everything (weights), model.seed (noise), data.seed (order) at once",
        )
        flags = {
            "--prepare": "fetch and check what the config needs, train nothing",
            "--find_batch": "find how many images fit one device, print the options that keep the batch, train nothing",
        }
        for flag, what in flags.items():
            parser.add_argument(flag, type=bool, default=False, nargs="?", const=True, help=f"fit: {what}")
        parser.add_argument(
            "--output", type=str | None, default=None, help="predict: folder for the images (default: <run>/images)"
        )
        parser.add_argument("--num_images", type=int | None, default=None, help="predict: how many images to draw")
        parser.add_class_arguments(WandbOptions, "wandb")
        for key, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
        parser.set_defaults({"trainer.use_distributed_sampler": False, "trainer.num_sanity_val_steps": 0})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        options = self.config[self.config["subcommand"]]
        check_seeds(options)
        check_numbers({k: v for k, v in options.items() if k != "config"})
        apply_seed(self.config[self.config["subcommand"]])

    # The run folder.

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let hyper-parameters inside the file overrule config and command line."""

    def before_instantiate_classes(self) -> None:
        options = self.config[self.subcommand]
        if not options.get("config"):
            raise UserError(f"give a config: python train.py {self.subcommand} --config configs/train/NAME.yaml")
        check_trainer_options(options.trainer, here=not options.get("prepare"))
        if options.trainer.enable_progress_bar is None and not sys.stdout.isatty():
            options.trainer.enable_progress_bar = False  # a log file gets lines, see callbacks/progress_line.py
        self.says_size = without_summary(options.trainer)
        self.run = RunFolder(self._folder(options), complete=self._complete)
        if self.subcommand != "fit":
            options.ckpt_path = options.get("ckpt_path") or self._last()
            return
        if options.get("ckpt_path"):
            raise UserError(
                "fit takes no --ckpt_path: the same command again continues the run in its folder, see --run"
            )
        options.ckpt_path = str(self.run.last_checkpoint) if self.run.last_checkpoint else None
        if options.prepare or options.find_batch:
            to_try = on_one_device if options.find_batch else on_this_machine
            self.plain_config, self.wanted = self._plain(), to_try(options.trainer)
            return
        # Read-only here: the folder is made when data and network are known to be right. Under torchrun every process
        # must refuse, or the others wait for the first one for ever.
        self.plain_config = self._plain()
        self.run.compare(self.plain_config)
        if is_over(self.run, options.trainer):
            raise SystemExit(0)
        self.goes_on = going_on(self.run)
        options.ckpt_path = str(self.goes_on.checkpoint) if self.goes_on else None

    def _folder(self, options: Any) -> str | Path:
        """The run folder; a trial (trainer.fast_dev_run) has one that goes with the process."""
        if self.subcommand == "fit" and options.trainer.fast_dev_run:
            self.scratch = TemporaryDirectory(prefix="palimpsest-trial-")
            return self.scratch.name
        return options.run or Path("runs") / Path(str(options.config[0])).stem / agent_part()

    def _last(self) -> str:
        found = going_on(self.run)
        if found is None:
            raise UserError(f"there is no checkpoint in '{self.run.path}': give --ckpt_path, or train first")
        return str(found.checkpoint)

    def _complete(self, stored: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._plain(subcommand_parser(self, self.subcommand).parse_object(modernised(stored, warn=False)))
        except UserError:  # an option of then is unknown now: the comparison names it
            return stored

    def _plain(self, config: Any = None) -> dict[str, Any]:
        text = subcommand_parser(self, self.subcommand).dump(
            config or self.config[self.subcommand], skip_none=False, skip_validation=True
        )
        plain = yaml.safe_load(text)
        return {k: v for k, v in plain.items() if k not in ("config", "ckpt_path", "prepare", "find_batch")}

    def instantiate_classes(self) -> None:
        """UserError with the reason that a constructor gave, its key and where that stands."""
        try:
            super().instantiate_classes()
        except (UserError, ValueError) as error:
            raise placed(error, self.config[self.subcommand], CALLBACKS, sys.argv[1:]) from error

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        options = self.config_init[self.subcommand]
        try:
            trainer = super().instantiate_trainer(
                default_root_dir=str(self.run.path),
                logger=False,
                plugins=[AtomicCheckpointIO(), *(options.trainer.plugins or [])],
                **kwargs,
            )
        except (ValueError, MisconfigurationException) as error:
            raise UserError(f"an option of the trainer does not fit: {str(error).partition('. ')[0]}") from error
        if self.subcommand == "fit":
            self.datamodule.batch_per_process(trainer.world_size)  # before processes start and data are read
            self.model.check_trainer(trainer)
            check_strategy(self.model, trainer)
            bound_meeting(trainer)
            if not (options.prepare or options.find_batch):
                self.metrics = MetricsCSV(self.run.path)
                getattr(trainer, "callbacks").insert(0, BeginRun(self.begin_run))  # noqa: B009  (Lightning sets it)
        return trainer

    def begin_run(self, trainer: pl.Trainer) -> None:
        """Run folder and logs, once data, network and features are right: a typo leaves neither behind."""
        if is_first_process():
            self.run.open(self.plain_config)
            if self.says_size:
                print(self.model.describe_size(), flush=True)
            if self.goes_on is None:
                self.metrics.resume_at(0, 0)  # rows of a start that was killed before its first checkpoint
            else:
                self.goes_on.set_aside_damaged(self.run)
                self.metrics.resume_at(self.goes_on.step, self.goes_on.rows)
                print(f"continuing '{self.run.path}' at step {self.goes_on.step}")
        if not self._trainer_parts.fast_dev_run:
            online = wandb_logger(WandbOptions(**vars(self.config_init["fit"].wandb)), self.run, self.plain_config)
            trainer.loggers = [self.metrics] if online is None else [self.metrics, online]

    @property
    def _trainer_parts(self) -> Any:
        """The trainer, for what Lightning gives it in other places than its class."""
        return self.trainer

    def before_fit(self) -> None:
        options = self.config_init["fit"]
        if options.prepare or options.find_batch:
            (find_batch if options.find_batch else prepare)(self)
            raise SystemExit(0)

    def after_fit(self) -> None:
        if self.trainer.is_global_zero:
            end_of(self.run, self.trainer, self.model)

    def before_validate(self) -> None:
        if isinstance(self.model, DeepImagePrior):
            raise UserError(
                f"{self.subcommand} measures what was trained, and a deep image prior is fitted to the picture itself:"
                " use fit, or restore.py"
            )
        self.weights = checked_weights(self.model, self.config_init[self.subcommand].ckpt_path)

    before_test = before_validate

    def validate(self, ckpt_path: str, **kwargs: Any) -> None:
        """Measure a training checkpoint, or a released .safetensors file, on the validation images."""
        self.trainer.validate(ckpt_path=self._to_restore(ckpt_path), **kwargs)

    def test(self, ckpt_path: str, **kwargs: Any) -> None:
        """As validate, on the test images."""
        self.trainer.test(ckpt_path=self._to_restore(ckpt_path), **kwargs)

    def _to_restore(self, path: str) -> str | None:
        """What the trainer is to restore: nothing where the file is released weights, which the network then has."""
        if not str(path).endswith(".safetensors"):
            return path
        if any(".base_layer." in name for name in self.model.network.state_dict()):
            raise UserError(
                f"--ckpt_path '{path}' holds plain weights, and model trains an adapter: give a .ckpt of it, or the"
                " config of a plain prior"
            )
        assert self.weights is not None  # such a file is refused for what has nothing to compare
        load_weights(self.model.network, self.weights, where=f"--ckpt_path '{path}'")
        return None

    def before_predict(self) -> None:
        if not isinstance(self.model, PriorModule):
            raise UserError(
                f"predict draws images from a prior, and model is a {type(self.model).__name__}: give the config of a"
                " prior"
            )
        trains = module_of_the_loss(self.model)
        if isinstance(trains, ColdDiffusion) and trains.start is None:
            raise UserError(
                "model.start is null, so this restorer does not generate: give a start of diffusion/cold_starts/, or"
                " restore with evaluate.py"
            )
        self.weights = checked_weights(self.model, self.config_init["predict"].ckpt_path)
        options = self.config_init["predict"]
        if options.num_images is not None:
            if options.num_images < 1:
                raise UserError(f"num_images must be at least 1, got {options.num_images}")
            self.datamodule.predict_images = options.num_images
        self.datamodule.prepare_data = lambda: None  # drawing needs no data set
        folder = require_writable_folder(options.output or self.run.path / "images", "output")
        self._trainer_parts.callbacks.append(WriteImages(folder))
        print(f"drawing {self.datamodule.predict_images} images into '{folder}'")

    def predict(self, ckpt_path: str, **kwargs: Any) -> None:
        """Draw images from a training checkpoint, or from a released .safetensors prior."""
        self.trainer.predict(
            model=self.model,
            datamodule=self.datamodule,
            ckpt_path=self._to_restore(ckpt_path),
            return_predictions=False,
        )

"""Trains an adapter beside a prior whose weights stay as they are: Hu et al. 2021 (2106.09685)."""

from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch

from checkpoints.lora.files import KEY, Adapter, Base, describe_adapter, write_adapter
from common.batch import Batch
from common.errors import UserError
from lightning_modules.fine_tuning import FineTuning
from networks.lora import adapter_state, add_adapter, base_state, public_name
from networks.lora_settings import ATTENTION_AND_CONVOLUTIONS, LoRASettings, chosen


class LoRAFineTuning(FineTuning):
    """FineTuning of A and B alone, W + alpha / rank B A on chosen layers: A random, B zero at the start, so that it
    begins as the prior.

    Optimiser, average and checkpoints hold the adapter only, and checkpoints the prior's path and hash: wherever a
    prior is taken, such a checkpoint serves while that prior is there. At the end of training <run>/adapter has it
    (the average where there is one) in peft's format; checkpoints/merge_adapters.py makes plain weights of it.

    Args:
        targets: which layers, patterns of their names (networks/lora_settings.py).
        rank: r, rows of A and columns of B: 1 or more (default 8).
        alpha: numerator of the factor alpha / rank; null: the rank, thus factor 1.
        dropout: of what A is given, in training, in [0, 1).
        rslora: factor alpha / sqrt(rank) in place of alpha / rank (Kalajdzievski 2023, 2312.03732).
        dora: train the length of each output's weights too (Liu et al. 2024, 2402.09353).

    Raises:
        UserError: a pattern that matches nothing and for values out of range.
    """

    def __init__(
        self,
        *,
        prior: str,
        weights: Literal["ema", "raw"] = "ema",
        preset: str | None = None,
        training: dict[str, Any] | str | None = None,
        targets: list[str] | str = ATTENTION_AND_CONVOLUTIONS,
        rank: int = 8,
        alpha: float | None = None,
        dropout: float = 0.0,
        rslora: bool = False,
        dora: bool = False,
        learning_rate: float = 1e-3,
        **options,
    ) -> None:
        super().__init__(
            prior=prior, weights=weights, preset=preset, training=training, learning_rate=learning_rate, **options
        )
        layers = chosen(self.network, targets)
        alpha = float(rank if alpha is None else alpha)
        self.settings = LoRASettings(layers=layers, rank=rank, alpha=alpha, dropout=dropout, rslora=rslora, dora=dora)
        add_adapter(self.network, self.settings)
        self.strict_loading = False  # the prior's weights are not in the checkpoint

    def check_trainer(self, trainer: pl.Trainer) -> None:
        super().check_trainer(trainer)
        callbacks = getattr(trainer, "callbacks")  # noqa: B009  (Lightning sets it outside of the class)
        if any(getattr(callback, "snapshot_every_n_images", None) is not None for callback in callbacks):
            raise UserError(
                "ema.snapshot_every_n_images writes whole priors, and model trains an adapter beside one, which they"
                " would not hold: leave it out"
            )

    @property
    def adapter(self) -> Adapter:
        """What is to be released: the averaged adapter where there is an average, else the raw one."""
        if self.average is None:
            tensors = adapter_state(self.network)
        else:
            tensors = {public_name(n): t for n, t in self.average.weights().items() if ".lora_" in n}
        return Adapter(self.settings, tensors, self.base_hash)

    def descriptions(self, data: str) -> dict[str, Any]:
        known = {"path": self.prior_path, "weights": self.prior_weights, "preset": self.prior_preset}
        base = Base(**known, hash=self.base_hash, images=self.images_side_by_side)
        return {**super().descriptions(data), KEY: describe_adapter(self.settings, base)}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["state_dict"] = _adapter_only(checkpoint["state_dict"])
        if "ema" in checkpoint:
            checkpoint["ema"]["weights"] = _adapter_only(checkpoint["ema"]["weights"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        found = checkpoint.get(KEY)
        if not isinstance(found, dict):
            raise UserError(
                "the checkpoint holds no adapter: give the config that it was trained with, or start another --run"
            )
        ours = self.descriptions("")[KEY]
        if found.get("settings") != ours["settings"]:
            raise UserError(
                "the checkpoint's adapter has other targets, rank or alpha than model: give the config that it was"
                " trained with"
            )
        if found.get("base", {}).get("hash") != self.base_hash:
            raise UserError(
                f"the prior '{self.prior_path}' is not the one that the checkpoint's adapter was trained beside: put"
                " that one back"
            )
        super().on_load_checkpoint(checkpoint)
        missing = set(_adapter_only(self.state_dict())) - set(checkpoint["state_dict"])
        if missing:
            raise UserError(
                f"the checkpoint lacks '{sorted(missing)[0]}' of the adapter: it is damaged, take an earlier one"
            )

    def on_train_end(self) -> None:
        if self.trainer.is_global_zero and not self.trainer_parts.fast_dev_run:
            write_adapter(Path(self.trainer.default_root_dir) / "adapter", self.adapter, base_name=self.prior_path)

    def flops_per_image(self, batch: Batch) -> int:
        """Forward, and the gradient of what the layers are given: weights have none. The adapter's own few per cent are
        not counted.
        """
        return 2 * super().flops_per_image(batch) // 3

    def describe_size(self) -> str:
        trained = sum(p.numel() for p in self.network.parameters() if p.requires_grad)
        return f"{super().describe_size()}, {trained:,} of them trained"

    def base_weights(self) -> dict[str, torch.Tensor]:
        """The prior's own weights, which training leaves as they are."""
        return base_state(self.network)


def _adapter_only(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in state.items() if ".lora_" in name}

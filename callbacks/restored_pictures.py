"""Writes what a deep image prior has restored so far: the pictures, what they went through, the criterion's curves, and
how good they are.
"""

import csv
import io
from itertools import accumulate
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import WandbLogger
from torch import Tensor

from common.files import write_atomically
from common.image_range import to_uint8
from common.pictures import as_picture, png_bytes
from inference.iterates import Iterates, curves, in_a_row, strip, table, with_iterations
from lightning_modules.deep_image_prior import DeepImagePrior, Group
from metrics.distortion import psnr, ssim
from metrics.psnr_of_mask import PSNRMissing
from restoration.stopping.staged import StagedWatch

SHOWN = 8  # pictures in W&B
# iterations that Iterates keeps
DUE = frozenset(accumulate(range(40), lambda k, _: max(k + 1, round(k * 2**0.5)), initial=1))
SMALLEST_SSIM = 11  # pixels: the side of its window


class Stages:
    """The best iterate of each target that a criterion of several stages fitted before the picture itself.

    present: the stage that the picture is in. kept: (stage, its iteration, 8-bit pixels) of those that have ended.
    """

    def __init__(self) -> None:
        self.present = 0
        self.kept: list[tuple[int, int, Tensor]] = []

    def __call__(self, present: int, best: Tensor, answer: Tensor) -> None:
        """Keep the answer [C, H, W] where a stage has ended: it is that one's best until the next one has a best.

        best: the best iteration of every stage, counted from its beginning.
        """
        if present > self.present:
            self.kept.append((self.present, int(best[self.present]), to_uint8(answer.float()).cpu()))
            self.present = present

    def shown(self) -> list[tuple[str, Tensor]]:
        return [(f"fit {stage + 1}, iteration {iteration}", pixels) for stage, iteration, pixels in self.kept]


class RestoredPictures(pl.Callback):
    """With every checkpoint and at the end, into <run>/restored/: NAME.png, NAME_iterates.png, NAME_curve.png and .csv,
    NAME_stages.png where the criterion fits several targets (the best iterate of each), and pictures.csv for all of
    them.

    Args:
        enabled: false writes and logs none of it. Does nothing for a model that is trained. Logged every
            log_every_n_steps, the mean over the pictures whose truth is known: restored/psnr, of the answer so far;
            restored/psnr_raw and restored/psnr_average, of the newest output and of its average;
            restored/psnr_missing, of the answer where a mask hides the pixels. At the end also
            restored/ssim and restored/iterations, at which they stopped.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._iterates: dict[int, Iterates] = {}
        self._stages: dict[int, Stages] = {}
        self._written: tuple[int, bool] = (-1, False)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: DeepImagePrior, outputs: object, batch: object, batch_idx: int
    ) -> None:
        if not self._works(pl_module):
            return
        for group in pl_module.active:
            self._keep_stages(group)
            if group.fit.iteration not in DUE:  # to ask whether one has stopped waits for the device
                continue
            for k, stopped in enumerate(group.fit.stopped.tolist()):
                if not stopped:
                    self._kept(group, k)(
                        group.fit.iteration - 1, group.fit.settings.iterations, group.fit.average[k : k + 1]
                    )
        if pl_module.is_logged_step:
            for name, value in _means(trainer, pl_module).items():
                pl_module.log(name, torch.tensor(value))

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: DeepImagePrior, checkpoint: dict[str, Any]) -> None:
        if self._works(pl_module):
            checkpoint["iterates"] = pl_module.gathered({row: dict(vars(kept)) for row, kept in self._iterates.items()})
            checkpoint["stages"] = pl_module.gathered({row: dict(vars(kept)) for row, kept in self._stages.items()})
            self._write(trainer, pl_module)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: DeepImagePrior, checkpoint: dict[str, Any]) -> None:
        for row, state in checkpoint.get("iterates", {}).items():
            self._iterates[row] = Iterates()
            vars(self._iterates[row]).update(state)
        for row, state in checkpoint.get("stages", {}).items():
            self._stages[row] = Stages()
            vars(self._stages[row]).update(state)

    def on_train_end(self, trainer: pl.Trainer, pl_module: DeepImagePrior) -> None:
        if not self._works(pl_module):
            return
        self._write(trainer, pl_module)
        values = {**_means(trainer, pl_module, whole=True), "images": float(pl_module.images_seen)}
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics(values, step=trainer.global_step)

    def _works(self, pl_module: DeepImagePrior) -> bool:
        return self.enabled and isinstance(pl_module, DeepImagePrior)

    def _kept(self, group: Group, k: int) -> Iterates:
        return self._iterates.setdefault(group.rows[k], Iterates())

    def _keep_stages(self, group: Group) -> None:
        watch = group.fit.watch
        if isinstance(watch, StagedWatch):
            for k, present in enumerate(watch.stage.tolist()):
                stages = self._stages.setdefault(group.rows[k], Stages())
                stages(present, watch.best[k], group.fit.answer[k])

    def _write(self, trainer: pl.Trainer, pl_module: DeepImagePrior) -> None:
        now = (trainer.global_step, pl_module.complete)
        if now == self._written:
            return
        self._written = now
        folder, strips, rows = Path(trainer.default_root_dir) / "restored", [], {}
        for group, k in pl_module.pictures:
            name, answer, truth = (
                group.names[k],
                _one(group.fit.answer, k),
                None if group.truth is None else _one(group.truth, k),
            )
            if not bool(torch.isfinite(answer).all()):
                continue  # callbacks/finite_loss.py says it
            write_atomically(folder / f"{name}.png", png_bytes(as_picture(answer)))
            if len(self._kept(group, k).kept) > 1:
                strips.append((strip(self._kept(group, k), answer, truth), f"{name}: {_state(group, k)}"))
                write_atomically(folder / f"{name}_iterates.png", png_bytes(strips[-1][0]))
            if (stages := self._stages.get(group.rows[k])) is not None and stages.kept:
                shown = [*stages.shown(), ("answer", to_uint8(answer))]
                write_atomically(folder / f"{name}_stages.png", png_bytes(in_a_row(shown, truth)))
            self._write_curves(folder, name, group, k)
            rows[group.rows[k]] = {
                "picture": name,
                "psnr": _text(_quality(answer, truth)[0]),
                "ssim": _text(_quality(answer, truth)[1]),
                "psnr_missing": _text(_of_missing(group, k, answer, truth)),
                "iterations": int(group.fit.stopped_at[k]) or group.fit.iteration,
                "why": _state(group, k),
            }
        rows = pl_module.gathered(rows)
        if trainer.is_global_zero:
            write_atomically(folder / "pictures.csv", _csv([rows[row] for row in sorted(rows)]))
            self._show(trainer, strips)

    @staticmethod
    def _write_curves(folder: Path, name: str, group: Group, k: int) -> None:
        fit = group.fit
        trace = with_iterations({value: rows[k] for value, rows in fit.curves().items()}, fit.iteration)
        marks = {"stopped": int(fit.stopped_at[k])} if bool(fit.stopped[k]) else {}
        marks |= {"answer": int(fit.kept_at[k])} if bool(fit.kept[k]) else {}
        picture = curves(trace, marks)
        if picture is not None:
            write_atomically(folder / f"{name}_curve.png", png_bytes(picture))
            write_atomically(folder / f"{name}_curve.csv", table(trace))

    @staticmethod
    def _show(trainer: pl.Trainer, strips: list[tuple[np.ndarray, str]]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and strips:
                shown = strips[:SHOWN]
                logger.log_image(
                    "restored",
                    [picture for picture, _ in shown],
                    step=trainer.global_step,
                    caption=[words for _, words in shown],
                )


def _one(images: Tensor, k: int) -> Tensor:
    return images[k].detach().float().cpu()


def _state(group: Group, k: int) -> str:
    over = bool(group.fit.stopped[k]) or group.fit.iteration >= group.fit.settings.iterations
    return group.fit.reason(k) if over else f"iteration {group.fit.iteration}"


def _quality(x: Tensor, truth: Tensor | None) -> tuple[float, float]:
    """(PSNR, SSIM) of [C, H, W] in [-1, 1] as 8-bit pictures; NaN where there is no truth, or a side is too short."""
    if truth is None or not bool(torch.isfinite(x).all()):
        return float("nan"), float("nan")
    a, b = to_uint8(x)[None], to_uint8(truth)[None]
    return float(psnr(a, b)), float(ssim(a, b)) if min(a.shape[2:]) >= SMALLEST_SSIM else float("nan")


def _of_missing(group: Group, k: int, x: Tensor, truth: Tensor | None) -> float:
    """PSNR of [C, H, W] in [-1, 1] where the mask of row k is 0; NaN where there is no truth or nothing is missing."""
    if truth is None or not bool(torch.isfinite(x).all()):
        return float("nan")
    return float(PSNRMissing()(to_uint8(x)[None], to_uint8(truth)[None], group.fit.measurement.pick([k])))


def _means(trainer: pl.Trainer, pl_module: DeepImagePrior, *, whole: bool = False) -> dict[str, float]:
    """The mean of each measure over the pictures of all processes that have it; all processes must call it."""
    names = ("psnr", "psnr_raw", "psnr_average", "psnr_missing", "ssim", "iterations")
    found: dict[str, list[float]] = {name: [] for name in names}
    for group, k in pl_module.pictures:
        fit, truth = group.fit, None if group.truth is None else _one(group.truth, k)
        found["iterations"].append(float(int(fit.stopped_at[k]) or fit.iteration))
        if truth is None:
            continue
        first, second = _quality(_one(fit.answer, k), truth)
        found["psnr"].append(first)
        found["ssim"].append(second)
        found["psnr_missing"].append(_of_missing(group, k, _one(fit.answer, k), truth))
        for name, image in (("psnr_raw", fit.output), ("psnr_average", fit.average)):
            found[name].append(_quality(_one(image, k), truth)[0])
    good = {name: [v for v in values if v == v] for name, values in found.items()}
    sums = torch.tensor(
        [[sum(values), len(values)] for values in good.values()], dtype=torch.float64, device=pl_module.device
    )
    if trainer.world_size > 1:
        sums = trainer.strategy.reduce(sums, reduce_op="sum")
    means = {
        f"restored/{name}": total / count for name, (total, count) in zip(good, sums.tolist(), strict=True) if count
    }
    return {
        name: value for name, value in means.items() if whole or name not in ("restored/ssim", "restored/iterations")
    }


def _text(value: float) -> str:
    return "" if value != value else f"{value:.4f}"


def _csv(rows: list[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else ["picture"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()

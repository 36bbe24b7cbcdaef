"""What every training shares: no look at the device between logged steps, one norm of the gradient, the fused
optimiser, the loss of the global batch.
"""

import pytest
import torch
from helpers import tiny_digits, tiny_module, tiny_trainer
from torch import Tensor

from callbacks.ema import EMA
from callbacks.finite_loss import FiniteLoss
from callbacks.health import Health
from callbacks.metrics_csv import MetricsCSV
from callbacks.preemption import Preemption


class Recorder(MetricsCSV):
    """Rows as they are logged."""

    def __init__(self, folder) -> None:
        super().__init__(folder)
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))


def fit(folder, *callbacks, module=None, batch_size=8, **options):
    module, recorder = module or tiny_module(), Recorder(folder)
    options = {"max_steps": 4, "limit_val_batches": 0, "log_every_n_steps": 1, "logger": recorder, **options}
    tiny_trainer(folder, *callbacks, **options).fit(module, datamodule=tiny_digits(batch_size=batch_size))
    return module, [row for _, row in recorder.rows]


def test_nothing_waits_for_the_device_between_logged_steps(tmp_path, monkeypatch):
    """Every way by which a tensor becomes a number of the host is counted, step by step; on an accelerator each would
    wait for the device.

    FiniteLoss looks at every step on a CPU only: here it is told that this is another device.
    """
    looks: list[int] = []
    trainer = tiny_trainer(
        tmp_path,
        EMA(profile="power"),
        FiniteLoss(every_n_steps=100),
        Health(),
        Preemption(),
        max_steps=12,
        limit_val_batches=0,
        log_every_n_steps=5,
        logger=Recorder(tmp_path),
        gradient_clip_val=1.0,
    )
    module = tiny_module()
    monkeypatch.setattr("callbacks.finite_loss.waits_for_device", lambda tensor: True)

    def counted(name):
        original = getattr(Tensor, name)

        def method(self, *args, **kwargs):
            looks.append(trainer.global_step)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(Tensor, name, method)

    original_step, bounds = module.on_train_batch_end, []

    def end(outputs, batch, batch_idx):
        original_step(outputs, batch, batch_idx)
        bounds.append(len(looks))

    module.on_train_batch_end = end
    original_start = module.training_step

    def begin(batch, batch_idx):
        bounds.append(len(looks))
        return original_start(batch, batch_idx)

    module.training_step = begin
    for name in ("item", "__float__", "__int__", "__bool__", "tolist", "cpu", "numpy"):
        counted(name)
    trainer.fit(module, datamodule=tiny_digits(batch_size=8))
    inside = [bounds[2 * k + 1] - bounds[2 * k] for k in range(12)]
    # `step` of a fused optimiser and everything else stay on the device; a logged step looks once.
    assert [n > 0 for n in inside] == [k % 5 == 4 for k in range(12)], inside


@pytest.mark.parametrize("clip", [None, 1e-2, 1e9])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_the_norm_before_clipping_is_logged_and_clipping_is_torchs(clip, algorithm, tmp_path):
    """The second step of a run of one parameter set, by hand."""
    options = {} if clip is None else {"gradient_clip_val": clip, "gradient_clip_algorithm": algorithm}
    seen = []

    class Look(FiniteLoss):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            seen.append([None if p.grad is None else p.grad.clone() for p in pl_module.network.parameters()])

    _, rows = fit(tmp_path, EMA(), Look(), max_steps=2, **options)
    raw = []

    class Raw(FiniteLoss):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            raw.append([p.grad.clone() for p in pl_module.network.parameters()])

    fit(tmp_path, EMA(), Raw(), max_steps=1, **options)
    norm = torch.cat([g.flatten() for g in raw[0]]).norm()
    assert rows[0]["train/grad_norm"] == pytest.approx(float(norm), rel=1e-5)
    after = next(g for g in seen if g[0] is not None)
    plain = raw[0]
    if clip is not None and algorithm == "norm":
        plain = [g * min(1.0, clip / float(norm)) for g in raw[0]]
    elif clip is not None:
        plain = [g.clamp(-clip, clip) for g in raw[0]]
    for a, b in zip(after, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)


def test_the_fused_step_is_the_plain_step(tmp_path):
    weights = []
    for fused in (True, False):
        module = tiny_module(fused=fused)
        module, _ = fit(tmp_path, EMA(), module=module, gradient_clip_val=1.0)
        assert bool(module.optimizers().param_groups[0]["fused"]) is fused
        weights.append(module.network.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fused", [True, False])
def test_a_fused_run_continues_a_plain_one_and_the_other_way(fused, tmp_path):
    trainer = tiny_trainer(tmp_path, EMA(), max_steps=2, limit_val_batches=0)
    trainer.fit(tiny_module(fused=not fused), datamodule=tiny_digits())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    module = tiny_module(fused=fused)
    again = tiny_trainer(tmp_path, EMA(), max_steps=4, limit_val_batches=0)
    again.fit(module, datamodule=tiny_digits(), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert again.global_step == 4 and bool(again.optimizers[0].param_groups[0]["fused"]) is fused
    whole, _ = fit(tmp_path, EMA(), module=tiny_module(fused=fused), batch_size=16)
    for name, value in whole.network.state_dict().items():
        torch.testing.assert_close(value, module.network.state_dict()[name], atol=1e-5, rtol=1e-4)


def test_a_fused_optimiser_clips_in_bfloat16(tmp_path):
    """Lightning's own clipping refuses that."""
    _, rows = fit(tmp_path, EMA(), precision="bf16-mixed", gradient_clip_val=1.0)
    assert len(rows) == 4 and all(r["train/grad_norm"] > 0 for r in rows)


def test_sixteen_bits_unscale_before_they_clip(tmp_path):
    """The scaler multiplies the loss by 65,536: the norm that is logged and clipped is that of the gradient itself."""

    def rows(precision):
        return fit(tmp_path, EMA(), FiniteLoss(), precision=precision, gradient_clip_val=1.0)[1]

    try:
        half = rows("16-mixed")
    except Exception as error:  # half precision on a CPU is not in every build
        pytest.skip(f"16-mixed does not run here: {error}")
    assert half[0]["train/grad_norm"] == pytest.approx(rows("32-true")[0]["train/grad_norm"], rel=0.05)


def test_the_loss_that_is_logged_is_that_of_the_whole_step(tmp_path):
    """Two parts of 4 images: their mean, once a step, at the images after the step."""
    losses = []
    module = tiny_module()
    original = module.losses

    def noted(batch, generator):
        loss = original(batch, generator)
        losses.append(float(loss.detach().mean()))
        return loss

    module.losses = noted
    _, rows = fit(tmp_path, EMA(), module=module, batch_size=4, accumulate_grad_batches=2, max_steps=3)
    assert [r["train/loss"] for r in rows] == pytest.approx(
        [(a + b) / 2 for a, b in zip(losses[::2], losses[1::2], strict=True)], rel=1e-6
    )
    assert [r["images"] for r in rows] == [8, 16, 24]


def test_repeating_a_step_gives_its_loss_and_moves_nothing(tmp_path):
    module, recorded = tiny_module(), []
    original = module.losses

    def noted(batch, generator):
        recorded.append((batch, module.images_seen))
        return original(batch, generator)

    module.losses = noted
    fit(tmp_path, EMA(), module=module, max_steps=1)
    module.losses = original
    before = torch.get_rng_state(), module.images_seen
    batch, seen = recorded[0]
    # A network of zeros: what is left of the loss is the noise and the time that were drawn.
    with torch.no_grad():
        for p in module.network.parameters():
            p.zero_()
    with module.again(seen):
        first, second = float(module.repeat(batch)), float(module.repeat(batch))
    with module.again(seen + 8):
        other = float(module.repeat(batch))
    assert first == second != other
    assert torch.equal(before[0], torch.get_rng_state()) and module.images_seen == before[1]
    assert "log" not in vars(module)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("uniform", [False, True])
def test_noise_of_several_processes_is_the_noise_of_one(world, uniform):
    def noise(rank: int, world: int, size: int) -> Tensor:
        module = tiny_module()
        module._trainer = type("Trainer", (), {"world_size": world, "global_rank": rank})()
        module._fabric = None
        return module.global_noise((size, 1, 2, 2), torch.Generator().manual_seed(3), uniform=uniform)

    assert torch.equal(torch.cat([noise(rank, world, 8 // world) for rank in range(world)]), noise(0, 1, 8))


def test_tf32_is_what_the_option_says():
    def flags() -> tuple[bool | str, bool]:
        return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    try:
        for value in (None, True, False):
            tiny_module(tf32=value).on_fit_start()
            assert flags() == (before if value is None else (value, value))
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before

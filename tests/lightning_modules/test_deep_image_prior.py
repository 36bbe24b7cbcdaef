"""Lightning around a deep image prior changes none of its numbers: precision, callbacks, neighbours, processes,
interruptions.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from dip_worlds import every_callback, fitted, stops_soon, tiny_pictures, tiny_prior
from helpers import ROOT, environment, tiny_digits, tiny_module, tiny_trainer

from callbacks.early_stopping import EarlyStopping
from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.box_mask import BoxMask
from lightning_modules.dip_groups import dealt, groups_of
from restoration.deep_image_prior.terms.base import ActiveTerm, Term
from restoration.stopping.fixed import FixedIterations
from restoration.stopping.multi_noise import MultiNoiseEarlyStopping
from restoration.stopping.oracle import Oracle


def alone(module, data, row, dtype):
    """The answer of the method itself for one picture, with the sentence that says why it stopped."""
    measurement = data.measurement([row])
    truth = measurement.truth if module.method.uses_truth else None
    measurement = type(measurement)(
        y=measurement.y.to(dtype),
        operator=measurement.operator,
        noise=measurement.noise,
        index=measurement.index,
        truth=None if truth is None else truth.to(dtype),
    )
    found = module.method.restore(measurement, random=RandomStreams(module.seed))
    return found.samples[0, 0], found.notes[0]


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stopping": Oracle()},
        {"langevin": 0.05, "input": "normal"},
        {"learning_rate_schedule": "cosine", "jitter_schedule": "exponential", "jitter_law": "sign"},
    ],
    ids=["plain", "oracle", "langevin", "scheduled"],
)
def test_twenty_steps_are_those_of_the_method_alone(together, options, tmp_path):
    """In float64 with every callback: exactly, one picture after the other; to the last digits where several networks
    are one convolution.
    """
    module, data = tiny_prior(together=together, seed=3, **options), tiny_pictures(3)
    trainer = fitted(tmp_path, module, data, precision="64-true")
    assert trainer.global_step == 20 and module.complete and module.images_seen == 60
    assert [len(group.rows) for group in module.groups] == [1, 1, 1][: 3 // together] or together == 3
    for group, k in module.pictures:
        answer, note = alone(module, data, group.rows[k], torch.float64)
        if together == 1:
            assert torch.equal(group.fit.answer[k], answer)
            assert group.fit.reason(k) == note
        else:
            torch.testing.assert_close(group.fit.answer[k], answer, atol=1e-9, rtol=0)


def test_missing_pixels_and_float32_too(tmp_path):
    module, data = tiny_prior(seed=1), tiny_pictures(2, degradation=BoxMask(size=6))
    fitted(tmp_path, module, data, callbacks=[EarlyStopping()])
    for group, k in module.pictures:
        assert torch.equal(group.fit.answer[k], alone(module, data, group.rows[k], torch.float32)[0])


def test_bf16_mixed_is_the_networks_precision(tmp_path):
    module, data = tiny_prior(), tiny_pictures(1)
    fitted(tmp_path, module, data, callbacks=[EarlyStopping()], precision="bf16-mixed")
    fit = module.groups[0].fit
    assert fit.settings.bf16 and fit.answer.dtype == torch.float32
    exact = alone(module, data, 0, torch.float32)[0]
    assert 0 < (fit.answer[0] - exact).abs().max() < 0.3


class SeesPrecision(Term, ActiveTerm):
    """Adds nothing, and remembers whether what is beside the network is computed in half precision."""

    def __init__(self) -> None:
        self.seen = []

    def begin(self, measurement, *, random, iterations):
        return self

    def loss(self, output, iteration):
        self.seen.append(torch.is_autocast_enabled("cpu"))
        return 0 * output.flatten(1).sum(1)


def test_bf16_mixed_is_the_precision_of_the_network_alone(tmp_path):
    """Data term, terms and criterion are in float32, as without Lightning: the same iterations, bit for bit."""
    term = SeesPrecision()
    module, data = tiny_prior(terms=[term], iterations=5), tiny_pictures(1)
    fitted(tmp_path, module, data, callbacks=[EarlyStopping()], precision="bf16-mixed")
    assert term.seen == [False] * 5
    module.method.changes["bf16"] = True
    assert torch.equal(module.groups[0].fit.answer[0], alone(module, data, 0, torch.float32)[0])


def test_each_picture_has_its_own_end(tmp_path, capsys):
    """A fixed criterion cannot differ, so the early one is asked; the run ends with the last picture, and each says
    why.
    """
    module, data = tiny_prior(stopping=stops_soon(), iterations=400), tiny_pictures(3)
    trainer = fitted(tmp_path, module, data)
    ends = [int(group.fit.stopped_at[k]) for group, k in module.pictures]
    assert len(set(ends)) > 1 and max(ends) == trainer.global_step < 400
    assert module.images_seen == sum(ends)
    printed = capsys.readouterr().out
    for group, k in module.pictures:
        assert group.fit.reason(k) == alone(module, data, group.rows[k], torch.float32)[1]
        assert f"{group.names[k]}: {group.fit.reason(k)}" in printed


# begins again from the first weights after half of the iterations
STAGED = MultiNoiseEarlyStopping(levels=[2.0, 1.0], patience=2, smooth=1)


@pytest.mark.parametrize(
    ("stopping", "steps"),
    [(Oracle(), 5), (STAGED, 5), (STAGED, 13)],
    ids=["oracle", "staged", "staged in its second pass"],
)
def test_some_steps_and_the_rest_are_twenty(stopping, steps, tmp_path):
    """Weights, moments, averages, criterion, jitter, schedules, Langevin noise, backtracking: bit for bit through a
    checkpoint.
    """
    options = {"langevin": 0.05, "stopping": stopping, "seed": 2, "iterations": 20}
    options |= {"learning_rate_schedule": "cosine", "jitter_schedule": "exponential"}
    whole, data = tiny_prior(**options), tiny_pictures(2)
    fitted(tmp_path / "whole", whole, data)
    first = tiny_prior(**options)
    fitted(tmp_path / "parts", first, tiny_pictures(2), max_steps=steps)
    assert not first.complete
    second = tiny_prior(**options)
    trainer = fitted(tmp_path / "parts", second, tiny_pictures(2), ckpt=tmp_path / "parts/checkpoints/last.ckpt")
    assert second.complete and trainer.global_step > steps and second.images_seen == whole.images_seen
    for (a, k), (b, _) in zip(whole.pictures, second.pictures, strict=True):
        assert torch.equal(a.fit.answer[k], b.fit.answer[k]) and torch.equal(a.fit.kept_at[k], b.fit.kept_at[k])
        assert str(a.fit.curves()) == str(b.fit.curves())  # with NaN, which is not equal to itself
        assert all(
            torch.equal(p, q) for p, q in zip(a.fit.network.parameters(), b.fit.network.parameters(), strict=True)
        )
    for path in sorted((tmp_path / "whole/restored").iterdir()):
        assert path.read_bytes() == (tmp_path / "parts/restored" / path.name).read_bytes(), path.name


def test_a_run_that_was_killed_after_its_last_step_does_nothing_more(tmp_path):
    module = tiny_prior()
    fitted(tmp_path, module, tiny_pictures(1))
    again = tiny_prior()
    trainer = fitted(tmp_path, again, tiny_pictures(1), ckpt=tmp_path / "checkpoints/last.ckpt")
    assert trainer.global_step == 20 and again.complete
    assert torch.equal(again.groups[0].fit.answer, module.groups[0].fit.answer)


SCRIPT = """
import common.late_torchmetrics, common.torchvision_remedy
import sys, torch
from pathlib import Path
from dip_worlds import every_callback, fitted, stops_soon, tiny_pictures, tiny_prior
from common.errors import run_cli

def main():
    folder, ckpt = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
    module, data = tiny_prior(stopping=stops_soon(), iterations=60), tiny_pictures(3)
    averaged = []
    original = torch.distributed.all_reduce
    options = dict(devices=2, strategy="ddp", max_steps=-1 if ckpt else 15)
    trainer = fitted(folder, module, data, ckpt=ckpt, callbacks=every_callback(5), **options)
    found = {group.rows[k]: (group.fit.answer[k], int(group.fit.stopped_at[k])) for group, k in module.pictures}
    result = {"found": found, "complete": module.complete, "images": module.images_seen}
    torch.save(result, folder / f"rank{trainer.global_rank}.pt")
run_cli(main)
"""


@pytest.mark.slow
def test_two_processes_divide_the_pictures_and_average_nothing(tmp_path):
    """Plain ddp, stopped at step 15 and continued: every picture as on one process, bit for bit, though each process
    has other ones.
    """
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    env = {**environment(), "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    last = tmp_path / "two/checkpoints/last.ckpt"
    for extra in ([], [str(last)]):
        command = [sys.executable, str(script), str(tmp_path / "two"), *extra]
        result = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-3000:]
    parts = [torch.load(tmp_path / f"two/rank{rank}.pt") for rank in range(2)]
    assert all(part["complete"] for part in parts)
    assert sorted(len(part["found"]) for part in parts) == [1, 2]
    one = tiny_prior(stopping=stops_soon(), iterations=60)
    fitted(tmp_path / "one", one, tiny_pictures(3), callbacks=[EarlyStopping()])
    found = {**parts[0]["found"], **parts[1]["found"]}
    assert sorted(found) == [0, 1, 2]
    for group, k in one.pictures:
        answer, end = found[group.rows[k]]
        assert torch.equal(answer, group.fit.answer[k]) and end == int(group.fit.stopped_at[k])
    assert (tmp_path / "two/restored/pictures.csv").read_text().count("\n") == 4
    # A checkpoint of two processes goes on with one, which takes over all pictures.
    late = tiny_prior(stopping=stops_soon(), iterations=60)
    fitted(tmp_path / "late", late, tiny_pictures(3), callbacks=[EarlyStopping()], ckpt=last)
    assert all(torch.equal(found[group.rows[k]][0], group.fit.answer[k]) for group, k in late.pictures)


@pytest.mark.parametrize(
    ("options", "trainer", "words"),
    [
        ({}, {"precision": "bf16-true"}, "trainer.precision must be one of 32-true, 64-true, bf16-mixed"),
        ({"architecture": None}, {}, "at least 16 x 16|needs at least"),
        ({"learning_rate": 1e30}, {}, "in the fit of picture '00000'"),
    ],
)
def test_mistakes(options, trainer, words, tmp_path):
    data = tiny_pictures(1, size=12 if "architecture" in options else 16)
    with pytest.raises(UserError, match=words) as error:
        fitted(tmp_path, tiny_prior(**options), data, **trainer)
    assert "\n" not in str(error.value)


def test_options_of_the_trainer_that_would_mix_pictures(tmp_path):
    for options in ({"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}):
        with pytest.raises(UserError, match="gradient_clip_val null"):
            tiny_prior().check_trainer(tiny_trainer(tmp_path, **options))


def test_options_out_of_range_are_said_at_once():
    with pytest.raises(UserError, match="averaging"):
        tiny_prior(averaging=1.5)
    with pytest.raises(UserError, match="together"):
        tiny_prior(together=0)


def test_data_and_model_must_suit_each_other(tmp_path):
    with pytest.raises(UserError, match="UserImages"):
        tiny_trainer(tmp_path).fit(tiny_prior(), datamodule=tiny_digits())
    with pytest.raises(UserError, match="whose pictures are restored one by one"):
        tiny_trainer(tmp_path).fit(tiny_module(), datamodule=tiny_pictures())


def test_another_set_of_pictures_is_refused(tmp_path):
    fitted(tmp_path, tiny_prior(), tiny_pictures(1), max_steps=2)
    with pytest.raises(UserError, match="put the pictures back"):
        fitted(tmp_path, tiny_prior(), tiny_pictures(2), ckpt=tmp_path / "checkpoints/last.ckpt")


def test_groups():
    small, large = (1, 16, 16), (3, 32, 32)
    shapes = [small, large, small, small, small]
    assert groups_of(shapes, 16, 1) == [[0, 2, 3, 4], [1]]
    assert groups_of(shapes, 1, 2) == [[0], [2], [3], [4], [1]]
    assert groups_of(shapes, 16, 2) == [[0, 2, 3], [4], [1]]
    assert groups_of([small] * 16, 16, 4) == [list(range(k, k + 4)) for k in (0, 4, 8, 12)]
    hands = dealt(groups_of(shapes, 1, 2), shapes, 2)
    assert sorted(g for hand in hands for g in hand) == list(range(5)) and hands == [[4], [0, 1, 2, 3]]
    for count, together, processes in ((7, 3, 4), (5, 16, 5), (9, 2, 3)):
        groups = groups_of([small] * count, together, processes)
        assert sorted(r for rows in groups for r in rows) == list(range(count)) and max(map(len, groups)) <= together
        assert all(dealt(groups, [small] * count, processes))


def test_the_fixed_criterion_ends_where_it_was_asked_to(tmp_path):
    module = tiny_prior(stopping=FixedIterations(iterations=7))
    trainer = fitted(tmp_path, module, tiny_pictures(1))
    assert trainer.global_step == 7 and module.complete and Path(tmp_path / "restored/00000.png").exists()
    assert len(every_callback()) == 7

"""The callbacks of a deep image prior do nothing to a model that is trained, and nothing where they are
switched off.
"""

import torch
from dip_worlds import fitted, tiny_pictures, tiny_prior
from helpers import tiny_digits, tiny_module, tiny_trainer

from callbacks.early_stopping import EarlyStopping
from callbacks.restored_pictures import DUE, RestoredPictures
from inference.iterates import Iterates


def test_harmless_for_a_model_that_is_trained(tmp_path):
    with_them, without = tiny_module(), tiny_module()
    tiny_trainer(tmp_path / "a", EarlyStopping(), RestoredPictures()).fit(with_them, datamodule=tiny_digits())
    tiny_trainer(tmp_path / "b").fit(without, datamodule=tiny_digits())
    for a, b in zip(with_them.parameters(), without.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not with_them.complete and not (tmp_path / "a/restored").exists()


def test_switched_off(tmp_path, capsys):
    module = tiny_prior(iterations=4)
    trainer = fitted(
        tmp_path, module, tiny_pictures(1), callbacks=[EarlyStopping(verbose=False), RestoredPictures(enabled=False)]
    )
    assert module.complete and trainer.global_step == 4 and not (tmp_path / "restored").exists()
    assert "stopped after" not in capsys.readouterr().out


def test_iterations_of_the_strip_are_those_that_are_kept():
    kept = Iterates()
    for iteration in range(1, 300):
        kept(iteration - 1, 300, torch.zeros(1, 1, 2, 2))
    assert set(kept.kept) == {k for k in DUE if k < 300}

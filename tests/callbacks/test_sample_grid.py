import numpy as np
from helpers import tiny_digits, tiny_module, tiny_trainer
from PIL import Image

from callbacks.ema import EMA
from callbacks.sample_grid import SampleGrid


def test_a_grid_of_the_same_noise_after_every_second_validation(tmp_path):
    grids = SampleGrid(count=5, every=2, batch_size=2)
    tiny_trainer(tmp_path, EMA(), grids, max_steps=8).fit(tiny_module(), datamodule=tiny_digits())
    files = sorted((tmp_path / "samples").iterdir())
    assert [f.name for f in files] == ["step_0000002.png", "step_0000006.png"]
    picture = np.asarray(Image.open(files[0]))
    assert picture.shape == (2 * 68 + 4, 3 * 68 + 4) and picture.std() > 5


def test_none_are_drawn_where_none_are_asked_for(tmp_path):
    tiny_trainer(tmp_path, EMA(), SampleGrid(count=0), max_steps=2).fit(tiny_module(), datamodule=tiny_digits())
    assert not (tmp_path / "samples").exists()

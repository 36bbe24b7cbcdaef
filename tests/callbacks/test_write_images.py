import numpy as np
from helpers import tiny_digits, tiny_module, tiny_trainer
from PIL import Image

from callbacks.ema import EMA
from callbacks.write_images import WriteImages
from common.pictures import as_picture


def test_every_index_becomes_its_picture_and_the_grid_shows_the_first(tmp_path):
    model = tiny_module()
    tiny_trainer(tmp_path, EMA(), WriteImages(tmp_path / "images", grid_images=4)).predict(
        model, datamodule=tiny_digits(predict_images=6, batch_size=4), return_predictions=False
    )
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == [*(f"{k:06d}.png" for k in range(6)), "grid.png"]
    expected = as_picture(model.generate([5])[0]).astype(int)
    # Another batch size may round one level differently.
    assert abs(np.asarray(Image.open(tmp_path / "images" / "000005.png")).astype(int) - expected).max() <= 1
    assert np.asarray(Image.open(tmp_path / "images" / "grid.png")).shape == (2 * 68 + 4, 2 * 68 + 4)

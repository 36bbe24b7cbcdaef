"""A name of an image must stay the same image: a folder of results is refused once files were added before it, or its
pixels were replaced.
"""

import numpy as np
import pytest
from PIL import Image

from common.errors import UserError
from evaluation.config import read_config
from evaluation.run import Options, evaluate


def picture(path, seed: int) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16), dtype=np.uint8)).save(path)


@pytest.fixture
def run(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for seed, name in enumerate("bcd"):
        picture(pictures / f"{name}.png", seed)
    config = tmp_path / "c.yaml"
    config.write_text(
        f"data: {{class_path: datamodules.image_folder.ImageFolder, init_args: {{folder: '{pictures}', size: 16, mode:"
        " grey, test_images: all}}\ntasks: {holes: {degradation: {class_path:"
        " degradations.random_mask.RandomMask, init_args: {removed: 0.5}}, noise: {sigma_255: 6}}}\nmethods:"
        " {pseudo_inverse: restoration.pseudo_inverse.PseudoInverse}\n"
    )

    def call(**options):
        limit = [("limit", str(options.pop("limit")))] if "limit" in options else []
        return evaluate(read_config([config], limit), Options(output=tmp_path / "out", **options))

    return pictures, call


def test_the_same_images_go_on_and_a_limit_may_grow(run):
    _, call = run
    call(limit=2)
    call()
    call(metrics_only=True)


@pytest.mark.parametrize("metrics_only", [False, True])
def test_a_file_that_moves_the_others_is_refused(run, metrics_only):
    """Masks and noise are keyed by the index: with a.png in front, b.png would be compared with the mask of another
    image.
    """
    pictures, call = run
    call()
    picture(pictures / "a.png", 9)
    with pytest.raises(UserError, match=r"'b.*another place.*3 images differ"):
        call(metrics_only=metrics_only)


def test_replaced_pixels_are_refused(run):
    pictures, call = run
    call()
    picture(pictures / "c.png", 77)
    with pytest.raises(UserError, match="other pixels"):
        call()


def test_rows_whose_images_are_not_named_are_refused(run):
    pictures, call = run
    call()
    (pictures.parent / "out" / "images.csv").unlink()
    with pytest.raises(UserError, match=r"no entry in images\.csv"):
        call()


def test_a_folder_without_rows_takes_any_images(run):
    """A run that was ended before its first row has promised nothing."""
    pictures, call = run
    call()
    (pictures.parent / "out" / "rows.csv").unlink()
    picture(pictures / "a.png", 9)
    call()

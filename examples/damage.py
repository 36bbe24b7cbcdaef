"""The damaged pictures of this folder: noise of 25 of 255, scratches with their mask, a quarter of the size, a disk.

    python examples/damage.py examples

The picture is NASA's portrait of Eileen Collins, which comes with scikit-image and is in the public domain.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.data import astronaut


def damage(folder: Path) -> None:
    """Write clean.png, noisy.png, mask.png, scratched.png, small.png and round.png into `folder`."""
    random = np.random.default_rng(0)
    clean = Image.fromarray(astronaut()[:220, 120:340]).resize((64, 64), Image.Resampling.LANCZOS)
    pixels = np.array(clean).astype(float)
    noisy = (pixels + 25 * random.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8)
    mask = np.full((64, 64), 255, np.uint8)
    mask[20:24, 6:58] = mask[44:47, 10:50] = mask[4:60, 30:33] = 0
    scratched = np.where(mask[..., None] == 0, (255, 0, 255), pixels).astype(np.uint8)
    disk = (np.hypot(*np.mgrid[-31.5:32, -31.5:32]) < 31).astype(np.uint8)
    pictures = {
        "clean": clean,
        "noisy": Image.fromarray(noisy),
        "mask": Image.fromarray(mask),
        "scratched": Image.fromarray(scratched),
        "small": clean.resize((16, 16), Image.Resampling.LANCZOS),
        "round": Image.fromarray(np.dstack([noisy, 255 * disk])),
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png", optimize=True)


if __name__ == "__main__":
    damage(Path(sys.argv[1] if len(sys.argv) > 1 else "."))

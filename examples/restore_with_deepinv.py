"""Two methods of deepinv on the frozen measurements of a config, for the table of evaluate.py.

    python -m evaluation.measurements --config configs/evaluate/deepinv_mnist.yaml --output measurements/deepinv_mnist
    python -m examples.restore_with_deepinv measurements/deepinv_mnist results/by_deepinv
    python evaluate.py --config configs/evaluate/deepinv_mnist.yaml

Total variation and Tikhonov's prior by proximal gradient, on masks and on noise alone; deepinv is not a dependency of
the programs (pip install -r requirements-dev.txt). Of this project only the remedy is imported that lets torchvision,
which deepinv asks for, live beside a CPU build of torch.
"""

import runpy
import sys
from pathlib import Path
from typing import Any

import common.torchvision_remedy  # noqa: F401  # isort: skip  (before deepinv)
import deepinv
import numpy as np
import torch
from PIL import Image

STEPS = 100


def reader(folder: Path) -> dict[str, Any]:
    """The names in the module that was written beside the measurements."""
    return runpy.run_path(str(folder / "read_measurements.py"))


def methods(sigma: float) -> dict[str, Any]:
    """deepinv's algorithms at a level of noise, in units of images in [-1, 1]."""
    weights = {"tv": 0.006 + 0.3 * sigma, "tikhonov": 0.02 + 2 * sigma**2}
    priors = {"tv": deepinv.optim.TVPrior(n_it_max=20), "tikhonov": deepinv.optim.Tikhonov()}
    return {
        name: deepinv.optim.optim_builder(
            "PGD",
            prior=prior,
            data_fidelity=deepinv.optim.L2(),
            params_algo={"stepsize": 1.0, "lambda": weights[name]},
            max_iter=STEPS,
            early_stop=True,
        )
        for name, prior in priors.items()
    }


def main() -> None:
    if len(sys.argv) != 3 or not (Path(sys.argv[1]) / "read_measurements.py").is_file():
        sys.exit(
            "error: two folders are needed: one that python -m evaluation.measurements wrote, and one for pictures"
        )
    folder, output = Path(sys.argv[1]), Path(sys.argv[2])
    for found in reader(folder)["measurements"](folder):
        if found["impulse"] is not None and not is_identity(found["impulse"]):
            print(f"{found['task']}: left out, it is neither a mask nor noise alone")
            continue
        y = torch.from_numpy(found["y"])[None]
        mask = torch.ones_like(y) if found["mask"] is None else torch.from_numpy(found["mask"])[None].expand_as(y)
        physics = deepinv.physics.Inpainting(tuple(y.shape[1:]), mask=mask)  # pyright: ignore[reportArgumentType]
        for name, method in methods(found["sigma"]).items():
            with torch.no_grad():
                x = method(y, physics)
            save(x[0], output / name / found["task"] / f"{found['image']}.png")


def is_identity(impulse: np.ndarray) -> bool:
    """Whether the operator leaves a picture of one bright pixel as it is."""
    middle = impulse[:, impulse.shape[1] // 2, impulse.shape[2] // 2]
    return bool(np.isclose(middle, 1).all() and np.isclose(np.abs(impulse).sum((1, 2)), 1).all())


def save(x: torch.Tensor, path: Path) -> None:
    """Of an image in [-1, 1] the 8-bit PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels).save(path)


if __name__ == "__main__":
    main()

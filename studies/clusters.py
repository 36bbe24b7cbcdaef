"""Groups training images by K-means in the features of a classifier, for data.reweighting where there are no labels, or
where labels are not what is rare.

    python -m studies.clusters --config configs/train/long_tailed_mnist.yaml \\
        --config configs/sweeps/fragments/long_tail_by_clusters_mnist.yaml \\
        --features assets/classifier_mnist.safetensors

The data are those of a training configuration; several are merged. The file is the one that `by` of data.reweighting
names there, unless --output names another one: .npz with the arrays `index` and `group`. Prints the size of every
group.
"""

import common.torchvision_remedy  # noqa: F401, I001  (before whatever imports torchvision)
import argparse
import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from checkpoints.features import ClassifierFeatures
from common.build import build
from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import write_atomically
from common.shapes import image_shape
from common.yaml_files import merge, read_yaml
from datamodules.base import ImageDataModule


def clusters(features: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """The group 0 .. count - 1 of features [N, d], int64 [N]: K-means (k-means++, ten starts), the largest group first.

    Raises:
        UserError: fewer rows than groups, or less than one group.
    """
    from sklearn.cluster import KMeans  # a second to import

    if not 1 <= count <= len(features):
        raise UserError(f"--count must lie in 1 .. {len(features)}, the number of training images, got {count}")
    # The library's stubs know n_init as a word alone.
    model = KMeans(count, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]
    found = torch.from_numpy(model.fit_predict(features.double().numpy()).astype(np.int64))
    order = torch.bincount(found, minlength=count).argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(count)
    return rank[found]


def write_clusters(path: Path, index: Tensor, group: Tensor) -> None:
    """The file that data.reweighting.by names."""
    content = io.BytesIO()
    np.savez(content, index=index.numpy(), group=group.numpy())
    write_atomically(path, content.getvalue())


def data_and_file(data: Any, where: str) -> tuple[dict[str, Any], str | None]:
    """The data of a configuration without their reweighting, whose file need not exist yet, and the path that this
    names, if any.
    """
    spec = {"class_path": data} if isinstance(data, str) else data
    if not isinstance(spec, dict) or "class_path" not in spec:
        raise UserError(f"{where} names no data: give a training configuration, configs/train/NAME.yaml")
    options = spec.get("init_args") or {}
    if not isinstance(options, dict):
        raise UserError(f"{where}: data.init_args must be a mapping, got {options}")
    reweighting = options.get("reweighting")
    own = reweighting.get("init_args") if isinstance(reweighting, dict) else None
    rest = {name: value for name, value in options.items() if name != "reweighting"}
    return {**spec, "init_args": rest}, own.get("by") if isinstance(own, dict) else None


def main() -> None:
    parser = Parser(
        prog="python -m studies.clusters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config",
        required=True,
        action="append",
        help="a training configuration: whose data; may be given several times, later ones over earlier ones",
    )
    parser.add_argument("--features", required=True, help="path of a classifier of assets/")
    parser.add_argument("--count", type=int, default=20, help="number of groups, 1 to that of the images (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of K-means (default: 0)")
    parser.add_argument("--output", help="the file; where it is not given, the one that `by` of data.reweighting names")
    given = parser.parse_args()
    if not 0 <= given.seed < 2**32:
        raise UserError(f"--seed must lie in 0 .. 2^32 - 1, got {given.seed}")
    config = functools.reduce(merge, (read_yaml(path) for path in given.config))
    where = " + ".join(f"'{path}'" for path in given.config)
    spec, by = data_and_file(config.get("data"), where)
    output = given.output or by
    if output in (None, "label"):
        raise UserError(
            f"{where} names no file of groups in data.init_args.reweighting.init_args.by: give --output FILE"
        )
    data = build(spec, ImageDataModule, where=f"{where}, data")
    data.prepare_data()
    network, images = ClassifierFeatures(path=given.features), data.images("train")
    parts = []
    for rows in torch.arange(len(images)).split(250):
        batch = images.take(rows)
        network.check(image_shape(batch.image.shape[1:]))
        parts.append(network.of(batch.image).features)
    index = images.store.index[images.positions]
    group = clusters(torch.cat(parts), given.count, seed=given.seed)
    write_clusters(Path(output), index, group)
    print(f"'{output}': {len(group)} images in groups of {torch.bincount(group).tolist()}", flush=True)


if __name__ == "__main__":
    run_cli(main)

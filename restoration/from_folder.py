"""Restorations that another program made of frozen measurements, in the same table as ours."""

from collections import defaultdict
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common.errors import UserError
from common.image_range import to_float
from common.picture_files import read_8_bits
from common.picture_formats import PictureError
from common.random_streams import RandomStreams
from degradations.base import Operator
from degradations.frozen_measurements import Blocks, Entry, read_manifest, sha256_of_array
from degradations.measurement import Measurement
from degradations.noise import Noise
from restoration.base import Cost, Method, OnStep, Restoration, Unsupported

#: y may differ so much, in [-1, 1] units, where another processor computed it.
TOLERANCE = 1e-4


class FromFolder(Method):
    """x = the picture PATH/TASK/IMAGE.png that somebody restored from y, read as it is.

    `python -m evaluation.measurements` writes the measurements of a config, and the names TASK and IMAGE. A picture is
    8-bit, of the image's size, 0 for -1 and 255 for 1; of several samples IMAGE_0.png, IMAGE_1.png, .... y is looked up
    by its own values, so that a restoration is never compared with another measurement than it was made of.

    Args:
        path: the folder of the pictures; its files are a part of the fingerprint.
        measurements: the folder that `python -m evaluation.measurements` wrote.
        nfe: network calls of one sample, as its author says.

    Raises:
        UserError: no measurements there, a measurement that is not among them, a picture that is missing or of another
            size.
    """

    def __init__(self, *, path: str, measurements: str, nfe: int = 0) -> None:
        if nfe < 0:
            raise ValueError(f"nfe must be at least 0, got {nfe}")
        self.path, self.measurements, self.nfe = Path(path), Path(measurements), nfe
        self._blocks = Blocks(self.measurements)

    @cached_property
    def _entries(self) -> dict[int, list[Entry]]:
        """Of the manifest, by the index of the image; read late, because whoever writes it has this method in the
        configuration too.
        """
        found = defaultdict(list)
        for entry in read_manifest(self.measurements):
            found[entry.index].append(entry)
        return found

    def check(self, operator: Operator, noise: Noise) -> None:
        super().check(operator, noise)
        if not self.path.is_dir():
            raise Unsupported(f"path='{self.path}' is no folder: give the one with the restored pictures")
        _ = self._entries

    def calls(self) -> Cost:
        return Cost(nfe=self.nfe)

    def restore(
        self, measurement: Measurement, *, num_samples: int = 1, random: RandomStreams, on_step: OnStep | None = None
    ) -> Restoration:
        del random, on_step
        rows = [
            torch.stack([self._picture(self._entry(y, index), k, num_samples, measurement) for k in range(num_samples)])
            for y, index in zip(measurement.y.cpu(), measurement.index, strict=True)
        ]
        return Restoration(samples=torch.stack(rows).to(measurement.y.device), cost=self.calls())

    def _entry(self, y: Tensor, index: int) -> Entry:
        """The entry whose y this is: equal to the last bit, or else within TOLERANCE."""
        values = y.numpy()
        digest = sha256_of_array(values)
        candidates = self._entries.get(index, [])
        equal = [entry for entry in candidates if entry.y_sha256 == digest]
        near = equal or [entry for entry in candidates if self._is_near(entry, values)]
        if not near:
            raise UserError(
                f"the measurement of the image with index {index} is not among those in '{self.measurements}': they"
                " were made with another config or seed, write them again"
            )
        if len({entry.task for entry in near}) > 1:
            raise UserError(
                f"the tasks {' and '.join(entry.task for entry in near)} have the same measurement of the image"
                f" '{near[0].image}': keep one of them"
            )
        return near[0]

    def _is_near(self, entry: Entry, values: np.ndarray) -> bool:
        stored = self._blocks.y(entry)
        return stored.shape == values.shape and bool(np.abs(stored - values).max() <= TOLERANCE)

    def _picture(self, entry: Entry, sample: int, num_samples: int, measurement: Measurement) -> Tensor:
        name = f"{entry.image}_{sample}.png"
        path = self.path / entry.task / name
        if num_samples == 1 and not path.is_file():
            path = self.path / entry.task / f"{entry.image}.png"
        if not path.is_file():
            raise UserError(
                f"there is no restoration '{self.path / entry.task / name}'"
                f"{' or ' + repr(path.name) if num_samples == 1 else ''}: restore it, or set num_samples and limit to"
                " what is there"
            )
        channels, height, width = measurement.operator.input_shape
        try:
            picture = read_8_bits(path, "grey" if channels == 1 else "colour")
        except PictureError as error:
            raise UserError(f"the restoration '{path}' {error.predicate}") from error
        if picture.size != (width, height):
            raise UserError(
                f"'{path}' has {picture.width}x{picture.height} pixels, the image has {width}x{height}: restore it at"
                " that size"
            )
        levels = torch.from_numpy(np.array(picture)).reshape(height, width, channels)
        return to_float(levels.permute(2, 0, 1))

"""A source of noise that is quick for very many chains, for statistics over them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from common.random_streams import Indices, NoiseSequence, RandomStreams


class OneStream(RandomStreams):
    """Not keyed by row: one generator draws whole batches in float64, whatever their stream, image and sample."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._generator = torch.Generator().manual_seed(seed)

    def normal_batch(
        self, stream: str, index: Indices, sample: Indices, shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> Tensor:
        return torch.randn(len(index), *shape, generator=self._generator, dtype=torch.float64)

    def sequence(
        self, stream: str, index: Indices, sample: Indices, shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> NoiseSequence:
        return _OneGenerator(self._generator, (len(index), *shape))


class _OneGenerator(NoiseSequence):
    def __init__(self, generator: torch.Generator, shape: tuple[int, ...]) -> None:
        super().__init__([], shape, torch.device("cpu"))
        self._generator = generator

    def next(self) -> Tensor:
        return torch.randn(self._shape, generator=self._generator, dtype=torch.float64)

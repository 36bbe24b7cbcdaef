"""Random numbers that belong to an image, not to a process: keyed by (seed, stream name, image index, sample index).

Every key has its own Philox generator (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"), whose
128-bit key is a hash of the four parts. Values are drawn on the CPU and moved, so that they are the same for any
device, batch size, number of processes and order.
"""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

Indices = Sequence[int] | Tensor


class RandomStreams:
    """The random numbers of one run: ``normal(stream, index, sample, shape)``.

    seed: any integer. Two streams of other names, images or samples are independent; equal keys give equal values,
    always.
    """

    def __init__(self, seed: int) -> None:
        self.seed = int(seed)

    def generator(self, stream: str, index: int, sample: int = 0) -> np.random.Generator:
        """A fresh generator at the beginning of its stream."""
        key = hashlib.blake2b(f"{self.seed}\0{stream}\0{int(index)}\0{int(sample)}".encode(), digest_size=16).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))

    def normal(self, stream: str, index: int, sample: int, shape: Sequence[int]) -> Tensor:
        """Standard normal float32 of `shape` on the CPU, for one image and one sample."""
        return torch.from_numpy(self.generator(stream, index, sample).standard_normal(tuple(shape), dtype=np.float32))

    def uniform(self, stream: str, index: int, sample: int, shape: Sequence[int]) -> Tensor:
        """Uniform float32 in [0, 1) of `shape` on the CPU, for one image and one sample."""
        return torch.from_numpy(self.generator(stream, index, sample).random(tuple(shape), dtype=np.float32))

    def normal_batch(
        self, stream: str, index: Indices, sample: Indices, shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> Tensor:
        """Standard normal float32 [B, *shape]: row b is ``normal(stream, index[b], sample[b], shape)``."""
        pairs = zip(_integers(index), _integers(sample), strict=True)
        return torch.stack([self.normal(stream, i, s, shape) for i, s in pairs]).to(device)

    def sequence(
        self, stream: str, index: Indices, sample: Indices, shape: Sequence[int], device: torch.device | str = "cpu"
    ) -> "NoiseSequence":
        """A sequence of standard normal batches [B, *shape] for the steps of an iterative method; see
        :class:`NoiseSequence`.
        """
        generators = [self.generator(stream, i, s) for i, s in zip(_integers(index), _integers(sample), strict=True)]
        return NoiseSequence(generators, tuple(shape), torch.device(device))


class NoiseSequence:
    """Batch after batch of standard normal float32 [B, *shape] from one generator per row; the next one is drawn while
    the network works.

    ``next()`` gives the next batch. Row b depends on its own generator alone, thus not on its neighbours. A thread
    draws one batch ahead; ``close()`` (or leaving a ``with`` block) ends it.
    """

    def __init__(self, generators: list[np.random.Generator], shape: tuple[int, ...], device: torch.device) -> None:
        self._generators, self._shape, self._device = generators, shape, device
        self._pool: ThreadPoolExecutor | None = ThreadPoolExecutor(max_workers=1, thread_name_prefix="noise")
        self._ahead = None  # drawn only after the first request: a method that needs no noise draws none

    def _draw(self) -> tuple[Tensor, list[Mapping[str, Any]]]:
        """A batch, and where its generators stood before it."""
        states = [g.bit_generator.state for g in self._generators]
        noise = torch.empty((len(self._generators), *self._shape))
        batch = noise.pin_memory() if self._device.type == "cuda" else noise
        for row in range(len(self._generators)):
            self._fill(batch, row)
        return batch, states

    def _fill(self, batch: Tensor, row: int) -> None:
        # Through a view of a tensor, which NumPy writes into directly.
        batch[row].numpy()[...] = self._generators[row].standard_normal(self._shape, dtype=np.float32)

    def next(self) -> Tensor:
        """The next standard normal batch [B, *shape] on the sequence's device."""
        if self._pool is None:
            raise RuntimeError("this noise sequence is closed")
        current, _ = self._ahead.result() if self._ahead is not None else self._draw()
        self._ahead = self._pool.submit(self._draw)
        return current.to(self._device, non_blocking=True)

    def reseed_rows(self, rows: dict[int, np.random.Generator]) -> None:
        """The rows named go on with these generators instead; the others are not disturbed."""
        ahead = self._ahead.result() if self._ahead is not None else None
        for row, generator in rows.items():
            self._generators[row] = generator
            if ahead is not None:
                ahead[1][row] = generator.bit_generator.state
                self._fill(ahead[0], row)

    def state(self) -> list[dict[str, Any]]:
        """Where each row's generator stands before the next batch, as plain values for :meth:`restore_state`."""
        states = (
            self._ahead.result()[1] if self._ahead is not None else [g.bit_generator.state for g in self._generators]
        )
        return [_plain_state(s) for s in states]

    def restore_state(self, states: list[dict[str, Any]]) -> None:
        """The next batch is the one that was next when :meth:`state` was taken."""
        if self._ahead is not None:
            self._ahead.result()
            self._ahead = None
        for generator, state in zip(self._generators, states, strict=True):
            inner = {k: np.array(v, dtype=np.uint64) for k, v in state["state"].items()}
            generator.bit_generator.state = {
                **state,
                "state": inner,
                "buffer": np.array(state["buffer"], dtype=np.uint64),
            }

    def close(self) -> None:
        """End the drawing thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def __enter__(self) -> "NoiseSequence":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    return {**state, "state": {k: v.tolist() for k, v in state["state"].items()}, "buffer": state["buffer"].tolist()}


def _integers(values: Indices) -> list[int]:
    return values.tolist() if isinstance(values, Tensor) else [int(v) for v in values]

"""Every degradation of degradations/ with options to try it with, and operators that no degradation binds: what
test_every_operator.py and test_every_linear_operator.py walk over.
"""

import inspect
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from common.build import build, describe
from common.random_streams import RandomStreams
from degradations.base import Degradation, Operator, Shape
from degradations.circular_blur import CircularBlur
from degradations.separable import Separable
from degradations.severity.base import SeverityFamily
from degradations.stored_masks import write_masks
from inference.catalogue import catalogue

INDEX = [3, 7, 11]
SMALL: list[Shape] = [(1, 8, 8), (3, 8, 8)]
ANY: list[Shape] = [*SMALL, (1, 28, 28), (3, 12, 20), (1, 9, 15)]
ODD: Shape = (3, 7, 5)
EVEN: list[Shape] = [*SMALL, (1, 28, 28), (3, 12, 20)]
FOURS: list[Shape] = [(3, 8, 8), (1, 28, 28), (3, 12, 20)]
THREES: list[Shape] = [(1, 9, 15), (3, 3, 6)]

Options = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """Options of a class, plain as a config has them, or a function of the shape of the image where they depend on it;
    shapes (C, H, W) to try.

    constant: a constant image stays as it is.
    """

    options: Options | Callable[[Shape], Options] = field(default_factory=dict)
    shapes: list[Shape] = field(default_factory=lambda: ANY)
    constant: bool = False


_FOLDER = tempfile.TemporaryDirectory()


def _mask_file(shape: Shape) -> Options:
    """A mask of this size, as a user paints it."""
    path = Path(_FOLDER.name) / f"{shape[1]}x{shape[2]}.png"
    if not path.exists():
        known = np.full(shape[1:], 255, dtype=np.uint8)
        known[1:4, 2:5] = 0
        Image.fromarray(known).save(path)
    return {"path": str(path)}


def _masks_file(shape: Shape) -> Options:
    """Masks for the images of INDEX and the first few."""
    path = Path(_FOLDER.name) / f"{shape[1]}x{shape[2]}.npz"
    if not path.exists():
        known = torch.rand(12, *shape[1:], generator=torch.Generator().manual_seed(0)) > 0.4
        write_masks(path, torch.arange(12), known)
    return {"path": str(path)}


def _kernel_file(boundary: str) -> Callable[[Shape], Options]:
    """A kernel that is not symmetric, of an even side, with a negative weight."""

    def options(shape: Shape) -> Options:
        path = Path(_FOLDER.name) / "kernel.npy"
        if not path.exists():
            np.save(path, np.array([[0.0, 3.0, 1.0, 0.0], [2.0, 9.5, 1.0, -1.0], [0.0, 1.0, 0.0, 1.0]]))
        return {"path": str(path), "boundary": boundary, "threshold": 0.1}

    return options


def _part(name: str, **options: Any) -> Options:
    return describe(catalogue("degradations", Degradation)[name], options)


_BLUR, _HOLES = _part("reflecting_blur", std=0.7, threshold=0.1), _part("random_mask", removed=0.3)

#: By name of the file in degradations/. A class without an entry is tried without options.
EXAMPLES: dict[str, list[Example]] = {
    "identity": [Example(constant=True)],
    "box_mask": [
        Example(shapes=[*ANY, ODD]),
        Example({"height": 2, "width": 5, "margin": 1}),
        Example({"place": "center"}),
        Example({"size": 2, "most": 5}, [(1, 8, 8), ODD]),
    ],
    "random_mask": [
        Example({"removed": 0.7}, [*ANY, ODD]),
        Example({"removed": 1.0}, [(1, 8, 8)]),
        Example({"removed": 0.0}, [(1, 8, 8)]),
        Example({"removed": 0.3, "most": 0.9}, [(1, 8, 8), ODD]),
    ],
    "stripe_mask": [
        Example({"most": 5}, [*SMALL, (1, 28, 28), ODD]),
        Example({"least": 3, "most": 3, "missing": 0.7, "lines": "rows"}, [(1, 8, 8), (1, 9, 15)]),
    ],
    "spot_mask": [Example(shapes=[*ANY, ODD]), Example({"soft": True}, [*SMALL, (3, 12, 20)])],
    "stored_masks": [Example(_masks_file, [(1, 8, 8), (3, 12, 20)])],
    "half_mask": [Example(shapes=[*ANY, ODD]), Example({"missing": "top"}, [ODD, (1, 8, 8)])],
    "expand_mask": [Example(shapes=[*ANY, ODD]), Example({"known": 0.6}, [(1, 8, 8), ODD])],
    "alternate_lines": [
        Example(shapes=[*SMALL, ODD]),
        Example({"lines": "columns", "period": 3}, [(1, 8, 8), (1, 9, 15)]),
        Example({"lines": "both"}, [(3, 8, 8), ODD]),
    ],
    "stroke_mask": [
        Example(shapes=[*SMALL, (1, 28, 28), ODD]),
        Example({"kind": "thick", "most": 0.7}, [*SMALL, (3, 12, 20)]),
    ],
    "given_mask": [Example(_mask_file, [(1, 8, 8), (3, 12, 20)])],
    "circular_blur": [
        Example({"std": 0.75}, constant=True),
        Example({"std": 1.0}, [(1, 28, 28), (3, 12, 20), (1, 9, 15)], constant=True),
        Example({"std": 3.0}, [(1, 28, 28), (1, 25, 31)], constant=True),
    ],
    "reflecting_blur": [
        Example({"std": 0.5}, constant=True),
        Example({"std": 1.0}, [*ANY, ODD], constant=True),
        Example({"std": 3.0}, constant=True),
    ],
    "kernel_blur": [
        Example(_kernel_file("reflecting"), [*SMALL, (1, 9, 15), ODD], constant=True),
        Example(_kernel_file("circular"), [(3, 12, 20)], constant=True),
    ],
    "motion_blur": [
        Example({"length": 4, "angle": 30, "threshold": 0.1}, [*SMALL, (1, 9, 15), ODD], constant=True),
        Example({"length": 3.5, "angle": None, "threshold": 0.1}, [(1, 8, 8), (3, 12, 20)], constant=True),
        Example({"length": 5, "angle": 100, "boundary": "circular", "threshold": 0.1}, [(3, 12, 20)], constant=True),
        Example({"length": 4, "angle": None, "boundary": "circular", "threshold": 0.1}, [(1, 8, 8)], constant=True),
    ],
    "camera_shake": [
        Example({"size": 5, "threshold": 0.1}, [(1, 8, 8), (3, 12, 20)], constant=True),
        Example({"size": 7, "shake_seed": 2, "boundary": "circular", "threshold": 0.1}, [(3, 9, 15)], constant=True),
        Example({"size": 5, "boundary": "circular", "threshold": 0.1}, [(1, 8, 8)], constant=True),
    ],
    "anisotropic_gaussian_blur": [
        Example({"std": [1.0, 0.5], "angle": 20, "threshold": 0.1}, [*SMALL, (1, 9, 15), ODD], constant=True),
        Example({"std": [0.5, 1.0], "boundary": "circular", "threshold": 0.1}, [(3, 12, 20)], constant=True),
    ],
    "uniform_blur": [
        Example({"size": 5, "threshold": 0.1}, [*SMALL, (1, 9, 15), ODD], constant=True),
        Example({"size": 9}, [(1, 28, 28), (1, 8, 8)], constant=True),
        Example({"size": 3, "boundary": "circular"}, [*SMALL, (1, 9, 15), ODD], constant=True),
        Example({"size": 7, "boundary": "circular", "threshold": 0.1}, [(3, 12, 20), (1, 28, 28)], constant=True),
    ],
    "compressed_sensing": [
        Example({"ratio": 0.5}, [*SMALL, (1, 28, 28), (3, 12, 20)]),
        Example({"ratio": 0.25, "scrambled": True}, [*SMALL, (1, 4, 12)]),
        Example({"ratio": 1.0}, [(1, 8, 8)]),
    ],
    "phase_retrieval": [
        Example(shapes=[*SMALL, (1, 28, 28), (3, 9, 15)]),
        Example({"values": "signed", "oversampling": 4}, [(1, 8, 8), ODD]),
        Example({"oversampling": 0.0}, [(1, 8, 8)]),
    ],
    "high_dynamic_range": [Example(shapes=[*SMALL, ODD]), Example({"factor": 1.25}, [(1, 8, 8)])],
    "quantisation": [Example(shapes=[*SMALL, ODD]), Example({"levels": 2}, [(1, 8, 8)])],
    "jpeg": [
        Example(shapes=[*SMALL, (1, 28, 28), (3, 12, 20), ODD]),
        Example({"quality": 90, "subsampling": "4:4:4"}, [(3, 8, 8), ODD]),
    ],
    "average_pool": [
        Example({"factor": 1}, [(1, 9, 15)], constant=True),
        Example({"factor": 2}, EVEN, constant=True),
        Example({"factor": 3}, THREES, constant=True),
        Example({"factor": 4}, FOURS, constant=True),
    ],
    "bicubic": [
        Example({"factor": 1}, [(1, 9, 15)], constant=True),
        Example({"factor": 2}, EVEN, constant=True),
        Example({"factor": 3}, THREES, constant=True),
        Example({"factor": 4}, FOURS, constant=True),
    ],
    "lanczos": [
        Example({"factor": 1}, [(1, 9, 15)], constant=True),
        Example({"factor": 2}, EVEN, constant=True),
        Example({"factor": 3, "lobes": 3}, THREES, constant=True),
        Example({"factor": 4}, FOURS, constant=True),
        Example({"factor": 4, "lobes": 3, "phase": 0}, [(1, 8, 8), (1, 28, 28), (3, 12, 20)], constant=True),
    ],
    "grey": [
        Example({}, [(3, 8, 8), (3, 12, 20), ODD], constant=True),
        Example({"weights": [0.299, 0.587, 0.114]}, [(3, 8, 8), (3, 9, 15)], constant=True),
        Example({"weights": [-1.0, 0.5, 0.0]}, [(3, 8, 8)]),
    ],
    "composition": [
        Example({"parts": [_BLUR, _HOLES]}, [(1, 8, 8), (3, 12, 20)]),
        Example({"parts": [_HOLES, _part("circular_blur", std=0.6, threshold=0.1)]}, [(1, 8, 8), (3, 9, 15)]),
        Example({"parts": [_part("grey"), _part("bicubic", factor=2)]}, [(3, 8, 8)], constant=True),
        Example({"parts": [_HOLES, _part("box_mask"), _HOLES]}, [(3, 8, 8), (1, 9, 15)]),
        Example({"parts": [_BLUR, _part("compressed_sensing", ratio=0.5)]}, [(1, 8, 8), (3, 12, 20)]),
        Example({"parts": [_BLUR, _part("quantisation", levels=5)]}, [(1, 8, 8), (1, 9, 15)]),
        Example({"parts": [_part("average_pool", factor=2), _part("jpeg", quality=60)]}, [(3, 8, 8), (3, 12, 20)]),
        Example({"parts": [_part("high_dynamic_range"), _HOLES]}, [(1, 8, 8), (1, 9, 15)]),
        Example({"parts": [_HOLES, _part("phase_retrieval")]}, [(1, 8, 8), (3, 9, 15)]),
        Example(
            {"parts": [_part("average_pool", factor=2), _part("composition", parts=[_BLUR, _HOLES])]},
            [(1, 8, 8), (3, 12, 20)],
        ),
        Example(
            lambda shape: {
                "parts": [
                    _BLUR,
                    _part("at_severity", family=describe(FAMILIES["snow"], {"level": 1}), severity=90),
                    _HOLES,
                ]
            },
            [(3, 8, 8), (1, 9, 15)],
        ),
    ],
}

_DIGITS = {"class_path": "datamodules.digits.Digits"}
#: The same of the families in degradations/severity/, tried at the middle severity, and the first example at the last.
FAMILY_EXAMPLES: dict[str, list[Example]] = {
    "gaussian_blur": [
        Example({"taps": 5, "steps": 3}, [(1, 8, 8), (3, 12, 20), ODD], constant=True),
        Example({"data": "cifar10", "taps": 7, "steps": 18}, [(1, 8, 8), (1, 9, 15)], constant=True),
        Example({"steps": 9, "taps": 5, "truncate": True, "to_mean": True}, [(3, 9, 12), (1, 8, 8)]),
    ],
    "gaussian_mask.GaussianMask": [
        Example({}, [(1, 8, 8), ODD]),
        Example({"data": "celeba_64", "steps": 10}, [(3, 12, 20)]),
        Example({"steps": 12, "truncate": True}, [(3, 9, 14)]),
    ],
    "gaussian_mask.CoveringMask": [Example({"steps": 6, "kernel_std": 0.5}, [(1, 8, 8), (3, 12, 20)])],
    "pixelation": [
        Example({"steps": 2}, [(1, 8, 8), (3, 12, 20), (1, 9, 15)], constant=True),
        Example({"steps": 2, "truncate": True}, [(3, 8, 12)]),
    ],
    "desaturation": [
        Example({}, [(3, 8, 8), ODD], constant=True),
    ],
    "gaussian_noise": [Example({}, [(1, 8, 8), ODD])],
    "snow": [
        Example({"level": 1, "steps": 30}, [(1, 8, 8), (3, 12, 20)]),
        Example({"level": 1, "steps": 17, "brightness": True}, [(3, 11, 16)]),
    ],
    "animorph": [Example({"other": _DIGITS, "steps": 30}, [(1, 8, 8)])],
}

DEGRADATIONS = catalogue("degradations", Degradation)
FAMILIES = catalogue("degradations/severity", SeverityFamily)


@dataclass(frozen=True)
class Case:
    """An operator by name: how it is bound for images with these indices, and the shapes that are tried."""

    name: str
    make: Callable[[Shape, list[int]], Operator]
    shapes: list[Shape]
    constant: bool = False
    degradation: Callable[[Shape], Degradation] | None = None

    @property
    def linear(self) -> bool:
        return self.make(self.shapes[0], INDEX).linear


def missing(kind: str, found: dict[str, type], examples: dict[str, list[Example]]) -> list[str]:
    """What to add for classes that cannot be built without options."""
    told = []
    for name, cls in found.items():
        required = [k for k, p in inspect.signature(cls).parameters.items() if p.default is inspect.Parameter.empty]
        if required and name not in examples and name != "at_severity":
            told.append(f'"{name}": [Example({{{", ".join(f"{k!r}: ..." for k in required)}}})] to {kind}')
    return told


def _of_options(name: str, cls: type[Degradation], example: Example) -> Case:
    @cache
    def degradation(shape: Shape) -> Degradation:
        options = example.options if isinstance(example.options, dict) else example.options(shape)
        return build(describe(cls, options), Degradation, where=name)

    def make(shape: Shape, index: list[int]) -> Operator:
        return degradation(shape).operator_for(shape, index, RandomStreams(0))

    return Case(name, make, example.shapes, example.constant, degradation)


def _kernels(shape: Shape, index: list[int]) -> Operator:
    """One kernel per image, not symmetric, with negative weights and an even side: what the circular operator must
    bear.
    """
    kernels = [torch.randn(4, 3, generator=torch.Generator().manual_seed(i), dtype=torch.float64) for i in index]
    return CircularBlur(torch.stack(kernels), shape, threshold=0.5)


def _rectangular(shape: Shape, index: list[int]) -> Operator:
    """One matrix makes the axis longer, the other one is shorter and has a rank below its size."""
    del index
    channels, height, width = shape
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(height + 2, height, generator=generator, dtype=torch.float64) / height**0.5
    columns = torch.randn(width - 2, 2, generator=generator, dtype=torch.float64) @ torch.randn(
        2, width, generator=generator, dtype=torch.float64
    )
    return Separable(rows, columns, channels=channels, threshold=1e-9)


def cases() -> list[Case]:
    """All of them; classes that lack options are left to the test that names them."""
    found = [Case("circular kernels", _kernels, [*ANY, ODD]), Case("rectangular matrices", _rectangular, ANY)]
    unknown = {m.split('"')[1] for m in missing("", DEGRADATIONS, EXAMPLES) + missing("", FAMILIES, FAMILY_EXAMPLES)}
    for name, cls in DEGRADATIONS.items():
        if name in unknown or name == "at_severity":
            continue
        for number, example in enumerate(EXAMPLES.get(name, [Example()])):
            found.append(_of_options(f"{name} {number}", cls, example))
    at_severity = DEGRADATIONS["at_severity"]
    for name, family in FAMILIES.items():
        for number, example in enumerate(FAMILY_EXAMPLES.get(name, [Example()]) if name not in unknown else []):
            last = family(**example.options).severities
            for severity in [(last + 1) // 2] if number else [(last + 1) // 2, last]:
                options = {"family": describe(family, example.options), "severity": severity}
                own = Example(options, example.shapes, example.constant)
                found.append(_of_options(f"{name} {number} at {severity}", at_severity, own))
    return found


def each(chosen: list[Case], shapes: Callable[[Case], list[Shape]] | None = None) -> pytest.MarkDecorator:
    """A test for each of the cases and of its shapes, all of them unless others are named."""
    found = [
        pytest.param(case, shape, id=f"{case.name}-{'x'.join(map(str, shape))}")
        for case in chosen
        for shape in (case.shapes if shapes is None else shapes(case))
    ]
    return pytest.mark.parametrize(("case", "shape"), found)


def two(case: Case) -> list[Shape]:
    """The first and the last: a square and, where there is one, another."""
    return case.shapes if len(case.shapes) < 2 else [case.shapes[0], case.shapes[-1]]


def normal(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def image(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Values in [-0.9, 0.9]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * 1.8 - 0.9


CASES = cases()

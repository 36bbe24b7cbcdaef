"""Hadamard matrices and their fast transform: orthogonal changes of basis of nothing but plus and minus."""

from functools import lru_cache
from math import isqrt

import torch
from torch import Tensor

from common.errors import UserError


def hadamard_transform(x: Tensor, *, transposed: bool = False) -> Tensor:
    """H x / sqrt(n) along the last axis, H = H_2 x ... x H_2 x H_m for n = 2^k m (Kronecker products), or H^T x /
    sqrt(n): orthonormal, each the other's inverse.

    k butterflies, n log n additions, and a matrix of m x m where n is no power of 2: the Walsh-Hadamard transform in
    its natural order (Sylvester), and for n = 28, say, a matrix by Paley. The first row of H is all ones.

    Args:
        x: [..., n]; UserError where no such matrix is known, see :func:`factor`.
        transposed: H^T in place of H.
    """
    n = x.shape[-1]
    m = factor(n)
    if m > 1:
        basis = paley(m).to(x)
        with torch.autocast(x.device.type, enabled=False):
            x = (x.unflatten(-1, (n // m, m)) @ (basis if transposed else basis.mT)).flatten(-2)
    half = m
    while half < n:
        pairs = x.unflatten(-1, (n // (2 * half), 2, half))
        first, second = pairs.unbind(-2)
        x = torch.stack([first + second, first - second], -2).flatten(-3)
        half *= 2
    return x / n**0.5


@lru_cache(maxsize=64)
def factor(n: int) -> int:
    """m, the least with n = 2^k m that a construction is known for: 1, or a multiple of 4 with m - 1 or m / 2 - 1 a
    suitable prime (Paley 1933).

    UserError with the sizes nearby that have one; there is none for an odd n above 1, or twice an odd one above 2.
    """
    if (m := _factor(n)) is None:
        near = [k for k in range(max(1, n - 8), n + 9) if _factor(k) is not None]
        raise UserError(
            f"there is no Hadamard matrix here for a side of {n} pixels: pad or crop the images to one of"
            f" {', '.join(map(str, near))}"
        )
    return m


@lru_cache(maxsize=8)
def paley(m: int) -> Tensor:
    """H_m by Paley's first or second construction, with a first row of ones: float64 [m, m], H H^T = m I.

    Source: Paley 1933, On orthogonal matrices, J. Math. Phys. 12, 311.
    """
    first = _is_prime(m - 1) and (m - 1) % 4 == 3
    prime = m - 1 if first else m // 2 - 1
    squares = {k * k % prime for k in range(1, prime)}
    character = torch.tensor([0.0] + [1.0 if k in squares else -1.0 for k in range(1, prime)], dtype=torch.float64)
    positions = torch.arange(prime)
    core = torch.ones(prime + 1, prime + 1, dtype=torch.float64)
    core[0, 0] = 0
    core[1:, 1:] = character[(positions[:, None] - positions) % prime]
    eye = torch.eye(prime + 1, dtype=torch.float64)
    if first:
        core[1:, 0] = -1
        matrix = eye + core
    else:
        ones = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
        matrix = torch.kron(core, ones) + torch.kron(eye, torch.tensor([[1.0, -1.0], [-1.0, -1.0]]).double())
    return matrix * matrix[0]


def _factor(n: int) -> int | None:
    odd = n
    while odd % 2 == 0 and odd > 0:
        odd //= 2
    if odd == 1:
        return 1
    m = 4 * odd
    while n % m == 0:
        if (_is_prime(m - 1) and m % 4 == 0) or (_is_prime(m // 2 - 1) and (m // 2 - 1) % 4 == 1):
            return m
        m *= 2
    return None


def _is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, isqrt(n) + 1))

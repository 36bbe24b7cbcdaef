"""What the super-resolution tasks share: a factor that divides the sides of the image."""

from math import gcd

from common.errors import UserError
from degradations.base import Shape


def check_factor(factor: int) -> None:
    """Raise UserError where the factor is not a positive integer."""
    if factor < 1 or factor != int(factor):
        raise UserError(f"factor must be a whole number of at least 1, got {factor}")


def check_divides(factor: int, shape: Shape) -> None:
    """Raise UserError, with the factors that would do, where `factor` does not divide both sides of (C, H, W)."""
    _, height, width = shape
    common = gcd(height, width)
    if common % factor:
        divisors = [d for d in range(2, common + 1) if common % d == 0]
        fix = f"choose one of {divisors}" if divisors else "crop the images to sides with a common divisor"
        raise UserError(f"factor={factor} does not divide the image of {height}x{width} pixels: {fix}")

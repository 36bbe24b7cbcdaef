"""Generation from masks: nothing but the colour of the mask."""

from diffusion.cold_starts.drawn_by_family import DrawnByFamily


class FullMask(DrawnByFamily):
    """x_T = c [C, 1, 1], each channel from U(-0.5, 0.5), the colour that D(x, t) = (1 - M_t) x + M_t c uncovers the
    image from: D(x, T) = c exactly.

    c says nothing of x_0, so that variety comes from the restorer alone; docs/theory/cold_generation.md. Reference
    2.10; Bansal et al. 2022.
    """

    name = "colour"
    suits = "CoveringMask"

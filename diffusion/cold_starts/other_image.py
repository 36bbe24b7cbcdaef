"""Generation from images of another data set (animorphosis)."""

from diffusion.cold_starts.drawn_by_family import DrawnByFamily


class OtherImage(DrawnByFamily):
    """x_T = z, an image of the other data set, which D(x, t) = sqrt(ab_t) x + sqrt(1 - ab_t) z fades in; z stays the
    same all the way.

    x_T has as much variety as the other data set. Reference 2.9; Bansal et al. 2022.
    """

    name = "other"
    suits = "Animorph"

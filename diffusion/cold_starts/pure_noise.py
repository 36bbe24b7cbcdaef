"""Hot generation: standard normal noise."""

from diffusion.cold_starts.drawn_by_family import DrawnByFamily


class PureNoise(DrawnByFamily):
    """x_T = z ~ N(0, I), and D(x, t) = sqrt(ab_t) x + sqrt(1 - ab_t) z with the same z all the way ("fixed noise").

    z itself and not D(0, T) = sqrt(1 - ab_T) z: the images have unit variance at severity T in training (of x_0 of
    variance 1), and the paper begins so. The two differ by a factor 1 - ab_T / 2, which is 3e-8 from 1 for 200 cosine
    steps. With "estimated noise" z serves as x_T alone. Reference 2.8; Bansal et al. 2022.
    """

    name = "noise"
    suits = "GaussianNoiseFamily"

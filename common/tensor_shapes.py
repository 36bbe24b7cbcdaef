"""The shapes of public functions' tensors, as types: the same letter is the same number within one call.

Python ignores them in a user's run. The tests check them (tests/shape_checks.py).
"""

from jaxtyping import Float, Num, UInt8
from torch import Tensor

#: Images [B, C, H, W], in [-1, 1] unless a docstring says otherwise.
Images = Float[Tensor, "B C H W"]
#: Measurements [B, c, h, w] of B images: A decides their channels and size.
Measurements = Float[Tensor, "B c h w"]
#: Images of whole levels 0 .. 255.
Pixels = UInt8[Tensor, "B C H W"]
#: One number for each image.
PerImage = Float[Tensor, "B"]
#: A level of noise for each image, [B], or one for each pixel, [B, 1, H, W].
Sigma = Float[Tensor, "B"] | Float[Tensor, "B 1 H W"]
#: Training times of the same kinds, whole numbers for discrete schedules.
Times = Num[Tensor, "B"] | Num[Tensor, "B 1 H W"]
#: Any number of times, and as many levels.
AnyTimes = Num[Tensor, "*n"]
AnyLevels = Float[Tensor, "*n"]
#: Features of N images, D numbers each.
Rows = Float[Tensor, "N D"]
OtherRows = Float[Tensor, "M D"]
#: What metrics of samples compute on: V numbers of each of N samples of B images, and of the images.
SampleRows = Float[Tensor, "B N V"]
ImageRows = Float[Tensor, "B V"]

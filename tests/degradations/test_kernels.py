"""Blurs by a kernel: what the battery cannot know; the convolution beside SciPy's, kernels in closed form, files."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.anisotropic_gaussian_blur import AnisotropicGaussianBlur, gaussian_kernel
from degradations.camera_shake import CameraShake, shaken
from degradations.circular_blur import CircularBlur
from degradations.gaussian import gaussian_taps
from degradations.kernel_blur import KernelBlur, read_kernel
from degradations.motion_blur import MotionBlur, line
from degradations.reflecting_blur import ReflectingGaussianBlur
from degradations.reflecting_convolution import ReflectingConvolution


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 3), (5, 2), (21, 17)])
@pytest.mark.parametrize("boundary", ["reflecting", "circular"])
def test_it_is_scipys_convolution(size, boundary):
    """Odd and even sides, kernels larger than the image: scipy.ndimage.convolve, modes "reflect" and "wrap"."""
    generator = np.random.default_rng(0)
    kernel, x = (
        generator.standard_normal(size),
        generator.standard_normal((9, 7) if boundary == "reflecting" else (23, 19)),
    )
    made = ReflectingConvolution if boundary == "reflecting" else CircularBlur
    operator = made(torch.from_numpy(kernel), (1, *x.shape))
    expected = convolve(x, kernel, mode="reflect" if boundary == "reflecting" else "wrap")
    np.testing.assert_allclose(operator(torch.from_numpy(x)[None, None])[0, 0].numpy(), expected, atol=1e-11)


def test_a_separable_gaussian_is_the_blur_with_an_svd():
    x = torch.rand(2, 3, 12, 17, dtype=torch.float64)
    taps = gaussian_taps(1.2)
    general = ReflectingConvolution(torch.outer(taps, taps), (3, 12, 17))
    separable = ReflectingGaussianBlur(std=1.2).bind({}, (3, 12, 17))
    torch.testing.assert_close(general(x), separable(x), rtol=0, atol=1e-12)
    assert 1 - 1e-9 <= general.norm() < 1 + 1e-9


def test_the_norm_of_a_shift_counts_what_the_mirror_shows_twice():
    """A kernel of one pixel off the middle: the pixels at one border are seen twice, ||A|| is the root of 2."""
    kernel = torch.zeros(1, 5)
    kernel[0, 0] = 1
    assert ReflectingConvolution(kernel, (1, 4, 8)).norm() == pytest.approx(2**0.5)


def test_motion_along_an_axis_is_a_box():
    kernel = line(5, 0)
    middle = kernel.shape[0] // 2
    assert float(kernel.sum()) == pytest.approx(1) and float(kernel[middle].sum()) == pytest.approx(1)
    assert kernel[middle, middle - 1 : middle + 2].tolist() == pytest.approx([0.2] * 3)
    torch.testing.assert_close(line(5, 90), kernel.T)
    torch.testing.assert_close(line(5, 45), line(5, 135).flip(1))
    up = line(9, 30)  # counter-clockwise: what lies to the right lies up
    rows, columns = torch.nonzero(up > 0.01, as_tuple=True)
    assert float(torch.corrcoef(torch.stack([rows, columns]).double())[0, 1]) < -0.8


def test_turned_gaussians():
    """Moments: variance std^2 along the axes, and the turn."""
    kernel = gaussian_kernel((3.0, 1.5), 0)
    offsets = torch.arange(len(kernel)).double() - len(kernel) // 2
    assert float((kernel.sum(0) * offsets**2).sum()) == pytest.approx(9, rel=2e-3)
    assert float((kernel.sum(1) * offsets**2).sum()) == pytest.approx(2.25, rel=2e-3)
    torch.testing.assert_close(gaussian_kernel((3.0, 1.5), 90), kernel.T)
    torch.testing.assert_close(gaussian_kernel((2.0, 2.0), 37), torch.outer(gaussian_taps(2.0), gaussian_taps(2.0)))
    turned = gaussian_kernel((3.0, 1.0), 45)
    covariance = (turned * offsets[:, None] * offsets).sum()
    assert float(covariance) == pytest.approx(-(9 - 1) / 2, rel=2e-3)  # rows count downwards


def test_shaken_kernels():
    """Of one number always the same, of another another; centred, connected, not outside of their size."""
    generator = RandomStreams(3).generator
    kernel = shaken(generator("k", 0), 31, 0.2)
    assert torch.equal(kernel, shaken(generator("k", 0), 31, 0.2)) and kernel.shape == (31, 31)
    assert float((kernel - shaken(generator("k", 1), 31, 0.2)).abs().sum()) > 0.5
    assert float(kernel.min()) >= 0 and float(kernel.sum()) == pytest.approx(1)
    offsets = torch.arange(31).double() - 15
    assert abs(float((kernel.sum(0) * offsets).sum())) < 1e-9 and abs(float((kernel.sum(1) * offsets).sum())) < 1e-9
    assert 20 < int((kernel > 0).sum()) < 500
    one, other = (CameraShake(size=15, shake_seed=s).bind({}, (1, 20, 20)) for s in (1, 2))
    x = torch.rand(1, 1, 20, 20)
    assert not torch.equal(one(x), other(x)) and not CameraShake(shake_seed=1).draws and CameraShake().draws


def test_kernels_from_files(tmp_path):
    """The same kernel as an array, as text and as a picture of 8 bits."""
    values = np.array([[0, 51, 0], [102, 255, 0], [0, 0, 51], [0, 0, 0]], dtype=np.uint8)
    np.save(tmp_path / "k.npy", values)
    (tmp_path / "k.txt").write_text("\n".join(" ".join(map(str, row)) for row in values))
    (tmp_path / "k.csv").write_text("\n".join(",".join(map(str, row)) for row in values))
    Image.fromarray(values).save(tmp_path / "k.png")
    for name in ("k.npy", "k.txt", "k.csv", "k.png"):
        np.testing.assert_allclose(read_kernel(tmp_path / name), values / values.sum(), atol=1e-6)
    described = KernelBlur(path=str(tmp_path / "k.png")).bind({}, (3, 8, 8)).description
    assert "k.png" in described and "3x4" in described


def test_files_that_are_no_kernel_are_refused(tmp_path):
    np.save(tmp_path / "three.npy", np.ones((2, 2, 2)))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.save(tmp_path / "nan.npy", np.full((3, 3), np.nan))
    np.save(tmp_path / "large.npy", np.ones((3, 300)))
    (tmp_path / "words.txt").write_text("no numbers")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(tmp_path / "black.png")
    told = {
        "missing.png": "is not a file",
        "three.npy": "two dimensions",
        "object.npy": "no table of numbers",
        "nan.npy": "finite",
        "large.npy": "255",
        "words.txt": "no table of numbers",
        "black.png": "sum",
    }
    for name, words in told.items():
        with pytest.raises(UserError, match=words):
            read_kernel(tmp_path / name)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MotionBlur(length=0), "length"),
        (lambda: MotionBlur(length=5, angle=float("nan")), "angle"),
        (lambda: MotionBlur(length=5, boundary="mirror"), "boundary"),
        (lambda: CameraShake(size=30), "size"),
        (lambda: CameraShake(smoothness=0), "smoothness"),
        (lambda: CameraShake(shake_seed=-1), "shake_seed"),
        (lambda: AnisotropicGaussianBlur(std=[1.0]), "std"),
        (lambda: AnisotropicGaussianBlur(std=[1.0, -1.0]), "std"),
        (lambda: AnisotropicGaussianBlur(std=[1.0, 2.0], threshold=1.0), "threshold"),
        (lambda: MotionBlur(length=9, boundary="circular").bind({}, (1, 8, 8)), "larger than the image"),
    ],
)
def test_options_out_of_range_are_refused(make, words):
    with pytest.raises(UserError, match=words):
        make()

"""A fit that cannot fit into memory is refused before it begins: the kernel would end the process without a word."""

import pytest
import torch

from common.errors import UserError
from common.random_streams import RandomStreams
from degradations.identity import Identity
from degradations.measurement import measure
from degradations.noise import GaussianNoise
from networks.untrained.deep_decoder import DeepDecoderArchitecture
from networks.untrained.skip import SkipArchitecture
from networks.untrained.unet import UNetArchitecture
from restoration.deep_image_prior import memory as dip_memory
from restoration.deep_image_prior.memory import bytes_per_pixel, free_bytes
from restoration.dip import DIP

TINY = SkipArchitecture(preset="small", channels=[4, 6], inputs=3)


@pytest.mark.parametrize(
    "architecture",
    [TINY, SkipArchitecture(preset="small"), DeepDecoderArchitecture(), UNetArchitecture()],
    ids=lambda a: type(a).__name__,
)
def test_it_is_what_autograd_keeps_and_grows_with_the_picture(architecture):
    """An independent count: the gradient graph's tensors at two sizes; the rate per pixel is the same but for
    margins.
    """
    found = bytes_per_pixel(architecture, 3)
    side = 128 // architecture.multiple * architecture.multiple * 2
    network = architecture.build(outputs=3, copies=1)
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept[x.untyped_storage().data_ptr()] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        network(torch.zeros(1, architecture.inputs, side, side))
    total = sum(x.untyped_storage().nbytes() for at, x in kept.items() if at not in weights)
    assert found == pytest.approx(total / side**2, rel=0.1)


def test_it_draws_nothing_and_says_nothing_of_what_cannot_be_known(monkeypatch):
    state = torch.get_rng_state()
    bytes_per_pixel(SkipArchitecture(preset="jpeg"), 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert free_bytes(torch.device("cpu")) is None or free_bytes(torch.device("cpu")) > 2**20
    monkeypatch.setattr(dip_memory, "MEMINFO", "/nowhere")
    assert free_bytes(torch.device("cpu")) is None
    dip_memory.check_memory(TINY, (3, 10**6, 10**6), 1, torch.device("cpu"))


def test_a_picture_that_is_too_large_is_one_sentence(monkeypatch):
    monkeypatch.setattr(dip_memory, "free_bytes", lambda device: 10**6)
    monkeypatch.setattr(dip_memory, "SMALL", 16 * 16)
    x = torch.zeros(1, 1, 64, 48)
    m = measure(x, degradation=Identity(), noise=GaussianNoise(sigma_255=25), index=[0], random=RandomStreams(0))
    words = (
        r"48x64 pixels \(width x height\) needs about 0\.00\d+ GB of memory or more while it is fitted, and 0\.001 GB"
        r" are free"
    )
    with pytest.raises(UserError, match=words) as error:
        DIP(architecture=TINY, iterations=3).restore(m, random=RandomStreams(0))
    assert "\n" not in str(error.value)
    monkeypatch.setattr(dip_memory, "free_bytes", lambda device: 10**9)
    DIP(architecture=TINY, iterations=3).restore(m, random=RandomStreams(0))

"""Which severity a given picture was degraded with: the restorer is asked at every candidate, and what it says is
degraded again.
"""

import torch
from torch import Tensor

from degradations.base import Params
from diffusion.cold_restorer import ColdRestorer

MOST = 20  # candidates of the first look


def candidates(severities: int) -> list[int]:
    """At most 20 severities, evenly spaced in 1..T."""
    count = min(severities, MOST)
    return sorted({round(1 + k * (severities - 1) / max(1, count - 1)) for k in range(count)})


def residuals(restorer: ColdRestorer, y: Tensor, severities: list[int], params: Params) -> Tensor:
    """|D(R(y, s), s) - y| as a root mean square over the pixels, for every image and candidate: [B, S]."""
    found = []
    for s in severities:
        severity = torch.full((len(y),), s, device=y.device)
        again = restorer.family(restorer.predict(y, severity).clamp(-1, 1), severity, params)
        found.append((again - y).square().mean((1, 2, 3)).sqrt())
    return torch.stack(found, 1)


@torch.no_grad()
def estimate_severity(restorer: ColdRestorer, y: Tensor, params: Params) -> Tensor:
    """argmin_s |D(R(y, s), s) - y| over the candidates, int64 [B]: the severity at which the restorer explains the
    picture best.
    """
    severities = candidates(restorer.severities)
    best = residuals(restorer, y, severities, params).argmin(1)
    return torch.tensor(severities, device=y.device)[best]

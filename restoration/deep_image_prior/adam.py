"""Adam for several independent networks whose parameters are stacked: each has its own step count, so that one can
begin again beside the others.
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from common.private_names import foreach_add_
from networks.untrained.layers import part


class IndependentAdam(torch.optim.Optimizer):
    """Kingma and Ba's update, elementwise, for the copies k = 0 .. copies - 1 of
    :class:`networks.untrained.base.UntrainedNetwork`.

    What one optimiser per copy would do. :meth:`reseed_rows` forgets the moments and the step count of some copies.

    Args:
        lr: the learning rate.
        copies: K.
        factor: what the learning rate of a copy is multiplied by, from the number of steps that it has taken.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        copies: int = 1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        factor: Callable[[int], float] = lambda _step: 1.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps})
        self.copies, self.factor = copies, factor
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {
                    "first": torch.zeros_like(p),
                    "second": torch.zeros_like(p),
                    "step": torch.zeros(copies, dtype=torch.float32),
                }

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for p, state in self.state.items():
            # Fused kernels go through memory, not through indices: moments must lie there as the weights do, whatever
            # device and grouping they were saved on.
            state.update({name: torch.empty_like(p).copy_(state[name]) for name in ("first", "second")})

    def counts(self) -> list[int]:
        """The steps that each copy has taken since it began or was reseeded."""
        state = self.state[self.param_groups[0]["params"][0]]
        return [int(n) for n in state["step"]]

    @torch.no_grad()
    def reseed_rows(self, copies: Iterable[int]) -> None:
        """Forget the past of these copies."""
        for state in self.state.values():
            for k in copies:
                part(state["first"], k, self.copies).zero_()
                part(state["second"], k, self.copies).zero_()
                state["step"][k] = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            states = [self.state[p] for p in params]
            steps = states[0]["step"]
            # Copies with equal counts are updated in one go, which is nearly always all of them.
            together = bool((steps == steps[0]).all())
            for k in [None] if together else range(self.copies):
                self._update(group, params, states, k)
        return loss

    def _update(
        self, group: dict, params: list[nn.Parameter], states: list[dict[str, Tensor]], copy: int | None
    ) -> None:
        def share(tensor: Tensor) -> Tensor:
            return tensor if copy is None else part(tensor, copy, self.copies)

        counts = [s["step"][:1] if copy is None else s["step"][copy : copy + 1] for s in states]
        # Fused kernels want the count beside the parameters: all of them in one transfer, and they change what they are
        # given.
        rate = group["lr"] * self.factor(int(counts[0]))
        moved = list(torch.cat(counts).to(params[0].device).unbind())
        adam(
            [share(p) for p in params],
            [share(cast(Tensor, p.grad)) for p in params],
            [share(s["first"]) for s in states],
            [share(s["second"]) for s in states],
            [],
            moved,
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=rate,
            weight_decay=0.0,
            eps=group["eps"],
            maximize=False,
        )
        foreach_add_([s["step"] for s in states] if copy is None else counts, 1)

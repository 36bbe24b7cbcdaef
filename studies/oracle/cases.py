"""Every posterior method at a given number of network calls."""

from collections.abc import Callable
from dataclasses import dataclass

from diffusion.denoiser import Denoiser
from restoration.base import Method
from restoration.daps import DAPS
from restoration.ddnm import DDNM
from restoration.ddrm import DDRM
from restoration.diffpir import DiffPIR
from restoration.dps import DPS
from restoration.drp_denoiser import DenoisingDRP
from restoration.level_map import LevelMap
from restoration.one_shot import OneShot
from restoration.pigdm import PiGDM
from restoration.plug_and_play import PlugAndPlay
from restoration.pnp_flow import PnPFlow
from restoration.pseudo_inverse import PseudoInverse
from restoration.red_diff import REDDiff
from restoration.repaint import RePaint
from restoration.score_ald import ScoreALD
from restoration.sdedit import SDEdit
from restoration.warm_start import WarmStart

#: Network calls of a sample at which methods are compared, each as near to it as it can.
BUDGETS = (20, 100, 500)
HALF, NOISY = ("half",), ("half", "blur")


@dataclass(frozen=True)
class Variant:
    """A method with some of its options.

    Args:
        words: what is special, as it stands in a table; "" for the defaults.
        make: (prior, calls) -> the method of about that many network calls, its defaults for None; None where it
            cannot make so many.
        tasks: names of studies.oracle.worlds.TASKS.
    """

    words: str
    make: Callable[[Denoiser, int | None], Method | None]
    tasks: tuple[str, ...] = NOISY


def by_steps(cls: Callable[..., Method], *, calls_a_step: int = 1, **options: object) -> Callable:
    """A method of so many calls in each of its `steps`."""

    def make(prior: Denoiser, calls: int | None) -> Method:
        steps = {} if calls is None else {"steps": max(1, round(calls / calls_a_step))}
        return cls(prior=prior, clip=False, **options, **steps)

    return make


def sdedit(prior: Denoiser, calls: int | None) -> Method | None:
    """Of its steps over all times those below the start are walked."""
    if calls is None:
        return SDEdit(prior=prior, clip=False)
    steps = round(calls / 0.4)
    return SDEdit(prior=prior, steps=steps, clip=False) if steps <= prior.num_timesteps else None


def repaint(prior: Denoiser, calls: int | None) -> Method:
    """T + (r - 1) j ceil((T - j) / j) calls of T steps, jumps of j and r repeats."""
    if calls is None:
        return RePaint(prior=prior, clip=False)
    steps, length, repeats = {20: (8, 4, 4), 100: (10, 1, 11), 500: (50, 5, 11)}[calls]
    return RePaint(prior=prior, steps=steps, jump_length=length, jump_repeats=repeats, clip=False)


def pnp_flow(prior: Denoiser, calls: int | None) -> Method:
    """Its first step is none, and each of the others has five calls."""
    return PnPFlow(prior=prior, clip=False, **({} if calls is None else {"steps": calls // 5 + 1}))


def drp_denoiser(prior: Denoiser, calls: int | None) -> Method:
    """Its iterations are its calls."""
    return DenoisingDRP(prior=prior, clip=False, **({} if calls is None else {"iterations": calls}))


def one_shot(prior: Denoiser, calls: int | None) -> Method | None:
    return OneShot(prior=prior) if calls is None else None


CARDS: dict[str, tuple[Variant, ...]] = {
    "sdedit": (Variant("", sdedit),),
    "level_map": (Variant("", by_steps(LevelMap), HALF),),
    "dps": (
        Variant("", by_steps(DPS)),
        Variant("scale 0.5", by_steps(DPS, scale=0.5), HALF),
        # What 0.5 at 1000 steps is for 256 x 256 x 3 with a box of 128 missing, carried over to this size.
        Variant("relative_scale 1.3", by_steps(DPS, relative_scale=1.3), HALF),
    ),
    "score_ald": (
        Variant("", by_steps(ScoreALD, calls_a_step=3)),
        Variant("ancestral", by_steps(ScoreALD, rule="ancestral"), HALF),
    ),
    "repaint": (Variant("", repaint, ("clean half",)),),
    "ddrm": (Variant("", by_steps(DDRM)),),
    "ddnm": (Variant("", by_steps(DDNM), (*NOISY, "clean half")),),
    "pigdm": (Variant("", by_steps(PiGDM)), Variant("rule code", by_steps(PiGDM, rule="code"), HALF)),
    "diffpir": (
        Variant("", by_steps(DiffPIR)),
        Variant("weight 1.75, zeta 0.3", by_steps(DiffPIR, weight=1.75, zeta=0.3), HALF),
    ),
    "daps": (
        Variant("", by_steps(DAPS, calls_a_step=5)),
        Variant("spread denoiser, flow_steps 1", by_steps(DAPS, calls_a_step=2, spread="denoiser", flow_steps=1)),
    ),
    "red_diff": (Variant("", by_steps(REDDiff)),),
    "pnp_flow": (Variant("", pnp_flow),),
    "plug_and_play": (Variant("", by_steps(PlugAndPlay)),),
    "drp_denoiser": (Variant("", drp_denoiser),),
    "warm_start": (
        Variant("from y", by_steps(WarmStart), ("denoising",)),
        Variant("from A^+ y", by_steps(WarmStart, first=PseudoInverse(), start_255=60.0), HALF),
        Variant(
            "from A^+ y, gradient",
            by_steps(WarmStart, first=PseudoInverse(), start_255=60.0, consistency="gradient"),
            HALF,
        ),
    ),
    "one_shot": (Variant("", one_shot, ("denoising",)),),
}

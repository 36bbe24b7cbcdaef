"""Which method can work on which task, and what it will cost: known before anything runs."""

from collections.abc import Collection
from dataclasses import dataclass

from common.errors import UserError
from diffusion.grey_through_colour import GreyThroughColour
from evaluation.plan import Key, Plan


@dataclass(frozen=True)
class Cell:
    """One task with one method. images: how many are left to restore, of `total`. seconds: estimated by
    evaluation/cost.py, None where it was not asked for or it cannot work.

    refusal: why it cannot work, None where it can.
    """

    task: str
    method: str
    total: int
    images: int
    num_samples: int
    nfe: int
    backwards: int
    refusal: str | None = None
    seconds: float | None = None

    @property
    def calls(self) -> int:
        """Network forwards of one image that are left; for a refused one 0."""
        return 0 if self.refusal else self.images * self.num_samples * self.nfe

    @property
    def work(self) -> float:
        """Network forwards that are left, a backward counted as two more; 1 for each sample of a method without a
        network.
        """
        return self.images * self.num_samples * max(1, self.nfe + 2 * self.backwards)


def make_cells(plan: Plan, done: Collection[tuple[str, str, str, int]] = ()) -> list[Cell]:
    """All cells, with the reason of those that cannot work: one operator per (task, image shape) is bound and shown to
    every method.
    """
    done = frozenset(done)
    refusals = _refusals(plan)
    cells = []
    for task, name in plan.cells:
        entry, rows = plan.methods[name], plan.rows(task, name)
        left = sum(any((task, name, plan.names[row], k) not in done for k in range(entry.num_samples)) for row in rows)
        cost = entry.on(task).calls()
        cells.append(
            Cell(task, name, len(rows), left, entry.num_samples, cost.nfe, cost.backwards, refusals.get((task, name)))
        )
    return cells


def _refusals(plan: Plan) -> dict[Key, str]:
    found: dict[Key, str] = {}
    for task in plan.tasks.values():
        methods = [name for t, name in plan.cells if t == task.name]
        for shape, rows in plan.shapes(task.rows).items():
            index = plan.images.get(rows[:1]).index.tolist()
            size = "x".join(map(str, shape))
            try:
                operator = task.degradation.operator_for(shape, index, plan.random)
            except (UserError, ValueError) as error:
                for name in methods:
                    found.setdefault((task.name, name), f"images of {size}: {error}")
                continue
            for name in methods:
                try:
                    plan.methods[name].on(task.name).check(operator, task.noise)
                except UserError as error:
                    found.setdefault((task.name, name), str(error))
    return found


def refuse(cells: list[Cell], *, skip: bool) -> list[Cell]:
    """The cells that can work. Raises UserError that lists all the others, unless `skip`; also where none is left."""
    usable = [cell for cell in cells if cell.refusal is None]
    bad = [cell for cell in cells if cell.refusal is not None]
    if bad and not (skip and usable):
        reasons: dict[tuple[str, str], list[str]] = {}
        for cell in bad:
            reasons.setdefault((cell.task, str(cell.refusal)), []).append(cell.method)
        listed = "; ".join(f"{task} x {', '.join(methods)}: {reason}" for (task, reason), methods in reasons.items())
        remedy = (
            "every cell is refused, change the tasks or methods"
            if not usable
            else "change or remove them, or set --skip_unsupported=true"
        )
        raise UserError(f"{len(bad)} of {len(cells)} cells cannot work ({listed}); {remedy}")
    return usable


def other_sizes(plan: Plan) -> list[str]:
    """A sentence for every prior that knows images of another size alone, where ``any_size`` asked for it.

    Raises:
        UserError: nobody asked: it would run, and what it gives may be poor.
    """
    found = {}
    shapes = {shape for task in plan.tasks.values() for shape in plan.shapes(task.rows)}
    for name, built in plan.methods.items():
        if built.method.prior is None or getattr(built.method.prior, "any_size", False):
            continue
        trained = tuple(built.method.prior.data_shape)
        other = sorted(shape for shape in shapes if shape != trained and shape[0] == trained[0])
        if other:
            sizes = ", ".join(f"{h}x{w}" for _, h, w in other[:3])
            entry = plan.config.methods[name].prior
            found[entry] = (
                f"the prior '{entry}' was trained on images of {trained[1]}x{trained[2]}, the images here have {sizes}"
            )
    if found and not plan.config.any_size:
        raise UserError(
            f"{'; '.join(found.values())}: give data of that size, another prior, or --any_size to use it as it is"
        )
    return list(found.values())


def remarks_on_priors(plan: Plan) -> list[str]:
    """A sentence for every prior that estimates the noise by itself, whatever level the task says, and for every one of
    colour pictures that is shown grey ones.
    """
    found = []
    for name, built in plan.methods.items():
        prior, entry = built.method.prior, plan.config.methods[name].prior
        if getattr(prior, "blind", False):
            found.append(f"the prior '{entry}' is blind: it goes by the picture alone and ignores the level of noise")
        if isinstance(prior, GreyThroughColour):
            found.append(f"the prior '{entry}' knows colour pictures: grey ones are shown in three equal channels")
    return list(dict.fromkeys(found))


def images_per_batch(plan: Plan, num_samples: int) -> int:
    """`batch_size` counts chains, thus samples of images: memory depends on those."""
    return max(1, plan.config.batch_size // num_samples)

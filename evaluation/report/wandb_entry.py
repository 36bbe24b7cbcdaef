"""Where the table of an evaluation is logged."""

from dataclasses import dataclass

from common.errors import UserError

MODES = ("auto", "online", "offline", "disabled")


@dataclass(frozen=True)
class WandbEntry:
    """Where the table is logged; mode "disabled": nowhere."""

    mode: str = "disabled"
    project: str = "palimpsest"
    group: str | None = None

    def check(self, where: str) -> "WandbEntry":
        """Itself; UserError for an unknown mode."""
        if self.mode not in MODES:
            raise UserError(f"{where}: wandb.mode must be {', '.join(MODES[:-1])} or {MODES[-1]}, got '{self.mode}'")
        return self

"""Where a run is logged in Weights & Biases: online where a key is set, else offline; never asked."""

import netrc
import os
from pathlib import Path
from typing import Literal


class WandbOptions:
    """Where the run is logged: mode "auto" is online where a key is set, else offline; project, group and tags as in
    W&B.
    """

    def __init__(
        self,
        *,
        mode: Literal["auto", "online", "offline", "disabled"] = "auto",
        project: str = "palimpsest",
        group: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        self.mode, self.project, self.group, self.tags = mode, project, group, tags

    def resolved_mode(self) -> str:
        """online, offline or disabled; WANDB_MODE in the environment decides where `mode` is auto."""
        if self.mode != "auto":
            return self.mode
        if os.environ.get("WANDB_MODE") in ("online", "offline", "disabled"):
            return os.environ["WANDB_MODE"]
        return "online" if _wandb_key_is_set() else "offline"


def agent_part() -> Path:
    """<sweep>/<run> under W&B's agent, else empty: appended to default folders, since all runs of a sweep share their
    config's name.
    """
    ids = [os.environ[name] for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID") if os.environ.get(name)]
    return Path(*ids) if len(ids) == 2 else Path()


def _wandb_key_is_set() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False

"""config.yaml of a folder of results: what it was asked to do, which says what changed where rows do not fit."""

from pathlib import Path

import yaml

from common.errors import UserError
from common.files import write_atomically
from common.renamed import modernised
from evaluation.config import Config
from evaluation.fingerprint import differences
from evaluation.plan import Plan
from evaluation.rows import Row


def same_fingerprints(plan: Plan, rows: list[Row], folder: Path) -> None:
    """Refuse to continue cells that were begun with other settings, and say which."""
    changed = {}
    for row in rows:
        expected = plan.fingerprints.get((row.task, row.method))
        if expected is not None and row.fingerprint != expected:
            changed.setdefault((row.task, row.method), (row.fingerprint, expected))
    if not changed:
        return
    (task, method), (old, new) = next(iter(changed.items()))
    before = kept_config(folder)
    ignored = ("limit", "batch_size", "metrics", "title", "skip_unsupported", "any_size", "features", "wandb")
    reasons = [d for d in differences(before, plan.config.plain()) if not d.startswith(ignored)] if before else []
    why = f" ({'; '.join(reasons[:4])})" if reasons else " (a checkpoint or --precision changed)"
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    raise UserError(
        f"'{folder}' holds results of {task} x {method}{more} with other settings{why}, fingerprint {old}, now {new}: "
        "give another --output, or remove the folder"
    )


def keep_config(config: Config, folder: Path) -> None:
    write_atomically(folder / "config.yaml", yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True))


def kept_config(folder: Path) -> dict | None:
    try:
        kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return None
    return modernised(kept, warn=False) if isinstance(kept, dict) else None

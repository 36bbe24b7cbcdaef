"""Messages of libraries that say nothing about the user's run: each by its words and the version that says it.

What is not in the table appears as it did: a warning that nobody has read yet must not be lost. Nothing heavy is
imported, so that the table is in force before the libraries are.
"""

import logging
import re
import warnings

#: library, version in which it was seen, the logger or "warnings", the beginning of the message, why it is of no use.
SILENCED = (
    ("lightning", "2.6.6", "lightning.pytorch.utilities.rank_zero", "TPU available: False", "no TPU was asked for"),
    ("lightning", "2.6.6", "lightning.pytorch.utilities.rank_zero", "💡 Tip: For seamless", "an advertisement"),
    (
        "lightning",
        "2.6.6",
        "lightning.pytorch.trainer.connectors.checkpoint_connector",
        "`weights_only` was not set",
        "about writing, after every checkpoint; reading is restricted, callbacks/run_checkpoint.py",
    ),
    (
        "lightning",
        "2.6.6",
        "warnings",
        "`isinstance(treespec, LeafSpec)` is deprecated",
        "Lightning's own call of torch",
    ),
    (
        "lightning",
        "2.6.6",
        "warnings",
        "The `srun` command is available on your system but is not used",
        "said on every login node; how to submit is in docs/cluster.md",
    ),
    (
        "lightning",
        "2.6.6",
        "warnings",
        "The number of training batches (",
        "metrics.csv has a row every log_every_n_steps of the run, not of the epoch",
    ),
)


class _Without(logging.Filter):
    def __init__(self, beginnings: list[str]) -> None:
        super().__init__()
        self.beginnings = tuple(beginnings)

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginnings)


def silence() -> None:
    """Put the table in force; a second call changes nothing."""
    loggers: dict[str, list[str]] = {}
    for _, _, where, beginning, _ in SILENCED:
        if where == "warnings":
            warnings.filterwarnings("ignore", message=re.escape(beginning))
        else:
            loggers.setdefault(where, []).append(beginning)
    for name, beginnings in loggers.items():
        logger = logging.getLogger(name)
        if not any(isinstance(f, _Without) for f in logger.filters):
            logger.addFilter(_Without(beginnings))

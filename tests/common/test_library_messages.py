"""What libraries say of themselves is not on the screen; what is not in the table appears as before."""

import importlib.metadata
import logging
import warnings

import pytest
from helpers import call_process, tiny_config, write_config

from common.build import PROJECT
from common.library_messages import SILENCED, silence


@pytest.mark.parametrize("where", sorted({entry[2] for entry in SILENCED} - {"warnings"}))
def test_a_logger_keeps_what_is_not_in_the_table(where, caplog):
    silence()
    silence()
    logger = logging.getLogger(where)
    assert sum(type(f).__name__ == "_Without" for f in logger.filters) == 1
    beginning = next(entry[3] for entry in SILENCED if entry[2] == where)
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, logger=where):
            logger.info(f"{beginning} and so on")
            logger.warning("the sky falls")
    finally:
        logger.removeHandler(caplog.handler)
    assert beginning not in caplog.text and "the sky falls" in caplog.text


def test_an_unknown_warning_appears():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        silence()
        for beginning in [entry[3] for entry in SILENCED if entry[2] == "warnings"]:
            warnings.warn(f"{beginning} and so on", stacklevel=1)
        warnings.warn("LeafSpec is on fire", stacklevel=1)
    assert [str(w.message) for w in caught] == ["LeafSpec is on fire"]


def test_the_versions_are_those_that_are_pinned():
    """An upgrade looks at the table: does the library still say this?"""
    lines = (PROJECT / "requirements.txt").read_text().splitlines()
    pinned = {w[0].split("[")[0]: w[1].strip() for line in lines if len(w := line.split("==")) == 2}
    for library, version, _, beginning, _ in SILENCED:
        assert version == pinned[library] == importlib.metadata.version(library), beginning


@pytest.mark.slow  # a process of its own, whose libraries are imported
def test_a_run_in_a_log_file_is_about_the_run(tmp_path):
    config = tiny_config(max_steps=4)
    config["wandb"] = {"mode": "offline"}
    del config["trainer"]["enable_model_summary"]
    config["trainer"]["log_every_n_steps"] = 50
    result = call_process("train.py", "fit", "--config", write_config(tmp_path, config), "--run", tmp_path / "run")
    said = result.stdout + result.stderr
    assert result.returncode == 0, said
    for word in ("anonymous", "litlogger", "LeafSpec", "weights_only", "log_every_n_steps", "FLOPs", "TPU", "\x1b"):
        assert word not in said, said
    assert "DDPM, 41,609 parameters" in said and "finished: 4 steps" in said

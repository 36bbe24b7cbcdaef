"""Tests write no cache into the user's home, and those with real data are skipped where there is none."""

import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def real_data() -> Path:
    """The folder DATA_DIR; the test is skipped where it is not set."""
    if not os.environ.get("DATA_DIR"):
        pytest.skip("DATA_DIR is not set")
    return Path(os.environ["DATA_DIR"])

"""The hooks before a commit are the tools of CI, at the versions that CI pins: they run from .venv."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def test_every_hook_is_a_pinned_tool_of_the_environment():
    pinned = set(re.findall(r"^([\w-]+)(?:\[\w+\])?==", (ROOT / "requirements-dev.txt").read_text(), re.M))
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"]
    entries = [hook["entry"].split()[0] for hook in repos[0]["hooks"]]
    assert {entry.removeprefix(".venv/bin/") for entry in entries} == {"ruff", "pyright"} <= pinned
    assert all(entry.startswith(".venv/bin/") for entry in entries)

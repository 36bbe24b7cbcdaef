"""The benchmark runs and names what it compares; what it measures is not asserted."""

import sys

from benchmarks import lora_step


def test_quick(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lora_step", "--quick"])
    lora_step.main()
    out = capsys.readouterr().out
    for name in (
        "frozen / adapter",
        "frozen / peft",
        "adapter / all weights",
        "prior / merged",
    ):
        assert name in out

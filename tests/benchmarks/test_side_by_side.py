"""Contenders take turns, and the table says the same on the screen as in Markdown."""

import torch

from benchmarks.side_by_side import compare, paired, show, spread


def test_contenders_take_turns_after_one_call_each():
    called = []
    steps = {name: lambda n=name: called.append(n) for name in ("a", "b")}
    found = compare(steps, torch.device("cpu"), 2)
    assert called == ["a", "b"] * 3 and {name: len(seconds) for name, seconds in found.items()} == {"a": 2, "b": 2}


def test_ratios_are_of_the_same_round():
    assert spread(paired([1.0, 4.0, 9.0], [1.0, 2.0, 3.0])) == "2.00 (1.00 .. 3.00)"


def test_the_table_has_two_forms(capsys):
    head, rows = ["what", "ratio"], [["training", "1.50"], ["sampling", "2.00"]]
    show(head, rows, markdown=True, title="medians", columns=60)
    assert capsys.readouterr().out == "\n| what | ratio |\n| --- | --- |\n| training | 1.50 |\n| sampling | 2.00 |\n"
    show(head, rows, markdown=False, title="medians", columns=60)
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("medians", *head, *rows[0], *rows[1]))

"""What restore.py refuses before it looks at a picture, a method or a prior."""

import pytest
from helpers import call, one_sentence


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sigma_255", "5000"], "--sigma_255 must be finite, at least 0 and at most 255, got 5000"),
        (["--sigma_255", "nan"], "--sigma_255 must be finite"),
        (["--sigma_255", "-1"], "got -1"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--num_samples", "0"], "--num_samples must be at least 1"),
    ],
)
def test_ranges(words, message, tmp_path):
    one_sentence(call("restore.py", "nowhere.png", "--output", tmp_path / "out", *words), message)
    assert not (tmp_path / "out").exists()

"""Tables of one metric along several runs."""

import pytest

from common.errors import UserError
from sweeps.curves import markdown, read_curve

HEAD = "step,images,train/loss,quality/fid,quality/fid_low,quality/fid_high\n"


def _run(folder, text: str):
    folder.mkdir()
    (folder / "metrics.csv").write_text(HEAD + text)
    return folder


def test_values_stand_at_the_images_that_were_seen(tmp_path):
    one = _run(tmp_path / "one", "9,640,0.5,,,\n9,,,3.25,3,3.5\n19,1280,0.4,,,\n19,,,2,,\n")
    two = _run(tmp_path / "two", "19,1280,0.4,1.5,1.25,1.75\n")
    assert read_curve(one, "quality/fid") == {640: (3.25, 3.0, 3.5), 1280: (2.0, None, None)}
    table = markdown({"one": read_curve(one, "quality/fid"), "two": read_curve(two, "quality/fid")}, "quality/fid").splitlines()
    assert table[2:] == ["| run | 640 | 1,280 |", "| --- | ---: | ---: |", "| one | 3.25 [3, 3.5] | 2 |", "| two |  | 1.5 [1.25, 1.75] |"]


def test_a_metric_that_was_not_measured_is_refused_with_those_that_were(tmp_path):
    run = _run(tmp_path / "one", "9,640,0.5,,,\n")
    with pytest.raises(UserError, match=r"--metric 'val/loss'.*it has train/loss"):
        read_curve(run, "val/loss")
    with pytest.raises(UserError, match=r"there is no metrics\.csv"):
        read_curve(tmp_path, "val/loss")

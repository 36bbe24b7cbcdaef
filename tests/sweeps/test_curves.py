"""Tables of one metric along several runs."""

import pytest

from common.errors import UserError
from sweeps.curves import markdown, read_curve, read_curves

HEAD = "step,images,train/loss,quality/fid,quality/fid_low,quality/fid_high\n"


def _run(folder, text: str):
    folder.mkdir()
    (folder / "metrics.csv").write_text(HEAD + text)
    return folder


def test_values_stand_at_the_images_that_were_seen(tmp_path):
    one = _run(tmp_path / "one", "9,640,0.5,,,\n9,,,3.25,3,3.5\n19,1280,0.4,,,\n19,,,2,,\n")
    two = _run(tmp_path / "two", "19,1280,0.4,1.5,1.25,1.75\n")
    assert read_curve(one, "quality/fid") == {640: (3.25, 3.0, 3.5), 1280: (2.0, None, None)}
    table = markdown(
        {"one": read_curve(one, "quality/fid"), "two": read_curve(two, "quality/fid")}, "quality/fid"
    ).splitlines()
    assert table[2:] == [
        "| run | 640 | 1,280 |",
        "| --- | ---: | ---: |",
        "| one | 3.25 [3, 3.5] | 2 |",
        "| two |  | 1.5 [1.25, 1.75] |",
    ]


def test_a_run_that_has_not_measured_it_yet_has_an_empty_row_and_is_named(tmp_path):
    one = _run(tmp_path / "one", "9,640,0.5,3.25,3,3.5\n")
    two = _run(tmp_path / "two", "9,640,0.5,,,\n")  # the column is there
    three = _run(tmp_path / "three", "")
    (three / "metrics.csv").write_text("step,images,train/loss\n9,640,0.5\n")
    table = markdown(read_curves([one, two, three], "quality/fid"), "quality/fid").splitlines()
    assert table[4:] == ["| one | 3.25 [3, 3.5] |", "| two |  |", "| three |  |", "", "not measured yet: two, three"]


def test_runs_of_one_name_in_two_folders_are_two_rows(tmp_path):
    folders = []
    for parent, value in (("a", 2), ("b", 3)):
        (tmp_path / parent).mkdir()
        folders.append(_run(tmp_path / parent / "run", f"9,640,0.5,{value},,\n"))
    assert read_curves(folders, "quality/fid") == {
        str(f): {640: (v, None, None)} for f, v in zip(folders, (2.0, 3.0), strict=True)
    }


def test_a_metric_that_no_run_has_measured_is_refused_with_those_that_were(tmp_path):
    run = _run(tmp_path / "one", "9,640,0.5,,,\n")
    for metric in ("val/loss", "quality/fid"):
        with pytest.raises(UserError, match=rf"--metric '{metric}'.*there is train/loss"):
            read_curves([run], metric)
    with pytest.raises(UserError, match=r"there is no metrics\.csv"):
        read_curves([tmp_path], "val/loss")

import math

import pytest

from common.errors import UserError
from evaluation.rows import Row, RowFile, gather, only_one, part_path, read_rows


def row(image="a", sample=0, psnr=20.0, ssim=math.nan, task="t", method="m"):
    return Row(task, method, image, sample, 0, 0.1, 12.75, 0.5, 3, {"psnr": psnr, "ssim": ssim}, "f" * 16)


def written(path, *rows):
    with RowFile(path, ["psnr", "ssim"]) as file:
        file.append(rows)


def test_round_trip_and_a_missing_metric_is_an_empty_cell(tmp_path):
    path = tmp_path / "rows.csv"
    written(path, row("a"), row("b"))
    written(path, row("c"))
    assert [r.image for r in read_rows(path, ["psnr", "ssim"])] == ["a", "b", "c"]
    found = read_rows(path)[0]
    assert found.values["psnr"] == 20.0
    assert math.isnan(found.values["ssim"])
    assert path.read_text().splitlines()[1] == "t,m,a,0,0,0.1,12.75,0.5,3,20,," + "f" * 16


def test_torn_at_every_byte(tmp_path):
    """Whatever byte a kill stops at: the rows before are read, and the next run appends after a whole line."""
    path = tmp_path / "rows.csv"
    written(path, row("a"), row("b"))
    content = path.read_bytes()
    for end in range(len(content) + 1):
        path.write_bytes(content[:end])
        before = [r.image for r in read_rows(path)]
        assert before == ["a", "b"][: max(0, content[:end].count(b"\n") - 1)]
        written(path, row("c"))
        assert [r.image for r in read_rows(path)] == [*before, "c"]


def test_a_key_counts_once(tmp_path):
    path = tmp_path / "rows.csv"
    written(path, row("a", psnr=1.0), row("a", psnr=2.0), row("a", 1))
    assert [(r.image, r.sample, r.values["psnr"]) for r in read_rows(path)] == [("a", 0, 1.0), ("a", 1, 20.0)]


def test_parts_are_merged_once(tmp_path):
    written(tmp_path / "rows.csv", row("a"))
    written(part_path(tmp_path, 0), row("b"), row("a", psnr=99.0))
    written(part_path(tmp_path, 1), row("c"))
    with open(part_path(tmp_path, 1), "ab") as file:
        file.write(b"t,m,d,0,0")  # torn
    rows = gather(tmp_path, ["psnr", "ssim"])
    assert [(r.image, r.values["psnr"]) for r in rows] == [("a", 20.0), ("b", 20.0), ("c", 20.0)]
    assert sorted(p.name for p in tmp_path.glob("rows*")) == ["rows.csv"]
    assert gather(tmp_path, ["psnr", "ssim"]) != []


def test_refusals(tmp_path):
    path = tmp_path / "rows.csv"
    written(path, row("a"))
    with pytest.raises(UserError, match="--metrics_only"):
        read_rows(path, ["psnr"])
    with open(path, "ab") as file:
        file.write(b"t,m,b,zero,0,0.1,12.75,0.5,3,20,,ff\n")
    with pytest.raises(UserError, match="line 3"):
        read_rows(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="not a file of rows"):
        read_rows(path)


def test_two_evaluations_may_not_share_a_folder(tmp_path):
    with only_one(tmp_path), pytest.raises(UserError, match="another evaluation is writing"), only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_a_file_without_rows_takes_other_metrics(tmp_path):
    path = tmp_path / "rows.csv"
    written(path)
    assert gather(tmp_path, ["psnr"]) == []
    with RowFile(path, ["psnr"]) as file:
        file.append([row("a")])
    assert read_rows(path, ["psnr"])[0].values == {"psnr": 20.0}

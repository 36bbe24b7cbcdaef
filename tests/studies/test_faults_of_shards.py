"""The trial of kills itself: what it finds in a folder, and that it would notice a difference."""

import argparse
import shutil

import pytest

from common.errors import UserError
from studies.faults_of_shards import Kill, _state, differences, main, options_of, write


@pytest.fixture
def whole(tmp_path):
    folder = tmp_path / "whole"
    (folder / "restored/t/m").mkdir(parents=True)
    (folder / "restored/t/m/0.png").write_bytes(b"picture")
    (folder / "table.csv").write_text("task,method,metric,mean\nt,m,psnr,20\nt,m,seconds,1\n")
    (folder / "rows.csv").write_text("task,image,seconds\nt,0,1.5\n")
    return folder


def test_seconds_may_differ_and_nothing_else(whole, tmp_path):
    other = tmp_path / "killed"
    shutil.copytree(whole, other)
    (other / "rows.csv").write_text("task,image,seconds\nt,0,9.5\n")
    (other / "table.csv").write_text("task,method,metric,mean\nt,m,psnr,20\nt,m,seconds,7\n")
    assert differences(whole, other) == []
    (other / "table.csv").write_text("task,method,metric,mean\nt,m,psnr,20.1\n")
    (other / "restored/t/m/0.png").write_bytes(b"another")
    (other / "restored/t/m/1.png").write_bytes(b"more")
    assert differences(whole, other) == ["table.csv", "restored/t/m/0.png", "restored/t/m/1.png"]
    write(tmp_path, [Kill(1, 0, 3, True, 1, 0, False)], differences(whole, other))
    assert "different: table.csv" in (tmp_path / "kills.md").read_text()
    assert "| 1 | 0 | 3 | yes | 1 | 0 |  |" in (tmp_path / "kills.md").read_text()


def test_what_a_kill_left(tmp_path):
    place = tmp_path / "shards/1_of_3"
    (place / "restored/t").mkdir(parents=True)
    (place / "rows.csv").write_text("head\n1\n2\n3,to")
    for name in ("a.png", "b.png", "c.png", ".d.png.5.part"):
        (place / "restored/t" / name).touch()
    assert _state(tmp_path, 1) == (2, True, 1, 1) and _state(tmp_path, 0) == (0, False, 0, 0)


def test_mistakes_are_one_sentence(tmp_path, monkeypatch):
    asked = argparse.Namespace(config="configs/evaluate/mnist.yaml", limit=6, methods="dps,nobody")
    with pytest.raises(UserError, match=r"has no 'nobody'; it has "):
        options_of(asked)
    assert "--methods.pseudo_inverse=null" in options_of(argparse.Namespace(**vars(asked) | {"methods": "dps"}))
    (tmp_path / "whole").mkdir()
    monkeypatch.setattr("sys.argv", ["faults", "--output", str(tmp_path)])
    with pytest.raises(UserError, match="holds another trial"):
        main()

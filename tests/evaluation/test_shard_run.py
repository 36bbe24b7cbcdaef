"""An evaluation in shards: the same rows, whatever their number, order and interruptions."""

import csv
import itertools
import shutil
from pathlib import Path

import pytest
import yaml
from helpers import call, one_sentence

from common.errors import UserError
from evaluation.config import parse_config
from evaluation.peak_memory import read_memory
from evaluation.run import Options, evaluate
from evaluation.shard import Shard, parse_shard, shard_folder, shard_of_launcher
from evaluation.shard_run import evaluate_merged, evaluate_shard

TOYS = "tests.evaluation.toys."


def config(**changes):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 10,
        "batch_size": 3,
        "tasks": {
            "box": {
                "degradation": {"class_path": "degradations.random_mask.RandomMask", "init_args": {"removed": 0.4}},
                "noise": {"sigma_255": 6},
            },
            "denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}, "limit": 5},
        },
        "methods": {
            "back": {"class_path": TOYS + "Back"},
            "dither": {"class_path": TOYS + "Dither", "num_samples": 3},
        },
    }
    return parse_config(raw | changes, "test")


def rows_of(folder: Path, name: str = "rows.csv") -> list[dict[str, str]]:
    with open(folder / name, newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def table_of(folder: Path) -> list[dict[str, str]]:
    return [row for row in rows_of(folder, "table.csv") if row["metric"] != "seconds"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    evaluate(config(), Options(output=folder))
    return folder


@pytest.mark.parametrize("order", [(0,), (1, 0), (2, 0, 1), (6, 5, 4, 3, 2, 1, 0)])
def test_any_number_in_any_order_gives_the_same_rows_to_the_last_digit(order, whole, tmp_path):
    """Whoever is last joins them, and nobody before."""
    for number, rank in enumerate(order, 1):
        results = evaluate_shard(config(), Options(output=tmp_path), Shard(rank, len(order)))
        assert (results is not None) == (tmp_path / "table.csv").is_file()
        assert number == len(order) or results is None or len(order) == 7  # of seven some have no batch
    assert rows_of(tmp_path) == rows_of(whole)
    assert table_of(tmp_path) == table_of(whole)
    assert rows_of(tmp_path, "sets.csv") == rows_of(whole, "sets.csv")
    for path in (whole / "restored").rglob("*.png"):
        assert (tmp_path / path.relative_to(whole)).read_bytes() == path.read_bytes()


def test_a_shard_goes_on_where_it_was_killed_and_merging_says_what_is_missing(whole, tmp_path):
    options = Options(output=tmp_path)
    evaluate_shard(config(), options, Shard(0, 2))
    torn = shard_folder(tmp_path, Shard(0, 2)) / "rows.csv"
    torn.write_text("\n".join(torn.read_text().splitlines()[:5])[:-7])  # a kill in the middle of a row
    with pytest.raises(UserError, match=r"--merge: \d+ samples are missing, first box x back of image"):
        evaluate_merged(config(), options)
    assert not (tmp_path / "table.csv").exists()
    evaluate_shard(config(), options, Shard(1, 2))
    assert evaluate_shard(config(), options, Shard(0, 2)) is not None
    assert rows_of(tmp_path) == rows_of(whole)


def test_more_images_and_another_number_of_shards_restore_nothing_twice(whole, tmp_path):
    options = Options(output=tmp_path)
    for rank in range(2):
        evaluate_shard(config(limit=6), options, Shard(rank, 2))
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "shards").rglob("*.png")}
    for rank in range(3):
        evaluate_shard(config(), options, Shard(rank, 3))
    assert rows_of(tmp_path) == rows_of(whole)
    assert all(path.stat().st_mtime_ns == time for path, time in written.items())


def test_folders_of_other_places_are_joined(whole, tmp_path):
    parts = []
    for rank in range(2):
        folder = tmp_path / f"machine_{rank}"
        evaluate_shard(config(), Options(output=folder), Shard(rank, 2))
        parts.append(shard_folder(folder, Shard(rank, 2)))
    joined = Options(output=tmp_path / "joined")
    evaluate_merged(config(), joined, parts)
    assert rows_of(joined.output) == rows_of(whole)
    memory = (joined.output / "memory.csv").read_text()
    evaluate_merged(config(), joined, parts)  # again: nothing changes
    assert rows_of(joined.output) == rows_of(whole)
    assert (joined.output / "memory.csv").read_text() == memory
    most = read_memory(parts)
    assert len(most) == 4 and read_memory([joined.output]) == most
    shutil.rmtree(tmp_path / "machine_0")  # and stays, when the folders that were joined are gone
    evaluate_merged(config(), joined, parts[1:])
    costs = {(row["task"], row["method"]): row["peak_mb"] for row in rows_of(joined.output, "costs.csv")}
    assert {key: float(text) for key, text in costs.items()} == {key: entry[1] for key, entry in most.items()}


def test_a_folder_of_shards_stands_for_them_and_no_folder_is_passed_over(whole, tmp_path):
    split = Options(output=tmp_path / "split")
    evaluate_shard(config(), split, Shard(0, 2))
    with pytest.raises(UserError, match=r"--merge: \d+ samples are missing"):
        evaluate_merged(config(), Options(output=tmp_path / "joined"), [split.output])
    other = Options(output=tmp_path / "other")
    evaluate_shard(config(), other, Shard(1, 2))
    evaluate_merged(config(), Options(output=tmp_path / "joined"), [split.output, other.output])
    assert rows_of(tmp_path / "joined") == rows_of(whole)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "file", "empty"):
        with pytest.raises(UserError, match=rf"--merge '{tmp_path / name}' is no folder of an evaluation or a shard"):
            evaluate_merged(config(), Options(output=tmp_path / "joined"), [split.output, tmp_path / name])


def test_folders_that_do_not_fit_are_refused(tmp_path):
    options = Options(output=tmp_path / "a")
    evaluate_shard(config(), options, Shard(0, 2))
    other = Options(output=tmp_path / "b")
    evaluate_shard(config(seed=1), other, Shard(1, 2))
    parts = [shard_folder(options.output, Shard(0, 2)), shard_folder(other.output, Shard(1, 2))]
    with pytest.raises(UserError, match=r"holds results of .* with other settings \(seed: 1 -> 0\)"):
        evaluate_merged(config(), Options(output=tmp_path / "c"), parts)
    with pytest.raises(UserError, match="there are no shards in"):
        evaluate_merged(config(), Options(output=tmp_path / "d"))
    shutil.rmtree(parts[0] / "restored")
    with pytest.raises(UserError, match=r"--merge: the restored image '.*' is missing"):
        evaluate_merged(config(), Options(output=tmp_path / "e"), parts[:1])


def test_what_killed_writers_left_goes_but_not_what_a_shard_is_writing(tmp_path):
    """A plain evaluation in a folder with shards leaves theirs alone; a shard removes its own."""
    own = shard_folder(tmp_path, Shard(0, 2))
    parts = [tmp_path / "restored" / "box" / ".a.png.7.part", own / "restored" / ".b.png.8.part"]
    for path in parts:
        path.parent.mkdir(parents=True)
        path.write_text("half")
    evaluate(config(limit=1), Options(output=tmp_path))
    assert [path.exists() for path in parts] == [False, True]
    evaluate_shard(config(limit=1), Options(output=tmp_path), Shard(0, 2))
    assert not parts[1].exists()


def test_what_a_killed_joining_left_goes(tmp_path):
    for k in (0, 1):
        evaluate_shard(config(limit=2), Options(output=tmp_path), Shard(k, 2))
    parts = [tmp_path / ".table.csv.7.part", tmp_path / "restored" / "box" / ".a.png.8.part"]
    running = shard_folder(tmp_path, Shard(0, 2)) / ".rows.csv.9.part"
    for path in (*parts, running):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    evaluate_merged(config(limit=2), Options(output=tmp_path))
    assert [path.exists() for path in (*parts, running)] == [False, False, True]


def test_the_command(tmp_path):
    """Two shards, the second of which joins them, --merge again, and options that do not go together."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(config().plain()))
    words = ("evaluate.py", "--config", path, "--output", tmp_path / "out")
    first = call(*words, "--shard", "1/2")
    assert first.returncode == 0 and "shard 1/2:" in first.stderr and not (tmp_path / "out" / "table.csv").exists()
    one_sentence(call(*words, "--merge"), "samples are missing", "run the shards that have not ended")
    assert "report: " in call(*words, "--shard", "0/2").stderr
    assert call(*words, "--merge").returncode == 0
    for options, message in (
        (("--shard", "2/2"), "must be I/N with I from 0 to N - 1"),
        (("--shard", "0/2", "--metrics_only"), "--shard does not go with --metrics_only"),
        (("--shard", "0/2", "--devices", 2), "--shard is one process"),
        (("--shard", "0/2", "--merge"), "give one of them"),
    ):
        one_sentence(call(*words, *options), message)


def test_what_a_shard_is():
    assert [parse_shard("0/1"), parse_shard("3/4")] == [Shard(0, 1), Shard(3, 4)]
    for text in ("4/4", "1", "a/b", "-1/4", "0/0"):
        with pytest.raises(ValueError, match="must be I/N"):
            parse_shard(text)
    assert shard_of_launcher({"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}) == Shard(1, 2)
    assert shard_of_launcher({"RANK": "2", "WORLD_SIZE": "3"}) == Shard(2, 3)
    # in a batch script that asked for two tasks, outside of srun
    assert shard_of_launcher({"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}) is None
    for pair in itertools.pairwise([{}, {"RANK": "0", "WORLD_SIZE": "1"}]):
        assert [shard_of_launcher(environment) for environment in pair] == [None, None]

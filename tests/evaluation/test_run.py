"""The whole evaluation in one process, with small stand-ins for methods."""

import csv
import dataclasses
import errno
import html
import math
import os
import re

import numpy as np
import pytest
import torch
from PIL import Image

from checkpoints.files import write_safetensors
from checkpoints.prior import describe_prior
from common.errors import UserError, disk_message
from common.image_range import to_float
from degradations.measurement import measure
from diffusion.denoiser import DiscreteDenoiser
from diffusion.schedules import Cosine
from evaluation import engine
from evaluation.config import parse_config
from evaluation.not_finite import note_not_finite
from evaluation.plan import make_plan
from evaluation.run import Options, dry_run, evaluate
from evaluation.shard import Shard
from evaluation.shard_run import evaluate_shard
from networks.unet import UNet

TOYS = "tests.evaluation.toys."


def config(**changes):
    raw = {
        "data": "datamodules.digits.Digits",
        "limit": 10,
        "batch_size": 8,
        "tasks": {
            "box": {
                "degradation": {"class_path": "degradations.box_mask.BoxMask", "init_args": {"size": 3}},
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


def rows_of(folder, name="rows.csv"):
    with open(folder / name, newline="") as file:
        return list(csv.DictReader(file))


def without_time(folder):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(folder)]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    evaluate(config(), Options(output=folder))
    return folder


def test_every_key_once_and_every_file(done):
    rows = rows_of(done)
    keys = [(r["task"], r["method"], r["image"], r["sample"]) for r in rows]
    assert len(set(keys)) == len(keys) == 10 * (1 + 3) + 5 * (1 + 3)
    assert list(rows[0]) == [
        *("task", "method", "image", "sample", "seed", "sigma", "sigma_255", "seconds", "nfe"),
        *("psnr", "ssim", "consistency", "fingerprint"),
    ]
    for task, method, image, sample in keys:
        assert (done / "restored" / task / method / f"{image}_{sample}.png").is_file()
    assert {r["ssim"] for r in rows} == {""}  # 8x8: too small, missing and not a number
    assert float(rows[0]["sigma_255"]) == pytest.approx(127.5 * float(rows[0]["sigma"])) == pytest.approx(6)
    sheets = [p.name for p in (done / "images").iterdir()]
    assert sorted(n for n in sheets if "_samples_" not in n) == ["box.png", "denoise.png"] and len(sheets) == 2 + 2 * 4
    assert Image.open(done / "images" / "box.png").width > 300
    assert list(rows_of(done, "table.csv")[0]) == ["task", "method", "metric", "mean", "ci_low", "ci_high", "n"]
    assert len(rows_of(done, "sets.csv")) == 15


def test_numbers_are_those_of_the_saved_images(done):
    plan = make_plan(config())
    truth = plan.images.get([3]).image
    task = plan.tasks["box"]
    index = plan.images.get([3]).index.tolist()
    measurement = measure(
        to_float(truth), degradation=task.degradation, noise=task.noise, index=index, random=plan.random
    )
    row = next(r for r in rows_of(done) if (r["task"], r["method"], r["image"]) == ("box", "back", plan.names[3]))
    with Image.open(done / "restored" / "box" / "back" / f"{plan.names[3]}_0.png") as image:
        saved = torch.tensor(list(image.tobytes())).view(8, 8)
    expected = measurement.operator.adjoint(measurement.y)[0, 0].clamp(-1, 1).add(1).mul(127.5).round()
    assert torch.equal(saved.float(), expected)
    mse = (saved - truth[0, 0].double()).square().mean().item()
    assert float(row["psnr"]) == pytest.approx(10 * math.log10(255**2 / mse), rel=1e-8)


def test_table_averages_samples_first_and_leaves_out_what_no_cell_has(done):
    table = {(r["task"], r["method"], r["metric"]): r for r in rows_of(done, "table.csv")}
    rows = [r for r in rows_of(done) if (r["task"], r["method"]) == ("denoise", "dither")]
    assert float(table["denoise", "dither", "psnr"]["mean"]) == pytest.approx(
        sum(float(r["psnr"]) for r in rows) / len(rows)
    )
    assert table["denoise", "dither", "psnr"]["n"] == "5"
    assert not any(metric == "ssim" for _, _, metric in table)  # 8x8: a sentence in place of a column of dashes
    assert ("box", "back", "calibration") not in table
    sets = [r for r in rows_of(done, "sets.csv") if r["task"] == "denoise"]
    ratio = sum(float(r["variance"]) for r in sets) / sum(float(r["bias"]) for r in sets)
    assert float(table["denoise", "dither", "calibration"]["mean"]) == pytest.approx(ratio, rel=1e-6)


def test_report_is_self_contained(done):
    page = (done / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:|//|/)""", page)
    assert "@import" not in page and "url(" not in page
    assert page.count("<img alt=") >= 2 and "data:image/png;base64," in page
    assert page.count('role="img" aria-label=') == page.count("<svg")
    assert "SSIM is missing: its window of 11 pixels" in page
    assert page.count("SSIM") == 1 + page.count("metrics.ssim.SSIM")
    assert "BoxMask" in page and "torch" in page and rows_of(done)[0]["fingerprint"] in page
    assert len(page) < 2_000_000


def test_again_restores_nothing(done, capsys):
    before = (done / "rows.csv").read_bytes()
    evaluate(config(), Options(output=done))
    assert "everything is done already" in capsys.readouterr().err
    assert (done / "rows.csv").read_bytes() == before


def test_batches_and_interruptions_do_not_matter(done, tmp_path):
    """Batch size 2 instead of 8, and a run that had got only a part: the same rows as in one go."""
    evaluate(config(batch_size=2, limit=3), Options(output=tmp_path))
    text = (tmp_path / "rows.csv").read_text().splitlines(keepends=True)
    (tmp_path / "rows.csv").write_text("".join(text[:5]) + text[5][:20])
    evaluate(config(batch_size=3), Options(output=tmp_path))
    assert without_time(tmp_path) == without_time(done)


def test_a_method_may_be_added_but_not_changed(tmp_path):
    one = config(methods={"back": {"class_path": TOYS + "Back"}}, limit=2)
    evaluate(one, Options(output=tmp_path))
    evaluate(config(limit=2), Options(output=tmp_path))
    changed = config(methods={"back": {"class_path": TOYS + "Back", "init_args": {"gain": 0.5}}}, limit=2)
    with pytest.raises(UserError, match=r"back.*methods.back.init_args.gain: null -> 0.5.*another --output"):
        evaluate(changed, Options(output=tmp_path))
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        evaluate(config(limit=2, seed=1), Options(output=tmp_path))
    with pytest.raises(UserError, match="--metrics_only"):
        evaluate(config(limit=2, metrics={"mae": "metrics.mae.MAE"}), Options(output=tmp_path))


def test_metrics_are_added_without_restoring(tmp_path, monkeypatch):
    evaluate(config(limit=3), Options(output=tmp_path))
    before = rows_of(tmp_path)
    monkeypatch.setattr("tests.evaluation.toys.Back.restore", None)
    monkeypatch.setattr("tests.evaluation.toys.Dither.restore", None)
    evaluate(config(limit=3, metrics={"mae": "metrics.mae.MAE"}), Options(output=tmp_path, metrics_only=True))
    after = rows_of(tmp_path)
    assert all(float(row["mae"]) > 0 for row in after)
    assert [{k: v for k, v in row.items() if k != "mae"} for row in after] == before


@pytest.mark.parametrize(
    ("size", "kind"),
    [((9, 8), "image"), ((8, 8, 3), "image"), ("16 bits", "image"), ((9, 8), "samples"), ((8, 8, 3), "set")],
)
def test_a_restored_picture_of_another_shape_is_named(size, kind, tmp_path):
    """Of whatever metric reads it first: somebody put it there."""
    evaluate(config(limit=4), Options(output=tmp_path))
    path = tmp_path / "restored/denoise/dither" / sorted(os.listdir(tmp_path / "restored/denoise/dither"))[0]
    values = np.zeros((8, 8), np.uint16) if size == "16 bits" else np.zeros(size, np.uint8)
    Image.fromarray(values).save(path)
    more = {
        "image": {"mae": "metrics.mae.MAE"},
        "samples": {"deviation": "metrics.sample_deviation.SampleDeviation"},
        "set": {"kid": {"class_path": "metrics.kid.KID", "init_args": {"features": "tests.metric_toys.Quadrants"}}},
    }[kind]
    with pytest.raises(UserError, match=rf"the restored image '{path}' has .*: remove it and its row") as error:
        evaluate(config(limit=4, metrics=more), Options(output=tmp_path, metrics_only=kind == "image"))
    assert "\n" not in str(error.value)


def test_refused_cells_are_all_named_before_anything_runs(tmp_path, capsys):
    methods = {"no": {"class_path": TOYS + "Refusing"}, "back": {"class_path": TOYS + "Back"}}
    large = {"degradation": {"class_path": "degradations.box_mask.BoxMask", "init_args": {"size": 9}}}
    both = config(methods=methods, tasks=dict(config().plain()["tasks"], large=large))
    for run in (evaluate, dry_run):
        with pytest.raises(
            UserError, match=r"4 of 6 cells cannot work.*box x no: .*four legs.*denoise x no.*large x no, back: .*9"
        ):
            run(both, Options(output=tmp_path))
    assert rows_or_none(tmp_path) is None
    results = evaluate(dataclasses.replace(both, skip_unsupported=True), Options(output=tmp_path))
    assert set(results.table) == {("box", "back"), ("denoise", "back")}
    assert "Left out" in (tmp_path / "report.html").read_text()


def rows_or_none(folder):
    return rows_of(folder) if (folder / "rows.csv").exists() else None


def test_the_truth_is_for_oracles_alone(tmp_path):
    methods = {
        "oracle": {"class_path": TOYS + "Oracle"},
        "back": {"class_path": TOYS + "Back"},
        "dither": {"class_path": TOYS + "Dither"},
    }
    # Dither itself asserts that it is given none
    results = evaluate(config(methods=methods, limit=2), Options(output=tmp_path))
    assert {r["psnr"] for r in rows_of(tmp_path) if r["method"] == "oracle"} == {"100"}
    assert results.shown("oracle") == "oracle*"
    assert "oracle" not in results.best("box", results.columns[0])


def test_not_finite_is_counted_and_named_and_the_others_go_on(tmp_path, capsys):
    bad = {"class_path": TOYS + "NotFinite", "tasks": ["denoise"]}
    both = config(methods={"bad": bad, "back": {"class_path": TOYS + "Back"}})
    plan, options = make_plan(both), Options(output=tmp_path)
    total = len(plan.rows("denoise", "bad"))
    sentence = (
        f"denoise x bad: 1 of {total} restorations are not finite (NaN or infinity), first that of image"
        f" '{plan.names[1]}'"
    )
    results = evaluate(both, options)
    assert results.missing[0].startswith(sentence) and sentence in " ".join(capsys.readouterr().err.split())
    assert results.table["denoise", "bad"]["psnr"].n == total - 1
    assert results.table["denoise", "back"]["psnr"].n == total
    assert sentence in html.unescape((tmp_path / "report.html").read_text())
    kept = (tmp_path / "not_finite.csv").read_text()
    assert kept == f"denoise,bad,{plan.names[1]},{plan.fingerprints['denoise', 'bad']}\n"
    evaluate(both, options)  # again: it is not restored again
    assert (tmp_path / "not_finite.csv").read_text() == kept
    shards = Options(output=tmp_path / "in_shards")
    for rank in range(2):
        joined = evaluate_shard(both, shards, Shard(rank, 2))
    assert joined is not None and joined.missing == results.missing


@pytest.mark.parametrize("damage", [b"\xff\xfe\n", b"\0\0\0\n", b"a,b\n1,2\n"])
def test_what_only_helps_the_folder_may_be_damaged(damage, tmp_path):
    """By a disk or a kill: what can be computed is computed again; images that have no name any more are a sentence."""
    dither = {"class_path": TOYS + "Dither", "num_samples": 2}
    asked = config(methods={"dither": dither, "back": {"class_path": TOYS + "Back"}}, limit=2)
    first = evaluate(asked, Options(output=tmp_path))
    for name in ("bias.csv", "memory.csv", "metrics.json", "not_finite.csv", "sets.csv", "distribution.csv"):
        (tmp_path / name).write_bytes(damage)
    again = evaluate(asked, Options(output=tmp_path))
    assert again.table == first.table and again.missing == first.missing
    (tmp_path / "images.csv").write_bytes(damage)
    with pytest.raises(UserError, match=r"which has no entry in images\.csv now"):
        evaluate(asked, Options(output=tmp_path))


def test_where_nothing_is_finite_it_is_an_error(tmp_path):
    asked = config(methods={"bad": {"class_path": TOYS + "NotFinite", "tasks": ["denoise"]}}, limit=2)
    plan = make_plan(asked)
    every = [("denoise", "bad", name, plan.fingerprints["denoise", "bad"]) for name in plan.names[:2]]
    note_not_finite(tmp_path, every)
    with pytest.raises(UserError, match="denoise x bad: 2 of 2 restorations are not finite"):
        evaluate(asked, Options(output=tmp_path))


def test_prior_is_missing(tmp_path):
    methods = {"one": {"class_path": TOYS + "OnePass"}}
    with pytest.raises(UserError, match=r"methods.one needs the prior 'default'.*--prior PATH"):
        evaluate(config(methods=methods), Options(output=tmp_path))
    with pytest.raises(UserError, match=r"there is no prior at 'no\.ckpt'"):
        evaluate(config(methods=methods, priors={"default": {"path": "no.ckpt"}}), Options(output=tmp_path))
    path = f"{tmp_path}/runs/flow_cifar10/checkpoints/last.ckpt"
    untrained = {"path": path, "trained_by": "configs/train/flow_cifar10.yaml --data.limit 5"}
    with pytest.raises(
        UserError, match=r"priors\.default: there is no '.*/last\.ckpt' yet: python train\.py fit .*chain"
    ):
        evaluate(config(methods=methods, priors={"default": untrained}), Options(output=tmp_path))


def test_full_disk_leaves_only_whole_rows_and_goes_on(done, tmp_path, monkeypatch):
    """The disk is full at the twelfth image: the rows that are there have their image, and the next run ends as one in
    one go.
    """
    count = iter(range(1000))

    def full(path, pixels, write=engine.write_png):
        if next(count) == 11:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "write_png", full)
        with pytest.raises(OSError) as error:
            evaluate(config(), Options(output=tmp_path))
    assert "the disk is full" in disk_message(error.value)
    rows = rows_of(tmp_path)
    assert 0 < len(rows) < 60
    assert all(
        (tmp_path / "restored" / r["task"] / r["method"] / f"{r['image']}_{r['sample']}.png").is_file() for r in rows
    )
    evaluate(config(), Options(output=tmp_path))
    assert without_time(tmp_path) == without_time(done)


def test_folder_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output"):
        evaluate(config(), Options(output=tmp_path / "file" / "out"))


def test_a_prior_of_another_size_is_used_with_a_warning_where_asked_and_else_refused(tmp_path, capsys):
    network = UNet(in_channels=1, channels=8, multipliers=[1, 1], blocks=1, attention=[], groups=4)
    denoiser = DiscreteDenoiser(network=network, schedule=Cosine(), prediction="v", data_shape=(1, 16, 16))
    write_safetensors(tmp_path / "prior.safetensors", network, describe_prior(denoiser, data="test"))
    priors = {"default": {"path": str(tmp_path / "prior.safetensors")}}
    asked = config(methods={"one": {"class_path": TOYS + "OnePass"}}, priors=priors, limit=2)
    for run in (dry_run, evaluate):
        with pytest.raises(UserError, match=r"'default' was trained on images of 16x16, .* have 8x8: .*--any_size"):
            run(asked, Options(output=tmp_path / "out"))
        assert not (tmp_path / "out").exists()
    asked = dataclasses.replace(asked, any_size=True)
    dry_run(asked, Options(output=tmp_path / "out"))
    for precision in ("32", "bf16"):
        evaluate(asked, Options(output=tmp_path / precision, precision=precision))
    assert (
        capsys.readouterr().err.count("the prior 'default' was trained on images of 16x16, the images here have 8x8")
        == 3
    )
    a, b = rows_of(tmp_path / "32"), rows_of(tmp_path / "bf16")
    assert a[0]["fingerprint"] != b[0]["fingerprint"] and a[0]["nfe"] == "1"
    assert float(a[0]["psnr"]) == pytest.approx(float(b[0]["psnr"]), abs=0.5)

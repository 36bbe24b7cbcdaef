import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from checkpoints.cold_restorer import describe_cold_restorer
from checkpoints.files import write_safetensors
from checkpoints.lora.files import AdapterEntry
from checkpoints.prior import describe_prior
from common.build import build, find_class, named_parameters
from common.errors import UserError
from common.files import write_atomically
from common.yaml_files import read_yaml
from degradations.frozen_measurements import MANIFEST, VERSION
from degradations.severity.base import SeverityFamily
from diffusion.assemble import assemble
from diffusion.cold_restorer import ColdRestorer
from diffusion.image_conditioning import ConditioningOptions
from diffusion.schedules import Cosine
from evaluation.cells import make_cells, remarks_on_priors
from evaluation.config import Prior, parse_config, read_config
from evaluation.plan import make_plan
from evaluation.run import Options, evaluate
from networks.denoisers.dncnn import DnCNN
from networks.denoisers.ffdnet import FFDNet
from networks.unet import UNet
from restoration.base import Method

ROOT = Path(__file__).resolve().parent.parent.parent

BASE = """
data: {class_path: datamodules.digits.Digits}
tasks:
  box: {degradation: {class_path: degradations.box_mask.BoxMask, init_args: {size: 3}}, noise: {sigma_255: 6}}
methods:
  back: tests.evaluation.toys.Back
  dither: {class_path: tests.evaluation.toys.Dither, init_args: {scale: 1e-1}, num_samples: 4}
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    return path


def test_defaults_and_shorthands(base):
    config = read_config([base])
    assert list(config.metrics) == [
        *("psnr", "ssim", "consistency"),
        *("psnr_mean", "pairwise_rmse", "calibration"),
    ]
    assert config.tasks["box"].noise == {
        "class_path": "degradations.noise.GaussianNoise",
        "init_args": {"sigma_255": 6},
    }
    assert config.methods["back"].class_path == "tests.evaluation.toys.Back"
    assert config.methods["dither"].init_args == {"scale": 0.1}  # 1e-1 is a number
    assert parse_config(config.plain(), "itself") == config


def test_later_files_and_options_change_single_entries(base, tmp_path):
    later = tmp_path / "later.yaml"
    later.write_text("methods: {dither: {num_samples: 2}, back: null}\nseed: 7\n")
    overrides = [
        ("methods.dither.init_args.scale", "0.3"),
        ("tasks.box.noise.sigma_unit", "0.05"),
        ("priors.default.path", "'some where.ckpt'"),
        ("tasks.free", "{degradation: degradations.identity.Identity}"),
    ]
    config = read_config([base, later], overrides)
    assert list(config.methods) == ["dither"]
    assert (config.methods["dither"].num_samples, config.methods["dither"].init_args, config.seed) == (
        2,
        {"scale": 0.3},
        7,
    )
    # another unit replaces the level, it does not stand beside it
    assert config.tasks["box"].noise["init_args"] == {"sigma_unit": 0.05}
    assert config.tasks["box"].degradation["init_args"] == {"size": 3}
    assert config.priors == {"default": Prior("some where.ckpt", "ema")}
    assert list(config.tasks) == ["box", "free"]


def test_adapters_by_name_are_switched_and_scaled_one_by_one(base):
    base.write_text(
        BASE + "priors: {default: {path: a.ckpt, adapters: {style: x/adapter, task: {path: y/adapter, scale: 2}}}}\n"
    )
    assert read_config([base]).priors["default"].adapters == (AdapterEntry("x/adapter"), AdapterEntry("y/adapter", 2.0))
    overrides = [
        ("priors.default.adapters.style", "null"),
        ("priors.default.adapters.task.scale", "0.5"),
        ("priors.default.adapters.new.path", "z"),
    ]
    assert read_config([base], overrides).priors["default"].adapters == (
        AdapterEntry("y/adapter", 0.5),
        AdapterEntry("z"),
    )


def test_another_class_starts_without_the_options_of_the_old_one(base):
    config = read_config([base], [("tasks.box.degradation.class_path", "degradations.identity.Identity")])
    assert config.tasks["box"].degradation == {"class_path": "degradations.identity.Identity", "init_args": {}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("method: {}\n", r"base.yaml': unknown key 'method' \(did you mean 'methods'\?\)"),
        ("seed: 1\nseed: 2\n", r"line 9: the key 'seed' is given twice"),
        ("seed: x\n", r"seed must be a whole number of at least 0, got 'x'"),
        ("limit: 0\n", r"limit must be a whole number of at least 1"),
        ("split: tset\n", r"split must be test, validation or train"),
        ("priors: {default: {path: a.ckpt, adapters: b}}\n", r"priors.default.adapters must be paths or"),
        (
            "priors: {default: {path: a.ckpt, adapters: [{paht: b}]}}\n",
            r"adapters\[0\]: unknown key 'paht' \(did you mean 'path'\?\)",
        ),
        (
            "priors: {default: {path: a.ckpt, adapters: [{path: b, scale: much}]}}\n",
            r"adapters\[0\].scale must be a finite number, got 'much'",
        ),
        (
            "priors: {default: {path: a.ckpt, adapters: {mine: {path: b, scale: .nan}}}}\n",
            r"adapters.mine.scale must be a finite number",
        ),
        ("priors: {default: {path: a.ckpt, weigths: raw}}\n", r"unknown key 'weigths' \(did you mean 'weights'\?\)"),
        (
            "metrics: {psnr: {class_pth: a.B}}\n",
            r"metrics.psnr: unknown key 'class_pth' \(did you mean 'class_path'\?\)",
        ),
        ("metrics: {../x: a.B}\n", r"'../x' is not a usable name"),
        ("seed: [1\n", r"line \d+"),
        ("- a\n", r"line"),
    ],
)
def test_mistakes_are_one_sentence(base, change, message):
    base.write_text(BASE + change)
    with pytest.raises(UserError, match=message) as error:
        read_config([base])
    assert "\n" not in str(error.value)
    assert "base.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("dotted", "text", "message"),
    [
        ("metods.back", "x", r"no option --metods.back \(did you mean 'methods'\?\)"),
        ("methods.back.scale", "1", r"unknown key 'scale'"),
        ("seed.a", "1", r"goes into 'seed', which is 3"),
        ("methods.back.per_task", "{bix: {}}", r"per_task: there is no task 'bix' \(did you mean 'box'\?\)"),
        ("methods.back.per_task", "{box: 3}", r"methods.back.per_task.box must be a mapping, got 3"),
        ("methods.back.limit", "0", r"methods.back.limit must be a whole number of at least 1"),
        ("methods.back.tasks", "[bix]", r"there is no task 'bix' \(did you mean 'box'\?\)"),
        ("tasks.box", "null", r"every entry of 'tasks' was removed"),
        ("methods.back.num_samples", "0", r"methods.back.num_samples must be a whole number of at least 1"),
    ],
)
def test_mistakes_on_the_command_line(base, dotted, text, message):
    base.write_text(BASE + "seed: 3\n")
    with pytest.raises(UserError, match=message):
        read_config([base], [(dotted, text)])


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_config([tmp_path / "no.yaml"])


# those: test_generation.py
SHIPPED = sorted(p for p in (ROOT / "configs" / "evaluate").glob("*.yaml") if not p.stem.startswith("generation_"))
SHIPPED += [ROOT / "configs" / "demo" / "evaluate.yaml", ROOT / "configs" / "demo" / "photograph.yaml"]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_configurations_are_built_and_no_cell_is_refused(path, tmp_path):
    """With a tiny prior in the place of each trained one, and random images where the data set is not here."""
    config = read_config([path])
    plan = make_plan(stand_in(config, tmp_path))
    cells = make_cells(plan)
    assert [c.refusal for c in cells] == [None] * len(cells)
    assert len(cells) == sum(len(m.tasks or config.tasks) for m in config.methods.values())


COLD = [p for p in SHIPPED if p.stem.startswith("cold_")]


@pytest.mark.slow
@pytest.mark.parametrize("path", COLD, ids=lambda p: p.stem)
def test_the_cold_comparisons_run(path, tmp_path, monkeypatch):
    """As they are, with small networks, four images and few steps of the others' chains: every column of the paper's
    tables is there.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = stand_in(read_config([path]), tmp_path)
    few = {
        n: dataclasses.replace(m, init_args=m.init_args | {"steps": 3}) if m.init_args.get("steps") else m
        for n, m in config.methods.items()
    }
    results = evaluate(
        dataclasses.replace(config, methods=few, limit=4), Options(output=tmp_path / "out", accelerator="cpu")
    )
    # No classifier and no SSIM for 8x8 pixels.
    names = (
        ("psnr", "rmse_pooled")
        if path.stem == "cold_digits_deblurring"
        else ("psnr", "ssim", "rmse_pooled", "fid", "kid")
    )
    assert set(names) <= {c.name for c in results.columns}
    assert all(math.isfinite(v[name].mean) for v in results.table.values() for name in names)


FRAGMENTS = ROOT / "configs" / "evaluate" / "fragments"

#: So that a chain is short, for whichever of these options a method has.
SHORT = {
    "steps": 2,
    "repeats": 1,
    "flow_steps": 1,
    "jump_length": 1,
    "jump_repeats": 2,
    "draws": 1,
    "iterations": 2,
    "images": 2,
}


@pytest.mark.parametrize("name", ["inverse_problems_mnist", "poster_comparison_mnist", "non_linear_mnist", "short"])
def test_the_comparisons_of_posterior_methods_run(name, tmp_path):
    """Every method and task, with two images and short chains: a method of four samples has what needs several."""
    left_out = [(f"tasks.{t}", "null") for t in ("random", "random_noisy", "box_noisy", "super_resolution_noisy")]
    files = [ROOT / "configs" / "evaluate" / f"{name}.yaml"]
    if name == "short":
        left_out += [(f"tasks.{t}", "null") for t in ("super_resolution", "deblurring", "deblurring_noisy")]
        files = [files[0].with_name("inverse_problems_mnist.yaml"), FRAGMENTS / "short.yaml"]
    changes = left_out if name in ("inverse_problems_mnist", "short") else []
    config = stand_in(read_config(files, changes), tmp_path)
    methods = {}
    for method, entry in config.methods.items():
        taken = named_parameters(find_class(entry.class_path, Method, where=method))
        short = {option: value for option, value in SHORT.items() if option in taken}
        start = {"start": 1.0} if "start" in taken else {}
        limit = 1 if entry.limit else None
        methods[method] = dataclasses.replace(entry, init_args=entry.init_args | short | start, limit=limit)
    config = dataclasses.replace(config, methods=methods, limit=2)
    results = evaluate(config, Options(output=tmp_path / "out", accelerator="cpu"))
    assert len(results.table) == sum(len(m.tasks or config.tasks) for m in config.methods.values())
    assert all(math.isfinite(v["psnr"].mean) for v in results.table.values())
    if name == "inverse_problems_mnist":
        assert {m for (_, m), v in results.table.items() if "crps" in v} == {
            n for n, m in config.methods.items() if m.num_samples > 1
        }
        assert results.table["box", "ddnm"]["psnr"].n == 2 and results.table["box", "daps"]["psnr"].n == 1
        assert any(text.startswith("over the first 1 images alone: score_ald, repaint") for text in results.missing)


@pytest.mark.parametrize("data", ["cifar10", "faces", "fashion_mnist", "mnist"])
def test_the_short_comparison_has_every_cell_and_the_calls_that_it_says(data, tmp_path):
    """As many cells as the long one; the numbers in the heads of both fragments are those of its 16 and 32 images."""
    path = ROOT / "configs" / "evaluate" / f"inverse_problems_{data}.yaml"
    long, said = read_config([path]), []
    for fragments in (["short"], ["short", "two_samples"]):
        files = [FRAGMENTS / f"{name}.yaml" for name in fragments]
        config = read_config([path, *files])
        assert list(config.methods) == list(long.methods) and list(config.tasks) == list(long.tasks)
        cells = make_cells(make_plan(stand_in(config, tmp_path)))
        assert len(cells) == 163 and all(c.refusal is None and c.nfe <= 105 for c in cells)
        samples = [(c, c.num_samples * min(32, config.methods[c.method].limit or 32)) for c in cells]
        counts = [sum(n * c.nfe for c, n in samples), sum(n * c.backwards for c, n in samples)]
        head = " ".join(line.removeprefix("# ") for line in files[-1].read_text().splitlines() if line[0] == "#")
        said.append([f"{n:,}" in head for n in counts])
    assert said == [[True, True], [True, True]]


@pytest.mark.parametrize(("data", "images"), [("mnist", 100), ("faces", 32)])
def test_one_draw_of_many_images_has_the_cells_and_the_calls_that_it_says(data, images, tmp_path):
    """All tasks, ten methods beside the pseudo-inverse, every image in every cell, and the numbers of the head."""
    files = [FRAGMENTS / "short.yaml", FRAGMENTS / "one_draw.yaml"]
    config = read_config([ROOT / "configs" / "evaluate" / f"inverse_problems_{data}.yaml", *files])
    cells = make_cells(make_plan(stand_in(config, tmp_path)))
    assert len(cells) == 9 * 11 and all(c.refusal is None and c.nfe <= 105 and c.num_samples == 1 for c in cells)
    assert all((config.methods[c.method].limit or 100) >= images for c in cells)
    head = files[-1].read_text()
    for count in (sum(c.nfe for c in cells), sum(c.backwards for c in cells)):
        assert f"{images * count:,}" in head


def test_the_strengths_that_were_found_beside_deepinv_reach_their_methods(tmp_path):
    """Each value of the fragment is the option of its method in its task; nothing of it is refused."""
    files = [ROOT / "configs" / "evaluate" / "beside_deepinv_mnist.yaml", FRAGMENTS / "beside_deepinv_tuned.yaml"]
    cells = make_cells(make_plan(stand_in(read_config(files), tmp_path)))
    assert len(cells) == 21 and all(c.refusal is None for c in cells)
    found = {(name, task, *options.items()) for name, m in read_config(files).methods.items()
             for task, options in m.per_task.items()}  # fmt: skip
    assert ("dps_norm", "random_noisy", ("relative_scale", 32.0)) in found
    assert len(found) == 12 and ("deepinv_ddrm", "deblurring_noisy", ("eta", 0.5)) in found


def upright_and_lying(folder):
    """Three colour pictures of 48x40 and 40x48 pixels, as sets of photographs have them."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for k, size in enumerate([(48, 40, 3), (40, 48, 3), (48, 40, 3)]):
        Image.fromarray(generator.integers(256, size=size, dtype=np.uint8)).save(folder / f"{k}.png")


@pytest.mark.parametrize("name", ["photographs_denoising", "photographs_denoising_grey"])
def test_published_denoisers_on_pictures_of_unequal_sizes(name, tmp_path, capsys):
    """The shipped configuration, with small files in KAIR's layout: every picture at its own size, one call each."""
    config = stand_in(read_config([ROOT / "configs" / "evaluate" / f"{name}.yaml"]), tmp_path)
    channels = 1 if name.endswith("grey") else 3
    files = {"ffdnet": FFDNet(channels=channels, width=4, layers=2), "dncnn_blind": DnCNN(channels=channels, width=4)}
    for prior, network in files.items():
        torch.save(network.state_dict(), tmp_path / f"{prior}.pth")
    priors = {n: Prior(str(tmp_path / f"{n}.pth"), preset="dncnn_blind" if n != "ffdnet" else None) for n in files}
    results = evaluate(dataclasses.replace(config, priors=priors), Options(output=tmp_path / "out", accelerator="cpu"))
    assert {(task, method) for task, method in results.table} >= {("noise_25", "ffdnet"), ("noise_50", "dncnn_blind")}
    assert all(math.isfinite(v["psnr"].mean) and v["psnr"].n == 3 for v in results.table.values())
    restored = tmp_path / "out" / "restored" / "noise_25" / "ffdnet"
    assert sorted(Image.open(p).size for p in restored.rglob("*.png")) == [(40, 48), (40, 48), (48, 40)]
    said = capsys.readouterr().err
    assert said.count("the prior 'dncnn_blind' is blind") == 1 and "'ffdnet' is blind" not in said


def test_grey_pictures_with_a_prior_of_colour(tmp_path):
    """Made colour and back, and said once, not once for each cell; colour pictures with a grey prior are refused."""
    config = stand_in(read_config([ROOT / "configs" / "evaluate" / "photographs_denoising_grey.yaml"]), tmp_path)
    torch.save(FFDNet(channels=3, width=4, layers=2).state_dict(), tmp_path / "colour.pth")
    priors = {n: Prior(str(tmp_path / "colour.pth")) for n in config.priors}
    plan = make_plan(dataclasses.replace(config, priors=priors, limit=1))
    shown = plan.methods["ffdnet"].method.prior
    assert shown is not None and shown.data_shape[0] == 1
    for cell in make_cells(plan):  # the noise is the same in all channels: it asks for sqrt(3) times the level
        if cell.task == "noise_50" and cell.method != "degraded":
            assert cell.refusal is not None and "levels 0 to 75" in cell.refusal and "1.73 times" in cell.refusal
        else:
            assert cell.refusal is None
    assert [r for r in remarks_on_priors(plan) if "'ffdnet'" in r] == [
        "the prior 'ffdnet' knows colour pictures: grey ones are shown in three equal channels"
    ]
    colour = read_config([ROOT / "configs" / "evaluate" / "photographs_denoising.yaml"])
    torch.save(FFDNet(channels=1, width=4, layers=2).state_dict(), tmp_path / "grey.pth")
    stood = stand_in(colour, tmp_path)
    plan = make_plan(dataclasses.replace(stood, priors={n: Prior(str(tmp_path / "grey.pth")) for n in stood.priors}))
    refusals = [c.refusal for c in make_cells(plan) if c.method == "ffdnet"]
    assert all(r is not None and "images with 1 channel(s), the images here have 3" in r for r in refusals)


def test_ways_to_use_a_denoiser_on_photographs(tmp_path):
    """The shipped configuration, on small pictures with small priors, FFDNet in KAIR's layout: every cell has a row."""
    path = ROOT / "configs" / "evaluate" / "photographs_methods.yaml"
    changes = [("data.init_args.size", "32"), ("limit", "1"), ("any_size", "true")]
    config = stand_in(read_config([path], changes), tmp_path)
    torch.save(FFDNet(channels=3, width=4, layers=2).state_dict(), tmp_path / "ffdnet.pth")
    short = {"DenoisingDRP": {"iterations": 2}, "PseudoInverse": {}}
    methods = {
        name: dataclasses.replace(m, init_args=m.init_args | short.get(m.class_path.rpartition(".")[2], {"steps": 2}))
        for name, m in config.methods.items()
    }
    priors = {**config.priors, "ffdnet": Prior(str(tmp_path / "ffdnet.pth"))}
    config = dataclasses.replace(config, methods=methods, priors=priors)
    results = evaluate(config, Options(output=tmp_path / "out", accelerator="cpu"))
    assert len(results.table) == len(config.tasks) * len(config.methods) == 28
    assert all(math.isfinite(v["psnr"].mean) for v in results.table.values())


def test_a_deep_image_prior_on_super_resolution(tmp_path):
    """The shipped configuration: each factor has the published settings of its own task; with two iterations every cell
    has a row.
    """
    path = ROOT / "configs" / "evaluate" / "dip_super_resolution.yaml"
    config = stand_in(
        read_config([path], [("data.init_args.size", "32"), ("limit", "1"), ("any_size", "true")]), tmp_path
    )
    plan, asked = make_plan(config), {}
    for name, task in plan.tasks.items():
        operator = task.degradation.operator_for((3, 32, 32), [0], plan.random)
        settings = plan.methods["dip"].on(name).settings(operator, task.noise)
        asked[name] = (settings.iterations, settings.jitter)
    assert asked == {"x4": (2000, 0.03), "x8": (4000, 0.05)}
    small = {"class_path": "networks.untrained.skip.SkipArchitecture", "init_args": {"preset": "small"}}
    short = {"dip": {"iterations": 2, "architecture": small}, "plug_and_play": {"steps": 2}}
    methods = {
        name: dataclasses.replace(m, init_args=m.init_args | short.get(name, {})) for name, m in config.methods.items()
    }
    results = evaluate(
        dataclasses.replace(config, methods=methods), Options(output=tmp_path / "out", accelerator="cpu")
    )
    assert len(results.table) == 8 and all(math.isfinite(v["psnr"].mean) for v in results.table.values())


def test_the_photograph_of_the_demo(tmp_path):
    """The shipped configuration, at 32 pixels and with a small prior: both tasks have their row and sheet."""
    changes = [("data.init_args.size", "32"), ("methods.plug_and_play.init_args.steps", "2")]
    config = stand_in(read_config([ROOT / "configs" / "demo" / "photograph.yaml"], changes), tmp_path)
    results = evaluate(config, Options(output=tmp_path / "out", accelerator="cpu"))
    cells = [("noise", "total_variation"), ("noise", "plug_and_play"), ("holes", "plug_and_play")]
    assert list(results.table) == cells and {c.name for c in results.columns} >= {"psnr", "ssim"}
    assert sorted(p.stem for p in (tmp_path / "out" / "images").iterdir()) == ["holes", "noise"]


def stand_in(config, folder):
    """A configuration with small, untrained priors in the place of its own, and random images. A restorer undoes the
    family that the training configuration of the run that is named says; feature networks are of assets/, as they are.
    """
    data = config.data["class_path"].rpartition(".")[2]
    shape = {
        "Digits": (1, 8, 8),
        "MNIST": (1, 28, 28),
        "FashionMNIST": (1, 28, 28),
        "CIFAR10": (3, 32, 32),
        "CelebA": (3, 64, 64),
        "NaturalImages": (
            1 if config.data["init_args"].get("mode") == "grey" else 3,
            *(2 * (config.data["init_args"].get("size", 64),)),
        ),
        "ImageFolder": (1 if config.data["init_args"].get("mode") == "grey" else 3, 48, 40),
    }[data]
    priors = {}
    for name, prior in config.priors.items():
        conditioning = ConditioningOptions() if name == "guided" else None
        inputs = shape[0] * (2 if conditioning else 1)
        network = UNet(
            in_channels=inputs, out_channels=shape[0], channels=8, multipliers=[1, 1], blocks=1, attention=[], groups=4
        )
        run = Path(prior.path).parts[1]
        if run.startswith("cold_"):
            trained = read_yaml(ROOT / "configs" / "train" / f"{run}.yaml")["model"]["init_args"]
            assert tuple(trained["data_shape"]) == shape
            restorer = ColdRestorer(
                network=network, family=build(trained["family"], SeverityFamily, where=run), data_shape=shape
            )
            description = describe_cold_restorer(restorer, data="test")
        else:
            denoiser = assemble(
                network=network, schedule=Cosine(), prediction="v", data_shape=shape, conditioning=conditioning
            )
            description = describe_prior(denoiser, data="test")
        write_safetensors(folder / f"{name}.safetensors", network, description)
        priors[name] = Prior(str(folder / f"{name}.safetensors"))
    toys = {"MNIST": "Grey28", "FashionMNIST": "Grey28", "CIFAR10": "Colour32", "CelebA": "Colour64"}
    given = {"class_path": f"tests.evaluation.toys.{toys[data]}", "init_args": {}} if data in toys else config.data
    if data == "ImageFolder":
        upright_and_lying(folder / "pictures")
        given = {**config.data, "init_args": {**config.data["init_args"], "folder": str(folder / "pictures")}}
    methods = {  # a mean of training images is one of those random images
        n: dataclasses.replace(m, init_args=m.init_args | {"data": given}) if "data" in m.init_args else m
        for n, m in config.methods.items()
    }
    frozen = {"path": str(folder), "measurements": str(folder)}
    write_atomically(folder / MANIFEST, json.dumps({"version": VERSION, "entries": []}))
    methods = {
        n: dataclasses.replace(m, init_args=frozen) if m.class_path.endswith("FromFolder") else m
        for n, m in methods.items()
    }
    return dataclasses.replace(config, data=given, priors=priors, methods=methods)


def test_where_a_table_is_logged():
    raw = {"data": "d.D", "tasks": {"a": {"degradation": "x.Y"}}, "methods": {"m": "r.M"}}
    assert parse_config(raw, "c").wandb.mode == "disabled"
    assert parse_config({**raw, "wandb": {"mode": "offline", "group": "g"}}, "c").wandb.group == "g"
    with pytest.raises(UserError, match=r"wandb\.mode must be auto, online, offline or disabled, got 'on'"):
        parse_config({**raw, "wandb": {"mode": "on"}}, "c")


@pytest.mark.parametrize("name", ["diversity_mnist", "diversity_faces", "masked_mnist"])
def test_metrics_by_region_are_added_to_evaluations_of_masks(name, tmp_path):
    """Each in both regions, of the same metric, with a label of its own; none is missing."""
    path = ROOT / "configs" / "evaluate" / f"{name}.yaml"
    config = read_config([path, FRAGMENTS / "by_region.yaml"])
    metrics = make_plan(stand_in(config, tmp_path)).metrics
    names = set(config.metrics) - set(read_config([path]).metrics)
    assert {"ssim_missing", "ssim_measured", "vendi_missing", "precision_measured"} <= names <= set(metrics.every)
    labels = [column.label for column in metrics.columns()]
    assert len(set(labels)) == len(labels) and sum("measured pixels" in label for label in labels) >= 6

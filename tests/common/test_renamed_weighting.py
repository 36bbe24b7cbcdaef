"""A loss weighting by its name of before: in a config, on a command line, in a run that goes on, in a checkpoint."""

import pytest
import torch
import yaml
from helpers import tiny_config, tiny_denoiser, write_config

from checkpoints.export import write_safetensors
from checkpoints.prior import describe_prior
from common.build import build
from common.errors import UserError
from common.renamed import modernised, modernised_words
from common.renamed_weighting import WEIGHTINGS
from diffusion.weighting.base import Weighting
from lightning_modules.fine_tuning import FineTuning
from training.cli import TrainCLI

#: What a stored config.yaml of before said beside every weighting.
BESIDE = {"min_snr_gamma": 5.0, "p2_k": 1.0, "p2_gamma": 1.0, "sigma_data": 0.5}
SNR = torch.logspace(-4, 4, 9, dtype=torch.float64)
#: The weights on x0 as they were computed.
FORMULAS = {
    "simple": lambda o: SNR,
    "min_snr": lambda o: SNR.clamp(max=o["min_snr_gamma"]),
    "soft_min_snr": lambda o: o["min_snr_gamma"] * SNR / (SNR + o["min_snr_gamma"]),
    "snr_plus_one": lambda o: SNR + 1,
    "truncated_snr": lambda o: SNR.clamp(min=1),
    "p2": lambda o: SNR / (o["p2_k"] + SNR).pow(o["p2_gamma"]),
    "edm": lambda o: SNR + o["sigma_data"] ** -2,
    "target": lambda o: torch.ones_like(SNR),
}


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize(
    "beside", [{}, BESIDE, {"min_snr_gamma": 3.0, "p2_k": 1.5, "p2_gamma": 0.5, "sigma_data": 0.6}]
)
def test_a_name_and_its_numbers_are_the_same_weights_bit_for_bit(name, beside):
    new = modernised({"model": {"init_args": {"weighting": name, "prediction": "v", **beside}}}, warn=False)
    options = new["model"]["init_args"]
    assert set(options) == {"weighting", "prediction", *(["sigma_data"] if beside else [])}
    weighting = build(options["weighting"], Weighting, where="weighting")
    assert torch.equal(weighting.on_x0(SNR), FORMULAS[name]({**BESIDE, **beside}))
    assert modernised(new, warn=False) == new


def test_the_new_name_is_said():
    with pytest.warns(FutureWarning, match=r"'weighting: p2' is called 'weighting: diffusion.weighting.p2.P2' now"):
        modernised({"weighting": "p2"})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--model.weighting=min_snr"], ["--model.weighting=diffusion.weighting.min_snr.MinSNR"]),
        (["--model.weighting", "edm", "--x"], ["--model.weighting", "diffusion.weighting.edm.EDM", "--x"]),
        (["--model.weighting", "P2"], ["--model.weighting", "diffusion.weighting.p2.P2"]),
        (
            ["--model.min_snr_gamma", "3", "--model.weighting=min_snr", "--seed=1"],
            ["--model.weighting=diffusion.weighting.min_snr.MinSNR", "--seed=1", "--model.weighting.gamma", "3"],
        ),
        (["--model.p2_k=2"], ["--model.weighting.k=2"]),
        (["--model.weighting={class_path: a.B}"], ["--model.weighting={class_path: a.B}"]),
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_words_of_a_command_line(words, expected):
    assert modernised_words(words) == expected


def test_a_name_that_there_never_was():
    for words in (["--model.weighting", "p3"], ["--model.weighting=p3"]):
        with pytest.raises(UserError, match=r"weighting must be a class of diffusion/weighting.*got 'p3'.*p2"):
            modernised_words(words)


def plain(config, run, monkeypatch, *options):
    """What train.py makes of a config, without training: it claims the run folder, and compares."""
    monkeypatch.setattr(TrainCLI, "_run_subcommand", lambda self, subcommand: None)
    monkeypatch.setattr("sys.argv", ["train.py", "fit", "--config", str(config), "--run", str(run), *options])
    cli = TrainCLI()
    cli.run.open(cli.plain_config)
    cli.run._lock.close()  # as if the process had ended
    return cli.plain_config["model"]["init_args"], cli.model


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_run_of_before_goes_on_under_either_name(tmp_path, monkeypatch):
    """The stored config has the name and every number, as they were dumped with their defaults."""
    config = tiny_config()
    config["model"]["init_args"]["weighting"] = "min_snr"
    path, run = write_config(tmp_path, config), tmp_path / "run"
    options, model = plain(path, run, monkeypatch)
    assert options["weighting"] == {"class_path": WEIGHTINGS["min_snr"][0], "init_args": {"gamma": 5.0}}
    assert type(model.weighting).__name__ == "MinSNR"

    stored = yaml.safe_load((run / "config.yaml").read_text())
    stored["model"]["init_args"] |= {**BESIDE, "weighting": "min_snr"}
    old = yaml.safe_dump(stored)
    (run / "checkpoints").mkdir(exist_ok=True)
    torch.save({"global_step": 1}, run / "checkpoints/last.ckpt")
    for now in ("min_snr", {"class_path": WEIGHTINGS["min_snr"][0]}):
        (run / "config.yaml").write_text(old)
        config["model"]["init_args"]["weighting"] = now
        plain(write_config(tmp_path, config), run, monkeypatch)

    # One that said nothing of it was trained with "simple".
    del config["model"]["init_args"]["weighting"]
    (run / "config.yaml").write_text(old.replace("weighting: min_snr", "weighting: simple"))
    assert plain(write_config(tmp_path, config), run, monkeypatch)[0]["weighting"]["class_path"].endswith("Simple")

    config["model"]["init_args"]["weighting"] = "min_snr"
    write_config(tmp_path, config)
    options, model = plain(
        path, tmp_path / "other", monkeypatch, "--model.min_snr_gamma=3", "--model.weighting=min_snr"
    )
    assert options["weighting"]["init_args"] == {"gamma": 3.0} and model.weighting.gamma == 3

    (run / "config.yaml").write_text(old.replace("min_snr_gamma: 5.0", "min_snr_gamma: 3.0"))
    with pytest.raises(UserError, match=r"weighting.init_args.gamma: 3\.0 there, 5\.0 now"):
        plain(path, run, monkeypatch)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("min_snr", "diffusion.weighting.min_snr.MinSNR"),
        (
            {"class_path": "diffusion.weighting.p2.P2", "init_args": {"k": 2.0, "gamma": 0.5}},
            "diffusion.weighting.p2.P2",
        ),
        (None, "diffusion.weighting.simple.Simple"),
    ],
)
def test_a_prior_is_trained_further_with_the_weighting_of_its_file(tmp_path, said, expected):
    denoiser = tiny_denoiser()
    training = {} if said is None else {"training": {"images": 1, "weighting": said}}
    path = tmp_path / "prior.safetensors"
    write_safetensors(path, denoiser.network, describe_prior(denoiser, data="Digits", **training), dtype=torch.float32)
    fast = {"class_path": "lightning_modules.ddpm.DDPM", "init_args": {"sampling_steps": 2}}
    tuned = FineTuning(prior=str(path), training=fast)
    spec = tuned.describe("Digits")["training"]["weighting"]
    assert spec["class_path"] == expected and tuned.inner.weighting.spec == spec
    if isinstance(said, dict):
        assert spec == said


def test_a_file_cannot_name_a_class_of_others(tmp_path):
    denoiser, path = tiny_denoiser(), tmp_path / "prior.safetensors"
    described = describe_prior(denoiser, data="Digits", training={"weighting": {"class_path": "os.path.join"}})
    write_safetensors(path, denoiser.network, described, dtype=torch.float32)
    with pytest.raises(UserError, match="not one of this project's own"):
        FineTuning(prior=str(path))

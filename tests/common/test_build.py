import copy
import math

import pytest

from common.build import build
from common.errors import UserError
from degradations.noise import GaussianNoise, Noise
from diffusion.schedules import Linear, Schedule
from networks.unet import UNet


def test_builds_what_the_config_names():
    noise = build(
        {"class_path": "degradations.noise.GaussianNoise", "init_args": {"sigma_255": 10}}, Noise, where="tasks.a.noise"
    )
    assert isinstance(noise, GaussianNoise) and noise.sigma == pytest.approx(10 / 127.5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"class_path": "degradations.noise.GaussianNois"}, ["did you mean 'GaussianNoise'"]),
        ({"class_path": "degradations.nose.GaussianNoise"}, ["no module", "degradations.noise"]),
        (
            {"class_path": "degradations.noise.GaussianNoise", "init_args": {"sigma_25": 1}},
            ["no option 'sigma_25'", "sigma_255"],
        ),
        ({"class_path": "degradations.noise.GaussianNoise", "init_args": {"sigma": "loud"}}, ["sigma", "loud"]),
        ({"class_path": "degradations.noise.GaussianNoise", "init_args": {"sigma": -1}}, ["sigma", "-1"]),
        ({"class_path": "degradations.noise.GaussianNoise", "init_args": 3}, ["init_args must be", "got 3"]),
        ({"class_path": "degradations.noise.GaussianNoise", "init_args": "sigma"}, ["init_args must be", "sigma"]),
        ({"class_path": "degradations.noise.GaussianNoise", "init_args": ["sigma"]}, ["init_args must be", "sigma"]),
        ({"class_path": "degradations.noise.GaussianNoise", "init_arg": {}}, ["init_arg"]),
        ({"class_path": "degradations.noise.Noise"}, ["not a usable Noise"]),
        ({"class_path": "diffusion.schedules.Linear"}, ["not a usable Noise"]),
        ("noise", ["package.module.Class"]),
        (None, ["expected a class path", "None"]),
        ([1], ["expected a class path", "[1]"]),
    ],
)
def test_mistakes_are_named_with_their_place(spec, words):
    with pytest.raises(UserError) as error:
        build(spec, Noise, where="tasks.a.noise")
    for word in ["tasks.a.noise", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("class_path", "options", "words"),
    [
        ("degradations.box_mask.BoxMask", {"size": -1}, "tasks.a: size must be at least 1, got -1"),
        ("restoration.total_variation.TotalVariation", {"weight": "nan"}, "weight of TotalVariation must be a number"),
        ("restoration.total_variation.TotalVariation", {"iterations": "x"}, "must be a whole number, got x"),
    ],
)
def test_what_a_constructor_or_the_parser_says_has_its_place_and_plain_words(class_path, options, words):
    with pytest.raises(UserError) as error:
        build({"class_path": class_path, "init_args": options}, object, where="tasks.a")
    assert str(error.value).startswith("tasks.a: ") and words in str(error.value)
    assert "Parser key" not in str(error.value) and "<class" not in str(error.value)


def test_the_place_is_said_once():
    inner = {"class_path": "diffusion.schedules.Linear", "init_args": {"steps": 0}}
    with pytest.raises(UserError) as error:
        build(
            {"class_path": "diffusion.schedules.ZeroTerminalSNR", "init_args": {"schedule": inner}}, Schedule, where="s"
        )
    assert str(error.value).count("s: ") == 1


@pytest.mark.parametrize("path", ["numpy.ndarray", "os.system", "subprocess.Popen", "builtins.eval"])
def test_a_checkpoint_builds_own_classes_only(path):
    with pytest.raises(UserError, match="not one of this project's own"):
        build({"class_path": path}, object, where="checkpoint", project_only=True)


@pytest.mark.parametrize("form", ["{}", "{{class_path: {}}}", '{{"class_path": "{}"}}', "[{}]"])
def test_a_checkpoint_imports_no_foreign_module_that_a_string_names(form, tmp_path, monkeypatch):
    """The parser takes a bare path, and YAML, where a nested object is expected, and imports what it names before it
    looks at the class.
    """
    (tmp_path / "foreign_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    spec = {
        "class_path": "diffusion.schedules.ZeroTerminalSNR",
        "init_args": {"schedule": form.format("foreign_module.Class")},
    }
    with pytest.raises(UserError, match="not one of this project's own"):
        build(spec, Schedule, where="checkpoint", project_only=True)
    assert not (tmp_path / "ran").exists()


def test_a_foreign_class_that_an_own_module_imported_is_refused():
    with pytest.raises(UserError, match="outside of this project"):
        build({"class_path": "networks.unet.Tensor"}, object, where="checkpoint", project_only=True)


def test_a_recorded_object_builds_its_equal_again():
    schedule = Linear(steps=100, beta_end=0.03)
    again = build(schedule.spec, Schedule, where="x", project_only=True)
    assert again.betas.equal(schedule.betas)
    network = UNet(in_channels=1, channels=8, multipliers=[1, 2], blocks=1, attention=[])
    assert copy.deepcopy(network).spec == network.spec
    assert network.spec["init_args"]["multipliers"] == [1, 2]


@pytest.mark.parametrize(
    "spec",
    [
        {"class_path": "degradations.noise.GaussianNoise", "init_args": {"sigma": math.nan}},
        {"class_path": "restoration.total_variation.TotalVariation", "init_args": {"weight": math.nan}},
        {"class_path": "diffusion.samplers.ddim.DDIM", "init_args": {"eta": math.nan}},
    ],
)
def test_nan_is_refused_for_any_number_of_any_class(spec):
    """Before the class compares it with its bounds, which NaN passes as often as not."""
    name = next(iter(spec["init_args"]))
    with pytest.raises(UserError, match=rf"^here\.{name} is NaN"):
        build(spec, object, where="here")


def test_nan_deep_inside_an_option():
    spec = {
        "class_path": "restoration.dip.DIP",
        "init_args": {
            "stopping": {"class_path": "restoration.stopping.morozov.Morozov", "init_args": {"tau": math.nan}}
        },
    }
    with pytest.raises(UserError, match="tau is NaN"):
        build(spec, object, where="methods.dip")

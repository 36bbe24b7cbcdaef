"""Finding an option: the best value of each task on validation images, its curve, ties, ends; what is refused."""

import sys

import pytest
import yaml

from common.build import find_class
from common.errors import UserError
from datamodules.digits import Digits
from degradations.identity import Identity
from degradations.scaled import Scaled
from evaluation.config import MethodEntry, read_config
from evaluation.run import Options
from restoration.base import Method
from studies.tune import held_out, main, trials, tune, values_of

BASE = """
data: {class_path: datamodules.digits.Digits, init_args: {validation: 50}}
seed: 3
tasks:
  denoising: {degradation: degradations.identity.Identity, noise: {sigma: 0.1}}
  half: {degradation: {class_path: tests.studies.test_tune.Half}, noise: {sigma: 0.1}}
methods:
  back: {class_path: tests.evaluation.toys.Back, limit: 1}
  dither:
    class_path: tests.evaluation.toys.Dither
    num_samples: 3
    tasks: [denoising]
    per_task: {denoising: {scale: 0.4}}
metrics: {crps: metrics.crps.CRPS}
"""


class Half(Identity):
    """y = x / 2 + noise: the best gain of A^T y = x / 4 is near 4."""

    def bind(self, params, shape):
        return Scaled(0.5, shape)


@pytest.fixture
def base(tmp_path, monkeypatch):
    path = tmp_path / "base.yaml"
    path.write_text(BASE)
    monkeypatch.chdir(tmp_path)
    return path


def run(base, monkeypatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["tune.py", "--config", str(base), *words])
    main()


def test_the_best_value_of_each_task_as_a_second_config(base, monkeypatch, capsys, tmp_path):
    words = ("--method", "back", "--option", "gain", "--values", "8,1,4", "--limit", "6", "--output", "tuned.yaml")
    run(base, monkeypatch, *words)
    out = capsys.readouterr()
    assert "denoising: PSNR" in out.out and "smallest that was tried" in out.err and "half:" not in out.err
    config = read_config([base, tmp_path / "tuned.yaml"])
    assert config.methods["back"].per_task == {"denoising": {"gain": 1}, "half": {"gain": 4}}
    text = (tmp_path / "tuned.yaml").read_text()
    assert "found on 2" in text and "python -m studies.tune --config" in text and "seed 3 alone" in text
    assert "the 6 training images that datamodules.digits.Digits" in text and "holds out first" in text
    assert all(f"#   {value}: " in text for value in (1, 4, 8))
    assert text.index("1: ") < text.index("4: ") < text.index("8: ")  # the curve ascends, whatever the order asked for
    # The images are those that any number of at least 6 holds out.
    names = {p.stem for p in (tmp_path / "results/tune/tuned-6/restored/half/back-gain-4").rglob("*.png")}
    images = Digits(validation=6).images("validation")
    assert {name.split("~")[0].split("_")[0] for name in names} and len(names) == 6
    assert {images.name(row) for row in range(6)} == {name.removesuffix("_0") for name in names}


def test_more_values_join_those_that_are_there(base, monkeypatch, capsys):
    def asked(values):
        return ("--method", "back", "--option", "gain", "--values", values, "--limit", "3", "--output", "t.yaml")

    run(base, monkeypatch, *asked("1,4"), "--task", "half")
    calls = []
    cls = find_class("tests.evaluation.toys.Back", Method, where="here")
    before = cls.restore

    def counted(self, measurement, **more):
        calls.append(self.gain)
        return before(self, measurement, **more)

    monkeypatch.setattr(cls, "restore", counted)
    run(base, monkeypatch, *asked("1,4,16"), "--task", "half")
    assert calls == [16]
    run(base, monkeypatch, *asked("1,4,16"), "--task", "half")
    assert calls == [16]


def test_samples_ties_and_options_of_a_task(base, capsys, tmp_path):
    """CRPS of three samples; a value that does nothing is equal to the best and said to be; what the entry says of the
    option in one task does not stand in the way.
    """
    config = read_config([base])
    curves, text = tune(
        config,
        method="dither",
        option="scale",
        values=[0.5, 0.05, 0.0, 0.05000001],
        metric="crps",
        tasks=[],
        limit=8,
        options=Options(output=tmp_path / "run", accelerator="cpu"),
        command="made by hand",
    )
    (curve,) = curves
    assert [p.value for p in curve.points] == [0.0, 0.05, 0.05000001, 0.5] and curve.column.name == "crps"
    means = {p.value: p.interval.mean for p in curve.points}
    assert curve.best.value == 0.05 and means[0.05] == means[0.05000001] == min(means.values())
    assert [p.tied for p in curve.points][1:] == [False, True, False] and means[0.5] > 2 * means[0.05] > 0
    assert "0.05000001: " in text and "not told apart from it" in text
    assert yaml.safe_load(text) == {"methods": {"dither": {"per_task": {"denoising": {"scale": curve.best.value}}}}}


def test_values():
    assert values_of("0.5,1,2", whole=False) == [0.5, 1, 2]
    assert values_of("1e-3,null,linspace,true", whole=False) == [1e-3, None, "linspace", True]
    assert values_of("1:100:3", whole=False) == [1.0, 10.0, 100.0]
    assert values_of("10:1000:3", whole=True) == [10, 100, 1000] and isinstance(
        values_of("10:20:2", whole=True)[0], int
    )
    for text in ("1", "1,1", "0:1:3", "1:2", "1:2:1", "a:b:3", "1:1:2", "[,2"):
        with pytest.raises(UserError, match="--values"):
            values_of(text, whole=False)
    entry = MethodEntry("a.B", init_args={"x": 1, "y": 2}, limit=4, per_task={"t": {"x": 3, "y": 4}})
    found = trials(entry, "m", "x", [0.5, -1])
    assert list(found) == ["m-x-0_5", "m-x--1"]
    assert found["m-x--1"].init_args == {"x": -1, "y": 2} and found["m-x--1"].per_task == {"t": {"y": 4}}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "bak"], r"--method bak: the config has no such method \(did you mean 'back'\?\)"),
        (["--option", "gian"], r"--option gian: .*no such option \(did you mean 'gain'\?\)"),
        (["--metric", "psrn"], r"--metric psrn: .*no such metric \(did you mean 'psnr'\?\)"),
        (["--metric", "calibration"], r"--metric calibration: it has no best end"),
        (["--metric", "crps"], r"--metric crps is of several samples: give --methods.back.num_samples=4"),
        (["--task", "haf"], r"--task haf: back has no such task \(did you mean 'half'\?\)"),
        (["--method", "dither", "--option", "scale", "--task", "half"], r"--task half: dither has no such task"),
        (["--values", "1"], r"--values 1: give at least two values"),
        (["--output", "tuned"], r"--output tuned: it is a config, give a name that ends in .yaml"),
        (["--data.init_args.validation=0"], r"holds no validation images out.*--data.init_args.validation=100"),
        (["--seed.x=1"], "goes into 'seed'"),
    ],
)
def test_mistakes_are_one_sentence(base, monkeypatch, words, message):
    given = {"--method": "back", "--option": "gain", "--values": "1,2", "--output": "t.yaml"}
    rest = []
    for k, word in enumerate(words):
        if word in given:
            given[word] = words[k + 1]
        elif k == 0 or words[k - 1] not in given:
            rest.append(word)
    with pytest.raises(UserError, match=message) as error:
        run(base, monkeypatch, *(part for pair in given.items() for part in pair), *rest)
    assert "\n" not in str(error.value)


def test_validation_images_that_are_test_images_are_refused(base):
    config = read_config(
        [base],
        [
            ("data.class_path", "datamodules.natural_images.NaturalImages"),
            ("data.init_args", "{size: 16, validation: 2}"),
        ],
    )
    with pytest.raises(UserError, match="are test images too"):
        held_out(config, 2)


def test_the_images_are_held_out_by_any_larger_number_too(base):
    config = read_config([base])
    data, used = held_out(config, 6)
    assert (data["init_args"], used) == ({"validation": 6}, 6) and held_out(config, 80)[1] == 50
    few, many = (set(Digits(validation=n).images("validation").positions.tolist()) for n in (6, 50))
    assert few < many

"""The cost of degrading is measured for every family."""

from helpers import call


def test_the_command_names_every_family():
    result = call("-m", "benchmarks.degradation_cost", "--quick", "--markdown")
    assert result.returncode == 0, result.stderr
    for name in (
        "GaussianBlur",
        "GaussianMask",
        "CoveringMask",
        "Pixelation",
        "GaussianNoiseFamily",
        "Animorph",
        "Snow",
        "Desaturation",
    ):
        assert f"| {name} |" in result.stdout

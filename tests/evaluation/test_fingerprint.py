"""What a row of results depends on."""

import os

from evaluation.config import parse_config
from evaluation.fingerprint import cell_fingerprint


def fingerprint(mask=None, prior=None, split="test", **data) -> str:
    degradation = (
        {"class_path": "degradations.given_mask.GivenMask", "init_args": {"path": str(mask)}}
        if mask
        else "degradations.identity.Identity"
    )
    denoiser = {"class_path": "checkpoints.denoiser_file.DenoiserFile", "init_args": {"path": str(prior)}}
    terms = (
        [{"class_path": "restoration.deep_image_prior.terms.denoiser.DenoiserTerm", "init_args": {"prior": denoiser}}]
        if prior
        else []
    )
    raw = {
        "data": {"class_path": "datamodules.digits.Digits", "init_args": data},
        "split": split,
        "tasks": {"a": {"degradation": degradation, "noise": {"sigma_255": 5}}},
        "methods": {"dip": {"class_path": "restoration.dip.DIP", "init_args": {"terms": terms}}},
        "metrics": {"psnr": "metrics.psnr.PSNR"},
    }
    return cell_fingerprint(parse_config(raw, "the test"), "a", "dip", None, "32")


def test_it_follows_the_bytes_of_files_that_a_task_or_a_method_names(tmp_path):
    """The same name with other bytes gives other results, and rows of both must not stand in one table."""
    for option in ("mask", "prior"):
        file = tmp_path / option
        file.write_bytes(b"one")
        before = fingerprint(**{option: file})
        os.utime(file)
        assert fingerprint(**{option: file}) == before  # whenever it was written
        file.write_bytes(b"two")
        os.utime(file, ns=(1, 1))
        assert fingerprint(**{option: file}) != before
    folder = tmp_path / "diffusers"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text("{}")
    before = fingerprint(prior=folder)
    (folder / "unet" / "config.json").write_text("{ }")
    os.utime(folder / "unet" / "config.json", ns=(1, 1))
    assert fingerprint(prior=folder) != before


def test_how_many_images_there_are_to_train_on_matters_where_those_are_restored():
    """`limit` chooses which images the training split has, and leaves the others as they are."""
    assert fingerprint(limit=50) == fingerprint(limit=60)
    assert fingerprint(split="train", limit=50) != fingerprint(split="train", limit=60)
    assert fingerprint(batch_size=8) == fingerprint(batch_size=9)


def test_terms_have_the_fingerprint_that_rows_of_before_have():
    """Terms were hashed as the text of the parser's objects; the values are those of earlier versions' rows."""
    tv = "restoration.deep_image_prior.terms.tv.TVTerm"
    weighted = {"class_path": tv, "init_args": {"weight": 1}}

    def of(terms: list) -> str:
        raw = {
            "data": {"class_path": "datamodules.digits.Digits"},
            "tasks": {"a": {"degradation": "degradations.identity.Identity", "noise": {"sigma_255": 5}}},
            "methods": {"dip": {"class_path": "restoration.dip.DIP", "init_args": {"terms": terms}}},
        }
        return cell_fingerprint(parse_config(raw, "the test"), "a", "dip", None, "32")

    assert of([weighted]) == "7ea8e9514584674f"
    assert of([tv]) == "220e60494fcaa5ea"
    assert of([weighted]) != of([{**weighted, "init_args": {"weight": 2}}])


def of_method(class_path: str, **init_args) -> str:
    raw = {
        "data": {"class_path": "datamodules.digits.Digits"},
        "tasks": {"a": {"degradation": "degradations.identity.Identity", "noise": {"sigma_255": 5}}},
        "methods": {"m": {"class_path": class_path, "init_args": init_args}},
    }
    return cell_fingerprint(parse_config(raw, "the test"), "a", "m", None, "32")


def test_rows_of_dps_that_name_a_scale_are_those_of_before_and_those_that_name_none_are_not():
    """The values are those of earlier versions' rows: DPS's default step follows the noise since, and rows of both must
    not be mixed.
    """
    dps, warm = "restoration.dps.DPS", "restoration.warm_start.WarmStart"
    assert of_method(dps, steps=4, scale=0.5, relative_scale=8.0) == "efc56ff604843bb7"
    assert of_method(dps, steps=4) not in ("42590c4a05cb53d5", of_method(dps, steps=4, relative_scale=8.0))
    assert of_method(warm, steps=4) == "ef00d68b22738760"
    assert of_method(warm, steps=4, consistency="gradient", relative_scale=4.0) == "e57936c67b9f7062"
    assert of_method(warm, steps=4, consistency="gradient") != "d32fa4908dd26f89"
    inner = of_method(warm, first={"class_path": dps, "init_args": {"steps": 3}})
    assert inner not in (
        "79ecc29bbf37a85a",
        of_method(warm, first={"class_path": dps, "init_args": {"steps": 3, "scale": 1.0}}),
    )


def test_rows_of_a_deep_image_prior_with_a_normal_input_are_those_of_before_where_they_name_the_jitter():
    """The values are those of earlier versions' rows: a normal input that names no jitter gets more since."""
    dip, warm = "restoration.dip.DIP", "restoration.warm_start.WarmStart"
    assert of_method(dip, iterations=5) == "82c5b997dc75936b"
    assert of_method(dip, iterations=5, input="uniform") == "b0d9165a8d4ac680"
    assert of_method(dip, iterations=5, input="normal", jitter=0.05) == "27568792953ff9ae"
    assert of_method(dip, iterations=5, input="normal") != "8fdba8ee613029a9"
    assert of_method(warm, steps=4, first={"class_path": dip, "init_args": {"input": "normal"}}) != "cdb272bea2e2783e"

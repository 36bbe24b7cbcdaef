"""Paired differences between methods."""

import pytest

from common.errors import UserError
from evaluation.report.differences import differences, markdown, read_values


@pytest.fixture
def results(tmp_path):
    """Two samples an image; b is a minus 1 everywhere, though images differ by 10; c did another image and another
    task.
    """
    lines = ["task,method,image,sample,psnr"]
    for image in range(6):
        for sample, jitter in enumerate((-2.0, 2.0)):
            lines += [
                f"holes,a,{image},{sample},{10 * image + jitter}",
                f"holes,b,{image},{sample},{10 * image - 1 + jitter}",
            ]
    lines += ["holes,c,0,0,5", "holes,c,9,0,7", "blur,c,0,0,1"]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_images_are_paired_and_samples_averaged_first(results):
    (found,) = differences(read_values(results, "psnr"), [("a", "b")])
    assert (found.interval.mean, found.interval.low, found.interval.high, found.interval.n) == (1.0, 1.0, 1.0, 6)
    assert found.larger == 1.0
    text = markdown([found], "psnr")
    assert "| holes | a - b | +1 | [+1, +1] | 100 % | 6 |" in text
    assert "95 % intervals over images: Student's t, corrected for skewness (Hall 1992)." in text


def test_only_images_that_both_restored_count(results):
    (found,) = differences(read_values(results, "psnr"), [("c", "a")])
    assert found.task == "holes" and found.interval.n == 1 and found.interval.mean == 5.0
    assert "| +5 | – | 100 % | 1 |" in markdown([found], "psnr") and "none of a single image" in markdown(
        [found], "psnr"
    )


@pytest.mark.parametrize(
    ("pair", "metric", "message"),
    [
        (("a", "d"), "psnr", "there is no method 'd' in the results; there are a, b, c"),
        (("a", "b"), "ssim", "--metric ssim: .* has no such column; there are task, method, image, sample, psnr"),
    ],
)
def test_mistakes_are_one_sentence(results, pair, metric, message):
    with pytest.raises(UserError, match=message):
        differences(read_values(results, metric), [pair])


def test_a_folder_without_results(tmp_path):
    with pytest.raises(UserError, match=r"there is no rows\.csv"):
        read_values(tmp_path, "psnr")


def test_what_needs_several_samples_comes_from_the_other_file(results):
    """By how much of b's mean a is larger, too; images without a number, and tasks with one method, are left out."""
    lines = ["task,method,image,num_samples,spread"]
    for image in range(8):
        lines += [f"holes,a,{image},2,{1.5 * (1 + image)}", f"holes,b,{image},2,{1.0 + image}"]
    lines += ["holes,a,8,2,9", "holes,b,8,2,", "blur,a,0,2,-1", "blur,b,0,2,1"]
    (results / "sets.csv").write_text("\n".join(lines) + "\n")
    found, negative = differences(read_values(results, "spread"), [("a", "b")])
    assert "| -2 | – | 0 % | 1 | – | – |" in markdown([negative], "spread")
    assert found.interval.n == 8 and found.interval.mean == 2.25 and found.larger == 1.0
    assert found.ratio.mean == pytest.approx(0.5) and found.ratio.low == pytest.approx(0.5)
    assert "| 8 | +50 % | [+50, +50] |" in markdown([found], "spread")
    with pytest.raises(UserError, match="there are task, method, image, sample, psnr, num_samples, spread"):
        read_values(results, "ssim")


def test_nothing_is_less_by_more_than_all_of_it(tmp_path):
    """The interval of the relative difference of two shares went down to -113 %."""
    shares = {"a": [0, 0, 0, 0, 1], "b": [1, 1, 0, 0, 1]}
    lines = [f"box,{m},{k},5,{v}" for m, values in shares.items() for k, v in enumerate(values)]
    (tmp_path / "rows.csv").write_text("task,method,image,sample,psnr\n")
    (tmp_path / "sets.csv").write_text("\n".join(["task,method,image,num_samples,truth_reached", *lines]) + "\n")
    (found,) = differences(read_values(tmp_path, "truth_reached"), [("a", "b")])
    assert found.ratio.mean == pytest.approx(-2 / 3) and found.ratio.low == -1

"""The page of a restoration: what is said, that users' words are escaped, that it needs nothing else."""

import html
import re
from html.parser import HTMLParser

import pytest

from evaluation.config import parse_config
from evaluation.run import Options, evaluate

TOYS = "tests.evaluation.toys."
HOSTILE = "<script>alert('x')</script> & \"{{ 7 * 7 }}\" {% raw %}"


class Balance(HTMLParser):
    """Which elements are open; an end that closes another one is a mistake."""

    EMPTY = {"meta", "img", "br", "line", "circle", "rect", "polyline", "path", "link"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.EMPTY:
            assert self.open and self.open[-1] == tag, f"</{tag}> inside of {self.open[-3:]}"
            self.open.pop()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("page")
    raw = {
        "title": HOSTILE,
        "data": TOYS + "Colours",
        "skip_unsupported": True,
        "tasks": {"denoise": {"degradation": "degradations.identity.Identity", "noise": {"sigma": 0.1}}},
        "methods": {
            "oracle": TOYS + "Oracle",
            "back": TOYS + "Back",
            "slow": {"class_path": TOYS + "Dither", "num_samples": 2, "init_args": {"scale": 0.5}},
            "refusing": TOYS + "Refusing",
        },
        "features": TOYS + "Corners",
    }
    evaluate(parse_config(raw, "test"), Options(output=folder))
    return (folder / "report.html").read_text()


def test_words_of_users_are_escaped_and_not_run(page):
    assert "<script" not in page and page.count(html.escape(HOSTILE, quote=False)[:20]) >= 2
    title = re.search(r"<title>(.*?)</title>", page).group(1)
    assert html.unescape(title) == HOSTILE
    assert "{{ 7 * 7 }}" in html.unescape(re.search(r"<h1>(.*?)</h1>", page).group(1))
    assert "49" not in re.search(r"<h1>(.*?)</h1>", page).group(1)


def test_it_is_whole_and_needs_nothing_else(page):
    balance = Balance()
    balance.feed(page)
    assert not balance.open
    links = re.findall(r"(?:src|href)=\"([^\"]{0,30})", page)
    assert links and all(link.startswith("data:image/png;base64,") for link in links)
    assert "<link" not in page and "@import" not in page


def test_what_it_says(page):
    words = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    for sentence in (
        "4 methods on 1 tasks, the same measurements for all: 4 test images of Colours, seed 0. Highest mean PSNR: ",
        "Left out, because the method cannot do it: denoise x refusing.",
        "in brackets 95 % intervals over images: Student's t, corrected for skewness (Hall 1992).",
        "* reads the truth (an oracle): not comparable, and never marked as best.",
        "FID and KID : the restored images",
        "FID of 4 images is shown without an interval: a jackknife over blocks of images needs at least 20.",
        "The first images of the set, not chosen.",
    ):
        assert sentence.replace(" :", ":") in words.replace(" :", ":"), sentence
    assert "bootstrap" not in words and "In brackets 95 % intervals:" not in words  # of the sets there are none
    for heading in ("Table", "Images", "Plots", "How this was made"):
        assert f"<h2>{heading}</h2>" in page
    rows = re.findall(
        r"<tr[^>]*>\s*(?:<th scope=\"rowgroup\".*?</th>)?\s*<th scope=\"row\">(\w+\*?)</th>(.*?)</tr>", page, re.DOTALL
    )
    assert [name for name, _ in rows][:3] == ["oracle*", "back", "slow"]
    best = {name: cells.count('class="best"') for name, cells in rows}
    assert best["oracle*"] == 0 and best["back"] >= 3
    assert page.count("<svg") >= 5

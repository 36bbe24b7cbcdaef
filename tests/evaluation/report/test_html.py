"""The page of a restoration: what is said, that users' words are escaped, that it needs nothing else."""

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser

import pytest
import torch

from evaluation.config import parse_config
from evaluation.report.pages import PACKAGES, device_in_words, notes_of
from evaluation.run import Options, evaluate
from metrics.fid import FID
from metrics.precision_recall import Precision, Recall
from tests.evaluation.toys import Corners

TOYS = "tests.evaluation.toys."
HOSTILE = "<script>alert('x')</script> & \"{{ 7 * 7 }}\" {% raw %}"


class Balance(HTMLParser):
    """Which elements are open; an end that closes another one is a mistake."""

    EMPTY = {"meta", "img", "input", "br", "line", "circle", "rect", "polyline", "path", "link"}

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
    assert re.findall(r"<script[^>]*>", page) == ['<script type="application/json" id="cases">', "<script>"]
    assert page.count(html.escape(HOSTILE, quote=False)[:20]) >= 2
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


def test_it_allows_its_own_script_alone(page):
    """By its hash: should a word of a user come through unescaped, no browser would run it."""
    policy = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="(.*?)"', page).group(1))
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_what_the_script_needs_is_there_and_ends_no_element(page):
    data = re.search(r'<script type="application/json" id="cases">(.*?)</script>', page, re.DOTALL).group(1)
    assert "<" not in data
    shown = re.findall(r'<figure class="case">(.*?)</figure>', page, re.DOTALL)
    cases = json.loads(data)
    assert len(cases) == len(shown) == 3
    for case, figure in zip(cases, shown, strict=True):
        assert len(case) == figure.count("<option>") == 3
        assert case[0]["picture"] in figure and case[0]["error"] in figure


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
        "of twenty true ties one is expected to look like a difference",
        "the worst image by PSNR of back",
        "white Gaussian noise, σ = 0.1 in [-1, 1], 12.75 of 255. 4 images of 3x",
        "Small stand-ins: methods that are quick, slow, wrong, refusing or oracular",
    ):
        assert sentence.replace(" :", ":") in words.replace(" :", ":"), sentence
    assert "bootstrap" not in words and "In brackets 95 % intervals:" not in words  # of the sets there are none
    headings = ("Table", "Who is ahead, and how surely", "Single images", "Images", "Plots", "Tasks and methods")
    for heading in (*headings, "How this was made"):
        assert f"<h2>{heading}</h2>" in page
    rows = re.findall(r"<tr data-words[^>]*>\s*<th scope=\"row\">(\w+\*?)</th>(.*?)</tr>", page, re.DOTALL)
    assert [name for name, _ in rows][:3] == ["oracle*", "back", "slow"]
    best = {name: cells.count('class="best"') for name, cells in rows}
    assert best["oracle*"] == 0 and best["back"] >= 3
    assert page.count("<svg") >= 5


def test_what_numbers_and_times_depend_on_is_told(page, monkeypatch):
    facts = page.partition("<summary>Versions</summary>")[2].partition("</table>")[0]
    for name in ("command", "commit", "device", "precision", "processor", "python", *PACKAGES):
        assert f'<th scope="row">{name}</th><td>' in facts, name
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "H200")
    assert (device_in_words(torch.device("cuda", 1)), device_in_words(torch.device("cpu"))) == ("cuda:1 (H200)", "cpu")


def test_a_note_that_two_metrics_share_is_said_once():
    precision, recall = Precision(features=Corners()), Recall(features=Corners())
    assert precision.note and precision.note == recall.note
    assert notes_of([precision, FID(features=Corners()), recall]) == [precision.note, FID.note]

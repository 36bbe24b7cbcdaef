"""The report becomes files that open without a network, and everything that it names is there."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from common.errors import UserError
from studies.report import REPORT, ROOT, main, read_pages, write_html, write_pdf


class Requests(HTMLParser):
    """What a browser would fetch, where links lead, and the anchors that there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.links: list[str] = []
        self.anchors: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.fetched += [given[name] for name in ("src", "srcset", "data", "poster") if name in given]
        if "href" in given:
            (self.links if tag == "a" else self.fetched).append(given["href"])
        if "id" in given:
            self.anchors.append(given["id"])


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Requests:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_html(read_pages(REPORT), path)
    return Requests(path.read_text())


def test_nothing_is_fetched(page):
    assert page.tags.count("img") >= 5
    assert [url[:60] for url in page.fetched if not url.startswith("data:")] == []
    assert "script" not in page.tags and "iframe" not in page.tags
    assert page.tags.count("math") >= 10, "equations are MathML, not dollars"


def test_styles_fetch_nothing(tmp_path):
    write_html(read_pages(REPORT, appendices=False), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "max-width: 52rem" in text, "docs/report.css is inside"
    assert re.findall(r"@import|url\((?!data:)", text) == []


def test_links_lead_to_places_in_the_page(page):
    inside = [link[1:] for link in page.links if link.startswith("#")]
    assert len(set(page.anchors)) == len(page.anchors)
    assert sorted(set(inside) - set(page.anchors)) == []
    assert sorted({link for link in page.links if not re.match(r"#|https?://", link)}) == []
    results = {p.stem for p in (ROOT / "docs/results").glob("*.md")}
    missing = sorted(name for name in results if f"results-{name}" not in page.anchors)
    assert not missing, f"no appendix has docs/results/ of {missing}"


def test_every_picture_is_inside(page):
    pictures = sum(len(re.findall(r"!\[", read.path.read_text())) for read in read_pages(REPORT))
    assert page.tags.count("img") == pictures


_NUMBER = r"[+-]?\d+(?:\.\d+)?"


def pairs(text: str) -> set[tuple[str, str]]:
    """The ends of every interval [a, b], and every value ± half of its interval."""
    found = re.findall(rf"\[({_NUMBER}), ({_NUMBER})\]", " ".join(text.split()))
    return {*found, *re.findall(rf"({_NUMBER}) ± ({_NUMBER})", " ".join(text.split()))}


def test_every_interval_of_the_report_stands_in_a_page():
    """As it is there, rounded or with the other sign, but for the range of images."""
    pages = [p.read_text() for p in [*(ROOT / "docs/results").glob("*.md"), *(ROOT / "docs/oracle").glob("*.md")]]
    there = [(float(a), float(b)) for page in pages for a, b in pairs(page)]

    def known(a: str, b: str) -> bool:
        place = len(b.partition(".")[2])
        wanted, close = (float(a), float(b)), 0.51 * 10**-place
        turned = [*there, *((-hi, -lo) for lo, hi in there)]
        return any(abs(lo - wanted[0]) <= close and abs(hi - wanted[1]) <= close for lo, hi in turned)

    lost = sorted(pair for pair in pairs(REPORT.read_text()) - {("-1", "1")} if not known(*pair))
    assert not lost, f"no page of results has these intervals of docs/report.md: {lost}"


def test_a_pdf_of_the_report(tmp_path):
    write_pdf(read_pages(REPORT, appendices=False), tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF-")


def test_mistakes(tmp_path, monkeypatch):
    lost = tmp_path / "page.md"
    lost.write_text("# A page\n\n![a picture](nowhere.png) and [a link](absent.md)\n")
    with pytest.raises(UserError, match=r"page\.md' links 'absent\.md'"):
        read_pages(lost)
    lost.write_text("# A page\n\n![a picture](nowhere.png)\n")
    with pytest.raises(UserError, match=r"links 'nowhere\.png', and there is no such file"):
        write_html(read_pages(lost), tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    monkeypatch.setattr("sys.argv", ["report", "--page", str(tmp_path / "none.md"), "--output", str(tmp_path)])
    with pytest.raises(UserError, match="is no file"):
        main()
    assert not list(Path(tmp_path).glob("report.*"))

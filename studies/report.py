"""The report as files that open without a network: python -m studies.report [--output results/report]

report.html holds docs/report.md, the pages of results and theory that it links as appendices, and all their pictures;
equations are MathML. report.pdf is the report alone. pandoc reads and writes, Typst sets the pages: both come as
wheels with requirements-dev.txt.
"""

import json
import re
import string
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from common.command_line import Parser
from common.errors import UserError, run_cli
from common.files import require_writable_folder, write_atomically
from common.picture_files import read_picture

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "docs" / "report.md"
STYLE = ROOT / "docs" / "report.css"
#: Pages of these folders are taken along where the report links them.
APPENDICES = ("docs/results", "docs/theory", "docs/oracle/index.md")
#: GitHub's Markdown, whose headings have GitHub's anchors, and equations between dollars.
READER = "gfm+tex_math_dollars"
#: The height of a picture is at most so much of the page's width.
HIGHEST = 0.65
#: Tables of many columns are set small, and go on over the end of a page.
TYPST = """#set table(inset: (x: 4pt, y: 2.5pt))
#show table: set text(size: 7.5pt)
#show table: set par(justify: false)
#show table: set align(left)
#show figure: set block(breakable: true)
#show raw: set text(size: 7.5pt)
"""

Element = dict[str, Any]


@dataclass(frozen=True)
class Page:
    """A page as pandoc reads it: `blocks` of its syntax tree, `key` in front of the anchors of its headings."""

    path: Path
    key: str
    blocks: list[Element]


def read_pages(report: Path, *, appendices: bool = True) -> list[Page]:
    """The report and its appendices in the order of its links, then the pages of results that it does not link;
    UserError where a linked file is missing.
    """
    first = _read(report)
    found = [first]
    rest = sorted((ROOT / "docs" / "results").glob("*.md")) if report.is_relative_to(ROOT) else []
    for target in [*_targets(first), *rest] if appendices else []:
        if _is_appendix(target) and target not in [page.path for page in found]:
            found.append(_read(target))
    return found


def join(pages: list[Page], *, picture: Callable[[Path], str]) -> Element:
    """One document: anchors that are unique, links that lead inside it, pictures where `picture` says they are.

    Links to the web stay; those to files that are not inside become plain words.
    """
    inside = {page.path: page.key for page in pages}
    blocks: list[Element] = []
    for number, page in enumerate(pages):
        _name_headings(page, letter=string.ascii_uppercase[number - 1] if number else "")
        for element in _walk(page.blocks):
            if element["t"] == "Image":
                file = _file(page.path, element["c"][2][0])[0]
                element["c"][0][2] = [["width", f"{_width(file)}%"]]
                element["c"][2][0] = picture(file)
            elif element["t"] == "Link":
                url = element["c"][2][0]
                if re.match(r"[a-z]+:", url):
                    continue
                path, anchor = _file(page.path, url)
                if path in inside:
                    element["c"][2][0] = "#" + inside[path] + (f"--{anchor}" if anchor else "")
                else:
                    element.update(t="Span", c=[["", [], []], element["c"][1]])
        blocks += page.blocks
    return {"pandoc-api-version": _pandoc("", "markdown", "json")["pandoc-api-version"], "meta": {}, "blocks": blocks}


def write_html(pages: list[Page], path: Path) -> None:
    """One HTML file: pictures and style inside, equations as MathML, nothing that asks a network."""
    document = join(pages, picture=str)
    title = _words(pages[0].blocks[0])
    options = ["--standalone", "--embed-resources", "--mathml", "--toc", "--toc-depth=2", f"--css={STYLE}"]
    options += [f"--metadata=pagetitle={title}", "--metadata=lang=en"]
    write_atomically(path, _convert(json.dumps(document), "json", "html5", options).encode())


def write_pdf(pages: list[Page], path: Path) -> None:
    """The pages as a PDF of A4."""
    import typst

    document = join(pages, picture=lambda file: "/" + file.relative_to(ROOT).as_posix())
    for element in _walk(document["blocks"]):
        if element == {"t": "Str", "c": "/"}:  # which begins a list of terms where it begins a line
            element.update(t="RawInline", c=["typst", "\\/"])
    sides = {side: {"t": "MetaString", "c": "2cm"} for side in ("x", "y")}
    document["meta"]["margin"] = {"t": "MetaMap", "c": sides}
    with tempfile.TemporaryDirectory() as folder:
        header = Path(folder) / "header.typ"
        header.write_text(TYPST)
        options = ["--standalone", "--wrap=none", f"--include-in-header={header}"]
        options += ["--variable=papersize=a4", "--variable=fontsize=10pt"]
        text = _convert(json.dumps(document), "json", "typst", options)
    write_atomically(path, typst.compile(text.encode(), root=cast(Any, str(ROOT))))


def _read(path: Path) -> Page:
    blocks = _pandoc(path.read_text(encoding="utf-8"), READER, "json")["blocks"]
    inside = path.relative_to(ROOT / "docs") if path.is_relative_to(ROOT / "docs") else Path(path.name)
    key = inside.with_suffix("").as_posix().replace("/", "-")
    return Page(path, key, [b for b in blocks if b["t"] != "RawBlock"])


def _pandoc(text: str, reader: str, writer: str) -> Element:
    return json.loads(_convert(text, reader, writer, []))


def _convert(text: str, reader: str, writer: str, options: list[str]) -> str:
    try:
        import pypandoc
    except ImportError as error:
        raise UserError("pandoc is missing: python -m pip install -r requirements-dev.txt brings it") from error
    return pypandoc.convert_text(text, writer, format=reader, extra_args=[*options, "--fail-if-warnings"])


def _walk(value: Any) -> Iterator[Element]:
    """Every element below, outermost first."""
    if isinstance(value, dict):
        if "t" in value:
            yield value
        for inner in list(value.values()):
            yield from _walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _walk(inner)


def _targets(page: Page) -> list[Path]:
    links = (e["c"][2][0] for e in _walk(page.blocks) if e["t"] == "Link")
    return [_file(page.path, url)[0] for url in links if not re.match(r"[a-z]+:", url)]


def _file(page: Path, url: str) -> tuple[Path, str]:
    """The file and the anchor that a relative link of a page names."""
    name, _, anchor = url.partition("#")
    path = (page.parent / unquote(name)).resolve() if name else page
    if not path.exists():
        raise UserError(f"'{page}' links '{url}', and there is no such file: mend the link")
    return path, anchor


def _width(picture: Path) -> int:
    """Of the page's width, in per cent: all of it, less where the picture would be higher than HIGHEST of that."""
    height, width = read_picture(picture).image.shape[1:]
    return min(100, round(100 * HIGHEST * width / height))


def _is_appendix(path: Path) -> bool:
    return path.suffix == ".md" and any(path.is_relative_to(ROOT / folder) for folder in APPENDICES)


def _name_headings(page: Page, *, letter: str) -> None:
    """Anchors begin with the page's key, the first heading's is the key; appendices are lettered."""
    headings = [b for b in page.blocks if b["t"] == "Header"]
    for number, heading in enumerate(headings):
        attributes = heading["c"][1]
        attributes[0] = f"{page.key}--{attributes[0]}" if number else page.key
    if letter and headings:
        headings[0]["c"][2][:0] = [{"t": "Str", "c": f"{letter}."}, {"t": "Space"}]


def _words(block: Element) -> str:
    return "".join(" " if e["t"] == "Space" else e["c"] for e in _walk(block) if e["t"] in ("Str", "Space"))


def main() -> None:
    parser = Parser(prog="python -m studies.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--page", type=Path, default=REPORT, metavar="FILE", help="the page (default: docs/report.md)")
    parser.add_argument(
        "--output", type=Path, default=ROOT / "results" / "report", metavar="DIR", help="report.html and report.pdf"
    )
    args = parser.parse_args()
    if not args.page.is_file():
        raise UserError(f"--page '{args.page}' is no file: give a page of docs/")
    folder = require_writable_folder(args.output, "--output")
    write_html(read_pages(args.page.resolve()), folder / "report.html")
    write_pdf(read_pages(args.page.resolve(), appendices=False), folder / "report.pdf")
    print(folder / "report.html", folder / "report.pdf", sep="\n")


if __name__ == "__main__":
    run_cli(main)

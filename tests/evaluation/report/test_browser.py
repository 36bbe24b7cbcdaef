"""The report in a real browser: sorting, filter, slider, at three widths; no error, and no request leaves the page."""

import importlib.util
import re
import shutil

import pytest

from evaluation.config import parse_config
from evaluation.run import Options, evaluate

TOYS = "tests.evaluation.toys."
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt-get install chromium)"),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None, reason="playwright is not installed (requirements-dev.txt)"
    ),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("browser")
    identity = "degradations.identity.Identity"
    raw = {
        "title": "<img src=x onerror=alert(1)> in a browser",
        "data": "datamodules.digits.Digits",
        "limit": 6,
        "tasks": {
            "denoise": {"degradation": identity, "noise": {"sigma": 0.1}},
            "denoise_more": {"degradation": identity, "noise": {"sigma": 0.3}},
        },
        "methods": {
            "back": TOYS + "Back",
            "dark": {"class_path": TOYS + "Back", "init_args": {"gain": 0.5}},
            "a_method_with_a_rather_long_name": {"class_path": TOYS + "Dither", "init_args": {"scale": 0.5}},
        },
    }
    evaluate(parse_config(raw, "test"), Options(output=folder))
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    """Opened without a network; whatever it asks for and whatever goes wrong is noted."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    found = context.new_page()
    asked, wrong = [], []
    found.on("request", lambda request: asked.append(request.url))
    found.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    found.on("pageerror", lambda error: wrong.append(str(error)))
    found.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    found.goto(address)
    yield found
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert [url for url in asked if url.startswith("file:")] == [address]
    assert wrong == []
    context.close()


def methods(page) -> list[list[str]]:
    """The shown methods, task by task."""
    bodies = page.locator("table.sortable tbody")
    return [bodies.nth(k).locator("tr:not(.group):visible th").all_inner_texts() for k in range(bodies.count())]


def test_sorting_keeps_tasks_together_and_the_best_comes_first(page):
    head = page.locator("table.sortable thead th", has_text="PSNR")
    before = methods(page)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    values = page.locator("table.sortable tbody").first.locator("tr:not(.group) td:nth-child(2)")
    shown = [float(values.nth(k).get_attribute("data-value")) for k in range(values.count())]
    assert shown == sorted(shown, reverse=True)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    shown = [float(values.nth(k).get_attribute("data-value")) for k in range(values.count())]
    assert shown == sorted(shown)
    assert [sorted(m) for m in methods(page)] == [sorted(m) for m in before]
    page.locator("table.sortable thead th", has_text="method").locator("button").click()
    assert methods(page)[0] == sorted(before[0])


def test_the_filter_takes_words_of_task_and_method(page):
    page.locator("input.filter").fill("more dark")
    assert methods(page) == [[], ["dark"]]
    assert page.locator("table.sortable tbody:visible").count() == 1
    page.locator("input.filter").fill("")
    assert [len(m) for m in methods(page)] == [3, 3]


def test_the_slider_and_the_choice_of_a_method(page):
    case = page.locator(".case").first
    over, slider = case.locator(".over"), case.locator("input[type=range]")
    slider.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert over.evaluate("e => e.style.clipPath") == "inset(0px 0px 0px 53%)"
    picture, number = over.get_attribute("src"), case.locator("output").inner_text()
    case.locator("select").select_option("dark")
    assert over.get_attribute("src") != picture and case.locator("output").inner_text() != number
    assert re.fullmatch(r"\d+\.\d\d", case.locator("output").inner_text())
    assert over.evaluate("e => e.naturalWidth") == 8


@pytest.mark.parametrize("width", [390, 768, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_the_first_method_is_seen_whole(page, width, scheme):
    """The page itself never scrolls sideways; of a table that does, the names of methods stay."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    name = page.locator("table.sortable tbody th[scope=row]").first
    table = page.locator(".wide").first
    table.evaluate("e => { e.scrollLeft = 10000 }")
    box = name.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 384) == (scheme == "light")

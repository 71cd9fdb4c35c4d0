"""The report in a real browser: `make explore-test` runs this, and without Playwright and chromium it is skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explorer import picture
from teleport_env.agents.comparison.study import Study, run_study

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make explore-test")
if not (os.environ.get("CHROMIUM") or shutil.which("chromium")):
    pytest.skip("there is no chromium; name one with CHROMIUM=...", allow_module_level=True)

AGENTS = ("never", "every", "stall", "l_bfgs")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small comparison's page."""
    study = Study(
        problems=("Booth", "Rosenbrock"),
        agents=AGENTS,
        instances=4,
        tuning_instances=0,
        references=False,
        jobs=1,
        out=tmp_path_factory.mktemp("report"),
    )
    page: Path = run_study(study, lambda line: None)["page"]
    return page.as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with picture.chromium() as browser:
        yield browser


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the console says and what is asked for elsewhere: nothing."""
    heard: list[str] = []
    yield heard
    assert heard == []


def opened(chromium: Any, address: str, said: list[str], width: int = 1280, height: int = 900, **settings: Any) -> Any:
    """The page in a browser without a network."""
    page = chromium.new_context(viewport={"width": width, "height": height}, offline=True, **settings).new_page()
    page.set_default_timeout(20_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or said.append(request.url))
    page.goto(address)
    page.wait_for_selector("#chart canvas")
    return page


def column(page: Any, place: int, table: int = 0) -> list[str]:
    """The cells of a column of a table of the page, those of its first part."""
    rows = page.locator("#tables table").nth(table).locator("tbody").first.locator("tr:not([hidden])")
    return [row.locator("th, td").nth(place).inner_text() for row in rows.all()]


def test_tables_sort_by_figures_and_by_words(chromium: Any, address: str, said: list[str]) -> None:
    page = opened(chromium, address, said)
    heads = page.locator("#tables table").first.locator("thead th")
    titles = [head.inner_text() for head in heads.all()]
    mean = titles.index("Mean")
    for way in (-1, 1):
        heads.nth(mean).locator("button").click()
        figures = [float(text.replace("\N{MINUS SIGN}", "-")) for text in column(page, mean)]
        assert figures == sorted(figures, reverse=way < 0)
        assert len(figures) == 3
    heads.nth(0).locator("button").click()
    assert column(page, 0) == sorted(column(page, 0))
    assert heads.nth(0).get_attribute("aria-sort") == "ascending"
    assert heads.nth(mean).get_attribute("aria-sort") is None


def test_a_filter_leaves_what_matches_it(chromium: Any, address: str, said: list[str]) -> None:
    page = opened(chromium, address, said)
    page.locator("#tables summary").nth(1).click()
    assert not page.locator("#tables table").nth(1).is_visible()
    page.fill("#filter", "adaptive STALL")
    assert [column(page, 0, table) for table in (0, 1)] == [["stall"], ["stall"]]
    assert page.inner_text("#left") == "2 rows match"
    page.fill("#filter", "")
    assert len(column(page, 0)) == 3
    assert not page.locator("th.more").first.is_visible()
    page.check("#whole")
    assert page.locator("th.more").first.is_visible()


def test_agents_are_shown_and_hidden_and_the_pointer_is_answered(chromium: Any, address: str, said: list[str]) -> None:
    page = opened(chromium, address, said)
    chips = page.locator("#chips button")
    pressed = {chip.inner_text(): chip.get_attribute("aria-pressed") for chip in chips.all()}
    assert pressed == {"never": "true", "every": "false", "stall": "true", "L-BFGS": "true"}
    for view in ("loss", "reached", "time", "expected"):
        page.select_option("#view", view)
        page.select_option("#problem", "Rosenbrock")
        page.locator("#chart .u-over").hover(position={"x": 200, "y": 100})
        page.wait_for_selector("#tip:not([hidden])")
        assert "L-BFGS" in page.inner_text("#tip")
        assert "every" not in page.inner_text("#tip")
    page.select_option("#view", "reached")
    chips.filter(has_text="every").click()
    chips.filter(has_text="never").click()
    page.mouse.move(0, 0)
    page.locator("#chart .u-over").hover(position={"x": 300, "y": 100})
    page.wait_for_selector("#tip:not([hidden])")
    assert "every" in page.inner_text("#tip")
    assert "never" not in page.inner_text("#tip")
    page.click("#some")
    assert chips.filter(has_text="never").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_the_page_fits_its_window(
    chromium: Any, address: str, said: list[str], width: int, height: int, scheme: str
) -> None:
    page = opened(chromium, address, said, width, height, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1

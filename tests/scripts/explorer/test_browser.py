"""The page in a real browser: `make explore-test` runs this, and without Playwright and chromium it is skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from explorer import picture

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: make explore-test")
pytest.importorskip("uvicorn", reason="the extra 'explore' is not installed")
if not (os.environ.get("CHROMIUM") or shutil.which("chromium")):
    pytest.skip("there is no chromium; name one with CHROMIUM=...", allow_module_level=True)

SIZES = ((1280, 900), (390, 844))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with picture.served() as found:
        yield found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with picture.chromium() as browser:
        yield browser


def watched(chromium: Any, said: list[str], width: int = 1280, height: int = 900, **settings: Any) -> Any:
    """A page that notes in ``said`` whatever the console says and whatever it asks for elsewhere."""
    context = chromium.new_context(viewport={"width": width, "height": height}, **settings)
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    local = ("http://127.0.0.1:", "file:", "data:")
    page.on("request", lambda request: request.url.startswith(local) or said.append(request.url))
    return page


def rows(page: Any, count: int) -> None:
    playwright.expect(page.locator("#log tr")).to_have_count(count, timeout=20_000)


def test_an_episode_is_played_saved_and_played_again(chromium: Any, address: str, tmp_path: Path) -> None:
    said: list[str] = []
    page = watched(chromium, said)
    page.goto(address)
    rows(page, 1)
    page.click("#steps .choice >> nth=1")
    rows(page, 2)
    page.fill("#share", "0.3")
    foretold = page.inner_text("#hand-where")
    page.click("#move")
    rows(page, 3)
    assert foretold.split()[2] == page.inner_text("#log tr >> nth=0 >> td >> nth=3")
    assert "teleport by hand" in page.inner_text("#log tr >> nth=0")
    page.click("#map", position={"x": 100, "y": 60})
    assert page.input_value("#share") != "0"
    page.click("#undo")
    rows(page, 2)
    page.click("#follow")
    rows(page, 3)
    page.click("#near")
    page.wait_for_selector("#near.on")
    page.click("#finish")
    playwright.expect(page.locator("#finish")).to_be_disabled(timeout=20_000)
    assert "The episode is over" in page.inner_text("#advice")
    played = page.locator("#log tr").count()
    with page.expect_download() as download:
        page.click("#export")
    saved = tmp_path / "episode.html"
    download.value.save_as(saved)
    alone = watched(chromium, said, offline=True)
    alone.goto(saved.as_uri())
    rows(alone, played)
    playwright.expect(alone.locator("#at")).to_have_value(str(played - 1), timeout=20_000)  # the film is over
    alone.fill("#at", "0")
    assert alone.inner_text("#moment").startswith("0 of ")
    assert not alone.is_visible("#act-card")
    assert said == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_page_fits_its_window(chromium: Any, address: str, width: int, height: int, scheme: str) -> None:
    said: list[str] = []
    page = watched(chromium, said, width, height, color_scheme=scheme)
    page.goto(address)
    rows(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    assert said == []


def test_a_network_is_played_by_its_curves(chromium: Any, address: str) -> None:
    said: list[str] = []
    page = watched(chromium, said)
    page.goto(address)
    rows(page, 1)
    page.select_option("#problem", "LinearNetwork")
    playwright.expect(page.locator("body")).not_to_have_class("busy", timeout=20_000)
    page.click("#begin button")
    playwright.expect(page.locator("#title")).to_have_text("LinearNetwork, played by you", timeout=20_000)
    page.click("#steps .choice >> nth=1")
    rows(page, 2)
    assert not page.is_visible("#map")
    assert page.is_visible("#orbit")
    assert said == []


def test_a_refusal_is_shown_in_words(chromium: Any, address: str) -> None:
    page = watched(chromium, [])
    page.goto(address)
    rows(page, 1)
    page.select_option("#split", "paper")
    page.fill("#instance", "7")
    page.click("#begin button")
    page.wait_for_selector("#message:not([hidden])")
    assert "outside split 'paper'" in page.inner_text("#message")
    page.fill("#instance", "")
    page.click("#begin button")
    page.wait_for_selector("#message", state="hidden")


def test_a_new_episode_waits_for_the_chosen_problem(chromium: Any, address: str) -> None:
    """Regression: the click was lost while the problem's agents and splits were still on their way."""
    page = watched(chromium, [])
    page.goto(address)
    rows(page, 1)
    begun: list[Any] = []
    page.on("request", lambda request: request.url.endswith("/api/episodes") and begun.append(request.post_data_json))
    held: list[Any] = []
    page.route("**/api/problems/**", lambda route: held.append(route))
    page.select_option("#problem", "Ellipse")
    page.click("#begin button")
    page.wait_for_timeout(200)
    assert begun == []
    assert len(held) == 1
    with page.expect_response("**/api/episodes"):
        held[0].continue_()
    assert [wish["problem"] for wish in begun] == ["Ellipse"]

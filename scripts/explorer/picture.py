"""Take the picture of ``docs/explorer.md``: `make explore-picture`; needs Playwright and chromium."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from teleport_env.files import write

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "explorer.png"


@contextmanager
def served() -> Iterator[str]:
    """The address of a server of its own, on a free port."""
    import uvicorn

    from explorer.server import application

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.02)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(timeout=10)


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's chromium, or the one that ``CHROMIUM`` names.

    Raises:
        FileNotFoundError: There is none.
    """
    from playwright.sync_api import sync_playwright

    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        raise FileNotFoundError("there is no chromium: install it, or name one with CHROMIUM=...")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def main() -> None:
    with served() as address, chromium() as browser:
        page = browser.new_context(viewport={"width": 1280, "height": 980}).new_page()
        page.goto(address)
        for count in range(4):
            page.locator(f"#log tr >> nth={count}").wait_for()
            page.click("#follow")
        page.locator("#log tr >> nth=4").wait_for()
        page.fill("#share", "-0.2")
        page.evaluate("scrollTo(0, 0)")
        write(PICTURE, page.screenshot())
    print(f"Saved {PICTURE}")


if __name__ == "__main__":
    main()

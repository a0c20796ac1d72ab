"""Debian's Chromium, driven by Playwright, for tests of pages as a reader has them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

# No sandbox: containers have none. The rest keeps the browser from asking anybody for anything by itself.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WIDE, NARROW = 1440, 390

PATIENCE = 20_000  # ms: machines that test may be busy


@contextmanager
def started() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Reader:
    """Opens pages, and remembers whatever a page must not do."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(
        self, address: str | Path, *, width: int = WIDE, dark: bool = False, charts: bool = True, **more: Any
    ) -> Page:
        """`address`: a file, or a URL of 127.0.0.1. Without charts a page is there in a fraction of the time."""
        url = address.as_uri() if isinstance(address, Path) else address
        scheme = "dark" if dark else "light"
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        if not charts:
            nothing = "globalThis.Plotly = {react: async () => undefined};"
            page.route("**/plotly.min.js", lambda route: route.fulfill(body=nothing, content_type="text/javascript"))
        page.on("request", lambda request: self._asked(request.url, url))
        page.on("requestfailed", lambda request: self.complaints.append(f"cannot be read: {request.url}"))
        page.on("response", lambda response: response.ok or self.complaints.append(f"{response.status} {response.url}"))
        page.on("pageerror", lambda error: self.complaints.append(f"not caught: {error}"))
        page.on("dialog", self._spoke)
        page.on("console", lambda said: said.type != "error" or self.complaints.append(f"console: {said.text}"))
        page.goto(url)
        return page

    def _asked(self, url: str, opened: str) -> None:
        self.requests.append(url)
        own = opened.rpartition("/")[0] + "/"
        if not url.startswith((own, "data:", "blob:")):
            self.complaints.append(f"asks for {url}")

    def _spoke(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


def read_whole(page: Page) -> None:
    """Every section as if scrolled to, and every chart drawn."""
    for section in page.locator("main > section").all():
        section.scroll_into_view_if_needed()
    for chart in page.locator(".plot").all():
        chart.scroll_into_view_if_needed()
        expect(chart).to_have_class(re.compile(r"\bdrawn\b"))
    expect(page.locator("#gallery-images .card").first).to_be_visible()

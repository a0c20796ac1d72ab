"""Chromium, driven by Playwright, for tests of pages in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

# No sandbox: containers do not allow one. The other options stop the browser's own network requests.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WIDE, NARROW = 1440, 390  # px, of the window

TIMEOUT = 20_000  # ms, for busy machines


@contextmanager
def started() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    expect.set_options(timeout=TIMEOUT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        yield browser
        browser.close()


@dataclass
class Reader:
    """Opens pages, and records what a page must not do: errors, dialogs, requests to other places."""

    browser: Browser
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def open(
        self,
        address: str | Path,
        *,
        width: int = WIDE,
        dark: bool = False,
        charts: bool = True,
        idle: bool = True,
        **more: Any,
    ) -> Page:
        """`address`: a file, or a URL of 127.0.0.1. Without charts a page loads in a fraction of the time.

        Without `idle`, the page draws only the charts that the test scrolls to, however long the test takes.
        """
        url = address.as_uri() if isinstance(address, Path) else address
        scheme = "dark" if dark else "light"
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **more)
        context.set_default_timeout(TIMEOUT)
        if not idle:
            context.add_init_script("window.requestIdleCallback = () => 0;")
        page = context.new_page()
        if not charts:
            empty = "globalThis.Plotly = {react: async (one) => Object.assign(one, {on: () => {}, data: []})};"
            page.route("**/plotly.min.js", lambda route: route.fulfill(body=empty, content_type="text/javascript"))
        page.on("request", lambda request: self._requested(request.url, url))
        page.on("requestfailed", self._request_failed)
        page.on("response", lambda response: response.ok or self.complaints.append(f"{response.status} {response.url}"))
        page.on("pageerror", lambda error: self.complaints.append(f"not caught: {error}"))
        page.on("dialog", self._dialog_opened)
        page.on(
            "console", lambda message: message.type != "error" or self.complaints.append(f"console: {message.text}")
        )
        page.goto(url)
        return page

    def _request_failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # by leaving the page while it loads
            self.complaints.append(f"cannot be read: {request.url} ({request.failure})")

    def _requested(self, url: str, opened: str) -> None:
        self.requests.append(url)
        folder = opened.rpartition("/")[0] + "/"
        if not url.startswith((folder, "data:", "blob:")):
            self.complaints.append(f"requests {url}")

    def _dialog_opened(self, dialog: Any) -> None:
        self.complaints.append(f"a dialog: {dialog.message}")
        dialog.dismiss()


def read_whole(page: Page) -> None:
    """Scroll through the page until every section is loaded and every chart drawn."""
    for section in page.locator("main > section").all():
        section.scroll_into_view_if_needed()
    for chart in page.locator(".plot").all():
        chart.scroll_into_view_if_needed()
        expect(chart).to_have_class(re.compile(r"\bdrawn\b"))
    expect(page.locator("#gallery-images .card").first).to_be_visible()

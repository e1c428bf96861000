"""A real Chromium, headless, that tells what went wrong in a page."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]


@dataclass
class Visit:
    """A page, and what it complained of: lines on its console, errors that nobody caught, refused by its policy."""

    page: Any
    complaints: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium under playwright; the test is skipped where one of them is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Any, url: str, **options: Any) -> Iterator[Visit]:
    """A fresh profile at `url`. options: of playwright's `new_context`, e.g. viewport, color_scheme."""
    context = browser.new_context(**options)
    context.add_init_script(
        "addEventListener('securitypolicyviolation', e => console.error(`policy: ${e.blockedURI}`))"
    )
    page = context.new_page()
    found = Visit(page)
    page.on("console", lambda line: found.complaints.append(line.text) if line.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on("dialog", lambda dialog: (found.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.set_default_timeout(20_000)
    try:
        page.goto(url)
        yield found
    finally:
        context.close()

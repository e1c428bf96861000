"""The report in a real browser: rendered in light, in dark and at phone width, with a silent console."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeloop.telemetry.histogram import Histogram
from edgeloop_converters.report import render
from support.reported import HOSTILE, report

pytestmark = pytest.mark.slow

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--hide-scrollbars", "--enable-logging=stderr",
)  # fmt: skip
DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"
_FRAME = """<!doctype html><body><iframe src="report.html" style="width:{width}px;height:4000px;border:0"></iframe>
<pre id="told"></pre><script>
addEventListener("load", () => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  const color = name => getComputedStyle(page.querySelector(name)).backgroundColor;
  document.getElementById("told").textContent = JSON.stringify({{
    scroll: root.scrollWidth, client: root.clientWidth, height: root.scrollHeight,
    headings: [...page.querySelectorAll("h2")].map(h => h.textContent),
    flat: [...page.querySelectorAll("svg")]
      .filter(s => s.getClientRects().length && s.getBoundingClientRect().height < 4).length,
    body: color("body"), section: color("section"),
    targets: [...page.querySelectorAll("nav a")].filter(a => !page.querySelector(a.getAttribute("href"))).length,
  }});
}});
</script></body>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page")
    stages = {"invoke": Histogram.of_ms([1.0, 2.0, 4.0]), "total": Histogram.of_ms([2.0, 3.0, 5.0])}
    page = render(report(notes=[HOSTILE], name=HOSTILE), device="pi-1", latency=stages)
    (path / "report.html").write_text(page, encoding="utf-8")
    return path


def dumped(browser: str, folder: Path, page: str, *flags: str) -> tuple[str, list[str]]:
    """(the document after scripts ran, lines on the console)."""
    command = [browser, *FLAGS, *flags, "--allow-file-access-from-files", f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", (folder / page).as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_every_part_is_rendered_and_the_console_stays_silent(browser: str, folder: Path) -> None:
    document, console = dumped(browser, folder, "report.html")
    assert console == []
    assert document.count("<section") == 11
    assert html.escape('<script>alert("x")</script>', quote=False) in document
    assert "<script" not in document


@pytest.mark.parametrize(("width", "scheme"), [(1100, LIGHT), (390, DARK)])
def test_nothing_sticks_out_on_a_desk_or_on_a_phone(browser: str, folder: Path, width: int, scheme: str) -> None:
    (folder / "frame.html").write_text(_FRAME.format(width=width), encoding="utf-8")
    document, console = dumped(browser, folder, "frame.html", scheme)
    told = re.search(r'<pre id="told">(.*?)</pre>', document, re.DOTALL)
    assert told is not None
    found = json.loads(html.unescape(told.group(1)))
    assert console == []
    assert found["scroll"] <= found["client"] == width
    assert found["height"] > 1500
    assert found["headings"][0] == "Size, quality and speed"
    assert len(found["headings"]) == 11
    assert found["flat"] == 0
    assert found["targets"] == 0
    brightness = sum(map(int, re.findall(r"\d+", found["body"])[:3])) / 3
    assert brightness > 200 if scheme == LIGHT else brightness < 60


def test_it_prints_with_its_tables_open(browser: str, folder: Path) -> None:
    target = folder / "report.pdf"
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--no-pdf-header-footer"]
    subprocess.run(
        [*command, f"--print-to-pdf={target}", (folder / "report.html").as_uri()],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert target.read_bytes().startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", target.read_bytes())) <= 8

"""The web page in a browser, for tests: one process of `unirs app`, one Chromium for a file of tests."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'unirs[app]'")
pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[app]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

CHROMIUM = shutil.which("chromium")
SWITCHES = [
    f"--{name}"
    for name in ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
                 "disable-component-update", "disable-sync")
]  # fmt: skip
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}
TABS = ("Picture", "Change", "Clip", "Map")
PATIENCE = 60_000  # milliseconds
SAID = ".block.said:visible"


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Address of a page, as the command starts it; all its files are gone when it has ended."""
    folder = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "unirs", "app", "--port", "0", "--max-upload-mb", "16", "--max-megapixels", "16"]
    log = (folder.parent / "app.log").open("w+")
    process = subprocess.Popen(command, stderr=log, stdout=log, env={**os.environ, "TMPDIR": str(folder)})
    until, found = time.monotonic() + 120, None
    while not found:
        assert process.poll() is None, (folder.parent / "app.log").read_text()
        assert time.monotonic() < until
        time.sleep(0.2)
        found = re.search(r"http://127\.0\.0\.1:\d+", (folder.parent / "app.log").read_text())
    yield found[0]
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert not list(folder.glob("unirs-app-*"))
    assert "Traceback" not in (folder.parent / "app.log").read_text()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield chromium
        chromium.close()


@pytest.fixture
def page(app, browser):
    """The page on a desk; nothing that it shows may come from elsewhere."""
    yield from opened(app, browser, DESK)


@pytest.fixture
def phone(app, browser):
    yield from opened(app, browser, PHONE)


def opened(app, browser, viewport):
    context = browser.new_context(viewport=viewport, reduced_motion="reduce")
    asked = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(app)
    page.get_by_role("tab", name="Picture").wait_for()
    yield page
    context.close()
    assert [url for url in asked if not url.startswith((app, "data:", "blob:"))] == []


@pytest.fixture(scope="module")
def ask():
    """What the commands answer: the oracle."""
    from transformers import pipeline

    import unirs

    pipes = {}

    def asked(task, *shown, **options):
        if task not in pipes:
            pipes[task] = pipeline(task, model=unirs.default_checkpoint())
        return pipes[task](*shown, **options)

    return asked


def choose(page, label, *files):
    """Uploads through the field of that label, and waits until the page has them."""
    field = page.locator(f".block:visible:has-text('{label}') input[type=file]").first
    with page.expect_response(lambda one: "/gradio_api/upload" in one.url and one.request.method == "POST"):
        field.set_input_files([str(file) for file in files])


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def answer(page):
    """The words of the answer, once it has ended."""
    page.locator(f"{SAID} [aria-busy=false] .answer").wait_for()
    return page.locator(f"{SAID} .answer").inner_text()


def error(page):
    shown = page.locator(f"{SAID} [role=alert]")
    shown.wait_for()
    return shown.inner_text()

"""The web page in a browser, with real uploads: one process of `unirs app`, one Chromium for all."""

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from itertools import pairwise

import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'unirs[app]'")
pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'unirs[app]'")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")

from unirs.trainers.scene_tasks import single_sample  # noqa: E402

from tests.conftest import DATA  # noqa: E402
from tests.true_pair import make_pair  # noqa: E402
from unirs.app.examples import FIRST, write_examples  # noqa: E402

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
MEGABYTE = 2**20
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


# -- the four tabs ----------------------------------------------------------------------------------------------------
def test_picture_is_answered_as_by_the_command(page, ask):
    file, question = DATA / "single/rsicd_stadium.jpg", "Is it a rural or an urban area?"
    choose(page, "Picture", file)
    page.get_by_label("Question").fill(question)
    page.keyboard.press("Enter")
    expected = ask("rs-visual-question-answering", str(file), question)["answer"]
    assert answer(page) == expected


def test_picture_that_browsers_cannot_show_is_shown_and_answered(page, ask):
    file, question = DATA / "rsvqa_lr/0.tif", "Is there a road in the image?"
    choose(page, "Picture", file)
    shown = page.locator(".block:visible:has-text('Picture') img[src*=preview]").first  # a new one, not the broken one
    shown.wait_for()
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Ask").click()
    assert answer(page) == ask("rs-visual-question-answering", str(file), question)["answer"]


def test_pair_streams_its_sentence_and_shows_the_change_between_the_dates(page, ask):
    before, after = (DATA / f"levir_cd/{date}/test_2_0000_0000.png" for date in "AB")
    tab(page, "Change")
    choose(page, "Before", before)
    choose(page, "After", after)
    page.evaluate(
        """() => {
            window.seen = [];
            const note = () => {
                for (const one of document.querySelectorAll('.said .answer'))
                    if (one.offsetParent) window.seen.push(one.innerText.trim());
            };
            new MutationObserver(note).observe(document.body, {subtree: true, childList: true, characterData: true});
        }"""
    )
    page.get_by_role("button", name="Describe the change").click()
    found = ask("change-captioning", str(before), str(after), change_map=True)
    assert answer(page) == found["answer"]
    pieces = list(dict.fromkeys(one for one in page.evaluate("window.seen") if one != "…"))
    assert len(pieces) > 2
    assert all(later.startswith(earlier) for earlier, later in pairwise(pieces))
    share = (found["change_map"] > 0.5).mean()
    assert f"{share:.0%} of the picture looks changed." in page.locator(SAID).inner_text()
    assert page.locator(".dates img").evaluate_all("all => all.map(one => one.naturalWidth)") == [256] * 3
    slider = page.get_by_role("slider", name="Share of the earlier date")
    slider.focus()
    page.keyboard.press("End")
    shown = page.locator(".dates .before").evaluate("one => getComputedStyle(one).clipPath")
    assert shown == "inset(0px 0% 0px 0px)"
    page.get_by_role("checkbox", name="Change map").uncheck()
    assert page.locator(".dates .change").evaluate("one => getComputedStyle(one).visibility") == "hidden"


def test_clip_shows_its_frames_and_is_answered(page, ask):
    file = next((DATA / "video").glob("uav123_*.mp4"))
    tab(page, "Clip")
    choose(page, "Clip", file)
    frames = page.locator(".frames .grid-wrap img")
    page.get_by_text("Frame 4", exact=True).wait_for()
    assert frames.count() == 4  # as many as the model takes
    page.get_by_role("button", name="Name the scene").click()
    assert answer(page) == ask("video-scene-classification", str(file))["answer"]


def test_dated_pictures_are_a_sequence_and_two_are_sent_to_the_other_tab(page, ask):
    files = [DATA / f"multi_date/teochat/fMoW_cls_{number}.png" for number in range(1, 5)]
    tab(page, "Clip")
    choose(page, "Clip", *files[:2])
    assert "Two pictures are a pair" in error(page)
    page.reload()
    tab(page, "Clip")
    choose(page, "Clip", *files)
    page.get_by_text("Frame 4", exact=True).wait_for()
    page.get_by_role("button", name="Name the scene").click()
    assert answer(page) == ask("video-scene-classification", [str(file) for file in files])["answer"]


def test_rasters_become_a_map_with_its_files(page, tmp_path, unirs):
    """The files are those of `unirs map --merge` on the same two."""
    *dates, _ = make_pair(DATA, tmp_path)
    tab(page, "Map")
    choose(page, "Before (GeoTIFF)", dates[0])
    choose(page, "After (GeoTIFF)", dates[1])
    page.get_by_role("button", name="Map the changes").click()
    said = answer(page)
    page.locator("a[href$='map.html']").wait_for()
    output = tmp_path / "by_command.geojson"
    assert unirs("map", *dates, "--output", output, "--merge")[0] == 0
    expected = json.loads(output.read_text())["features"]
    assert said == f"{len(expected)} change{'' if len(expected) == 1 else 's'} found."
    rows = page.locator(f"{SAID} tbody tr")
    assert rows.count() == len(expected)
    assert sorted(rows.locator("td:first-child").all_inner_texts()) == sorted(
        one["properties"]["caption"] for one in expected
    )
    drawn = page.locator(".block:visible:has-text('Changes on the map') img").last
    drawn.wait_for()
    assert page.evaluate("image => image.decode().then(() => image.naturalWidth)", drawn.element_handle()) > 500
    link = page.locator("a[href$='changes.geojson']")
    assert page.request.get(link.get_attribute("href")).json()["features"] == expected


def test_clue_is_shown_above_the_answer(page, ask):
    file, question = DATA / "single/rsicd_stadium.jpg", "Is there water?"
    choose(page, "Picture", file)
    page.get_by_label("Question").fill(question)
    page.get_by_role("checkbox", name="Clue").check()
    page.get_by_role("button", name="Ask").click()
    found = ask("rs-visual-question-answering", str(file), question, clue=True)
    assert answer(page) == found["answer"]
    shown = page.locator(f"{SAID} .clue").inner_text()
    assert shown == (f"Clue {found['clue']}" if found["clue"] else f"No clue {found['no_clue']}")


# -- what goes wrong --------------------------------------------------------------------------------------------------
def test_nothing_chosen_and_no_question_are_told(page):
    page.get_by_role("button", name="Ask").click()
    assert "Choose a picture first." in error(page)
    choose(page, "Picture", DATA / "single/rsicd_stadium.jpg")
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("Type a question first.").wait_for()


# The close of the stream of answers comes later than the last answer, as in a busy browser.
LATE_CLOSE = """
    const send = window.fetch;
    window.fetch = async (...given) => {
        const answer = await send(...given);
        if (!String(given[0]?.url ?? given[0]).includes("/queue/data")) return answer;
        const transform = async (text, out) => {
            const [before, after] = text.split('data: {"msg":"close_stream"');
            if (before) out.enqueue(before);
            if (after === undefined) return;
            await new Promise((go) => setTimeout(go, 5000));
            out.enqueue('data: {"msg":"close_stream"' + after);
        };
        const late = answer.body.pipeThrough(new TextDecoderStream()).pipeThrough(new TransformStream({transform}));
        const {status, headers} = answer;
        return new Response(late.pipeThrough(new TextEncoderStream()), {status, headers});
    };"""


def test_question_that_is_asked_as_the_stream_closes_is_answered(page):
    """Gradio's script took the stream of the answer before for open, and waited for this one for ever."""
    page.add_init_script(LATE_CLOSE)
    page.reload()
    page.get_by_role("button", name="Ask").click()
    assert "Choose a picture first." in error(page)
    tab(page, "Change")
    page.get_by_role("button", name="Describe the change").click()
    assert "Choose the earlier picture first." in error(page)
    tab(page, "Map")
    page.get_by_role("button", name="Map the changes").click()
    assert "Choose the earlier raster first." in error(page)


def huge_png():
    """Says that it has 20,000 x 20,000 pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [("page.png", b"<html>" * 9, "page.png: is none of PNG, JPEG"),
     ("huge.png", huge_png(), "huge.png has 400.0 million pixels, and 16.0 million pixels are read."),
     ("ps.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "ps.png: is none of PNG, JPEG")],
)  # fmt: skip
def test_bad_pictures_are_told_in_a_sentence(page, tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    choose(page, "Picture", tmp_path / name)
    told = error(page)
    assert sentence in told
    assert "/tmp" not in told
    assert str(tmp_path.parent.parent) not in told


def test_rasters_that_do_not_overlap_are_told(page):
    tab(page, "Map")
    choose(page, "Before (GeoTIFF)", DATA / "rsvqa_lr/0.tif")
    choose(page, "After (GeoTIFF)", DATA / "rsvqa_hr/0.tif")
    page.get_by_role("button", name="Map the changes").click()
    assert "overlap" in error(page)


@pytest.mark.parametrize(("name", "label"), [("Picture", "Picture"), ("Map", "Before (GeoTIFF)")])
def test_upload_that_is_too_large_is_told(page, tmp_path, name, label):
    file = tmp_path / f"large.{'png' if name == 'Picture' else 'tif'}"
    file.write_bytes(bytes(17 * MEGABYTE))
    tab(page, name)
    page.locator(f".block:visible:has-text('{label}') input[type=file]").first.set_input_files(str(file))
    page.get_by_text(re.compile(r"maximum allowed size of 16\.0 Mb")).wait_for()


def test_upload_that_the_server_refuses_is_told(page):
    """Such as pictures that are too large together, or a folder that is full."""
    page.route("**/gradio_api/upload?*", lambda route: route.fulfill(status=503, body="The page is full."))
    field = page.locator(".block:visible:has-text('Picture') input[type=file]").first
    field.set_input_files(str(DATA / "single/rsicd_stadium.jpg"))
    assert error(page) == "Not uploaded. The page is full."
    page.unroute("**/gradio_api/upload?*")
    page.reload()
    choose(page, "Picture", DATA / "single/rsicd_stadium.jpg")
    assert page.locator(f"{SAID} [role=alert]").count() == 0


# -- for everybody ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TABS)
def test_no_tab_is_wider_than_a_phone(phone, name):
    tab(phone, name)
    phone.get_by_role("tabpanel").locator("visible=true").first.wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = phone.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, .said, img')]
            .filter(one => one.offsetParent && !one.closest('.table-wrap, .tab-container')
                && one.getBoundingClientRect().right > innerWidth + 1)
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    assert wide == []


@pytest.mark.parametrize("name", TABS)
def test_every_control_and_icon_has_a_name_and_answers_are_announced(page, name):
    tab(page, name)
    panel = page.get_by_role("tabpanel", name=name)
    panel.wait_for()
    if name == "Map":
        page.get_by_role("button", name="Settings").click()
        assert page.get_by_role("button", name="Settings").get_attribute("aria-expanded") == "true"
    seen = panel.aria_snapshot()
    nameless = re.findall(r"- (?:img|button|textbox|checkbox|slider|spinbutton|link)(?::|$)", seen, re.MULTILINE)
    assert nameless == [], seen
    announced = panel.get_by_role("status")
    assert announced.count() == 1
    assert announced.get_attribute("aria-live") == "polite"
    fields = re.findall(r'button "([^"]*upload[^"]*)"', seen)
    assert len(set(fields)) == len(fields) == {"Picture": 1, "Clip": 1}.get(name, 2)


def test_tabs_are_gone_through_by_arrows(page):
    page.get_by_role("tab", name="Picture").focus()
    for key, expected in (
        ("ArrowRight", "Change"), ("ArrowRight", "Clip"), ("End", "Map"), ("ArrowRight", "Picture"),
        ("ArrowLeft", "Map"), ("Home", "Picture"),
    ):  # fmt: skip
        page.keyboard.press(key)
        page.get_by_role("tab", name=expected, selected=True).wait_for()
        assert page.evaluate("document.activeElement.innerText.trim()") == expected
    assert page.locator("[role=tab][tabindex='0']").all_inner_texts() == ["Picture"]  # one stop for all


def test_examples_of_every_tab_are_chosen_by_keyboard(page, ask, tmp_path):
    files = write_examples(tmp_path)  # as the page's own: of the same seeds
    question = single_sample(FIRST).questions[0].question
    page.get_by_role("row", name=f"Example 1 {question}").focus()  # its words come later than the row
    page.keyboard.press("Enter")
    page.wait_for_function("question => document.querySelector('textarea').value === question", arg=question)
    page.get_by_role("button", name="Ask").press("Enter")
    said = answer(page)
    tab(page, "Change")
    page.get_by_role("row", name="Example 2").press("Space")
    page.locator(".two img").nth(1).wait_for()  # asked before, the page would want a picture first
    assert answer_to(page, "Describe the change") == ask("change-captioning", *files.pairs[1])["answer"]
    assert page.locator(".dates img").count() == 3
    tab(page, "Clip")
    page.get_by_role("button", name="clip-1.mp4").press("Enter")
    page.get_by_text("Frame 4", exact=True).wait_for()
    assert answer_to(page, "Name the scene") == ask("video-scene-classification", *files.clips[0])["answer"]
    tab(page, "Map")
    page.get_by_role("row", name="Example 1").press("Enter")
    page.get_by_role("link", name="KB").nth(1).wait_for()
    assert re.fullmatch(r"\d+ changes? found\.", answer_to(page, "Map the changes"))
    tab(page, "Picture")
    assert answer(page) == said  # of the other tabs nothing was lost


def answer_to(page, button):
    page.get_by_role("button", name=button).click()
    return answer(page)

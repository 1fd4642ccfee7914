"""The web page in a browser, with real uploads: answers as the commands give them, and what goes wrong."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import json
import re
import struct
import zlib
from itertools import pairwise

import pytest
import rasterio
from PIL import Image

from tests import rasters
from tests.browsing import (  # noqa: F401 - fixtures and marks
    DESK,
    SAID,
    answer,
    app,
    ask,
    browser,
    choose,
    error,
    opened,
    page,
    pytestmark,
    tab,
)
from tests.conftest import DATA
from tests.true_pair import make_pair

MEGABYTE = 2**20


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
    page.get_by_text("Picture 4", exact=True).wait_for()
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


def test_map_of_files_that_are_gone_is_not_told_and_who_waits_is_told(page, app, browser, tmp_path):
    """It went on beside the next files; and who asked meanwhile saw an empty box."""
    dates = [rasters.write(tmp_path / f"{year}.tif", rasters.scene(year, 512, 512)) for year in (2019, 2024)]
    tab(page, "Map")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("number input for Side of a tile").fill("32")  # 256 tiles
    choose(page, "Before (GeoTIFF)", dates[0])
    choose(page, "After (GeoTIFF)", dates[1])
    page.get_by_role("button", name="Map the changes").click()
    page.get_by_text("Looking at tiles").wait_for()
    for other in opened(app, browser, DESK):
        other.get_by_role("button", name="Ask").click()
        other.get_by_text("Waiting for its turn; 1 before it.").wait_for()
        with page.expect_response("**/gradio_api/cancel"):  # until then Gradio takes the button for pressed
            page.get_by_role("button", name="Before (GeoTIFF): Clear").click()
        assert error(other) == "Not done. Choose a picture first."  # the model is free again
        assert other.locator(".waiting").count() == 0
    page.wait_for_timeout(500)
    assert page.locator(SAID).inner_text().strip() == "Answer"
    page.get_by_role("button", name="Map the changes").click()
    assert error(page) == "Not done. Choose the earlier raster first."


def test_map_is_stopped_by_its_button(page, tmp_path):
    dates = [rasters.write(tmp_path / f"{year}.tif", rasters.scene(year, 512, 512)) for year in (2019, 2024)]
    tab(page, "Map")
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("number input for Side of a tile").fill("32")
    choose(page, "Before (GeoTIFF)", dates[0])
    choose(page, "After (GeoTIFF)", dates[1])
    page.get_by_role("button", name="Map the changes").click()
    page.get_by_text("Looking at tiles").wait_for()
    with page.expect_response("**/gradio_api/cancel"):
        page.get_by_role("button", name="Stop").click()
    page.get_by_text("Looking at tiles").wait_for(state="detached")
    page.get_by_label("number input for Side of a tile").fill("256")
    page.get_by_role("button", name="Map the changes").click()
    assert "found." in answer(page)


def test_rasters_without_a_place_are_sent_to_the_box_for_them(page, tmp_path):
    """They were told to add `--pixel`."""
    dates = [
        rasters.write(tmp_path / f"{year}.tif", rasters.scene(year), crs=None, transform=rasterio.Affine.identity())
        for year in (2019, 2024)
    ]
    tab(page, "Map")
    choose(page, "Before (GeoTIFF)", dates[0])
    choose(page, "After (GeoTIFF)", dates[1])
    page.get_by_role("button", name="Map the changes").click()
    assert "tick “pixel by pixel” under Settings" in error(page)
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("checkbox", name="pixel by pixel").check()
    page.get_by_role("button", name="Map the changes").click()
    assert "found." in answer(page)


def test_pair_of_other_shapes_is_told(page, tmp_path):
    Image.new("RGB", (200, 100), "green").save(tmp_path / "wide.png")
    Image.new("RGB", (100, 200), "grey").save(tmp_path / "tall.png")
    tab(page, "Change")
    choose(page, "Before", tmp_path / "wide.png")
    choose(page, "After", tmp_path / "tall.png")
    page.get_by_role("button", name="Describe the change").click()
    answer(page)
    assert "where the two lie one over the other is a guess" in page.locator(SAID).inner_text()
    page.locator(".dates").wait_for()
    assert page.locator(".dates .stack").bounding_box()["height"] <= 0.8 * DESK["height"] + 1


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

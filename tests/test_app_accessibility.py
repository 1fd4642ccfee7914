"""The web page in a browser, for everybody: on a phone, by keyboard, and by names that are read aloud."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import re

import pytest
from unirs.trainers.scene_tasks import single_sample

from tests.browsing import (  # noqa: F401 - fixtures and marks
    PHONE,
    TABS,
    answer,
    app,
    ask,
    browser,
    choose,
    page,
    phone,
    pytestmark,
    tab,
)
from tests.conftest import DATA
from unirs.app.examples import FIRST, write_examples


@pytest.mark.parametrize("name", TABS)
def test_no_tab_is_wider_than_a_phone(phone, name):
    tab(phone, name)
    phone.get_by_role("tabpanel").locator("visible=true").first.wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    wide = phone.evaluate(
        """() => [...document.querySelectorAll('button, input, textarea, .said, img')]
            .filter(one => one.offsetParent && !one.closest('.tab-container')
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


def test_frames_follow_a_slider_that_keys_move(page):
    """Only a mouse released it: the frames shown were not those that the model would be given."""
    tab(page, "Clip")
    choose(page, "Clip", next((DATA / "video").glob("uav123_*.mp4")))
    page.get_by_text("Frame 4", exact=True).wait_for()
    page.get_by_role("slider", name="Frames to look at").press("ArrowRight")
    page.get_by_text("Frame 5", exact=True).wait_for()
    page.get_by_label("number input for Frames to look at").fill("2")
    page.get_by_text("Frame 5", exact=True).wait_for(state="detached")
    assert page.locator(".frames .grid-wrap img").count() == 2
    assert page.get_by_role("button", name="common").count() == 0


@pytest.mark.parametrize("name", ["Change", "Clip", "Map"])
def test_what_is_not_made_yet_takes_no_room(page, name):
    tab(page, name)
    page.get_by_role("tabpanel", name=name).wait_for()
    assert page.locator(".block.made:visible").count() == 0


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
    page.get_by_role("button", name="Changes on the map", exact=True).wait_for()
    assert page.get_by_role("button", name="Remove this file").locator("visible=true").count() == 0
    tab(page, "Picture")
    assert answer(page) == said  # of the other tabs nothing was lost


def answer_to(page, button):
    page.get_by_role("button", name=button).click()
    return answer(page)

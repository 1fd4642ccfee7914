"""Questions about ninths, against pictures whose every patch is known."""

import numpy as np
import pytest
from PIL import Image
from unirs.trainers.scene_shapes import LAND_CLASSES
from unirs.trainers.scene_tasks import OBJECTS
from unirs.trainers.tiny_data import turned
from unirs.trainers.tiny_places import NAMES, PLACES, ninths, place_turns, turned_place, where_turns

SIDE = 12


def nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(LAND_CLASSES), SIDE, SIDE)), np.zeros((len(OBJECTS), SIDE, SIDE), bool)


def turns(land: np.ndarray, centres: np.ndarray, seed: int, most: int = 9) -> list[tuple[str, str]]:
    flat = land.reshape(len(land), -1), centres.reshape(len(centres), -1)
    return place_turns(np.random.default_rng(seed), *flat, most)


def test_ninths_are_read_row_by_row_as_their_names():
    grid = np.zeros((1, SIDE, SIDE))
    grid[0, :4, 8:] = 1  # top right
    assert PLACES[int(ninths(grid.reshape(1, -1)).argmax())] == "top right"
    grid = np.zeros((1, SIDE, SIDE))
    grid[0, 4:8, :4] = 0.5
    assert PLACES[int(ninths(grid.reshape(1, -1)).argmax())] == "left"
    assert ninths(grid.reshape(1, -1)).max() == 0.5


@pytest.mark.parametrize("place", range(9))
def test_what_lies_at_a_place_is_its_main_land(place):
    land, centres = nothing()
    land[LAND_CLASSES.index("ground")] = 1
    row, column = place // 3 * 4, place % 3 * 4
    land[LAND_CLASSES.index("ground"), row : row + 4, column : column + 4] = 0
    land[LAND_CLASSES.index("road"), row : row + 4, column : column + 4] = 1
    answers = dict(turns(land, centres, place))
    assert len(answers) == 9
    assert answers.pop(f"What is at the {PLACES[place]} of the image?") == "a road"
    assert set(answers.values()) == {NAMES["ground"]}


def test_things_are_where_their_middles_are_and_nowhere_else():
    land, centres = nothing()
    land[LAND_CLASSES.index("ground")] = 0.5  # no main land anywhere
    centres[OBJECTS.index("vehicle"), 11, 6] = True  # bottom
    seen = {question: answer for seed in range(40) for question, answer in turns(land, centres, seed)}
    assert seen.pop("Where in the image is the vehicle?") == "bottom"
    assert seen.pop("Is there a vehicle at the bottom of the image?") == "yes"
    assert len(seen) == 8
    assert set(seen.values()) == {"no"}
    assert all("vehicle" in question for question in seen)  # of what is nowhere nothing is asked


def test_a_thing_that_reaches_in_from_next_door_is_not_asked_for():
    land, centres = nothing()
    centres[OBJECTS.index("building"), 3, 3] = True  # top left, at its border
    land[LAND_CLASSES.index("building"), 2:5, 2:5] = 1
    asked = {question for seed in range(200) for question, _ in turns(land, centres, seed)}
    assert "Is there a building at the top left of the image?" in asked
    for place in ("top", "left", "middle"):
        assert f"Is there a building at the {place} of the image?" not in asked


def test_no_more_than_asked_for():
    land, centres = nothing()
    land[0] = 1
    assert len(turns(land, centres, 0, most=3)) == 3


@pytest.mark.parametrize("place", range(9))
def test_where_is_the_ninth_that_holds_all_of_a_thing(place):
    land, centres = nothing()
    row, column = place // 3 * 4, place % 3 * 4
    centres[OBJECTS.index("boat"), row, column] = centres[OBJECTS.index("boat"), row + 3, column + 3] = True
    centres[OBJECTS.index("vehicle"), row + 1, column] = True
    centres[OBJECTS.index("building")] = True  # everywhere: nowhere in particular
    land[LAND_CLASSES.index("solar panels"), row : row + 2, column : column + 2] = 1
    land[LAND_CLASSES.index("tree"), row : row + 4, column : column + 4] = 0.4
    land[LAND_CLASSES.index("tree"), (row + 4) % SIDE, column] = 0.4  # one of 17 patches lies next door
    land[LAND_CLASSES.index("water"), row, column] = 0.1  # a puddle: 0.07 % of the picture
    flat = land.reshape(len(land), -1), centres.reshape(len(centres), -1)
    where = PLACES[place]
    assert dict(where_turns(*flat)) == {
        "Where in the image are the boats?": where,
        "Where in the image is the vehicle?": where,
        "Where in the image is the solar farm?": where,
    }


def test_no_question_tells_the_answer_of_another():
    rng = np.random.default_rng(0)
    for seed in range(60):
        land, centres = nothing()
        land[rng.integers(len(land), size=(SIDE, SIDE)), np.arange(SIDE)[:, None], np.arange(SIDE)] = 1
        centres[rng.integers(len(centres), size=4), rng.integers(4, size=4), rng.integers(4, size=4)] = True
        asked = turns(land, centres, seed)
        where = {answer for question, answer in asked if question.startswith("Where")}
        assert not any(f"at the {place} of" in question for question, _ in asked for place in where)
        named = [
            name for question, _ in asked for name in OBJECTS if name in question and question.startswith("Where")
        ]
        others = " ".join(question for question, _ in asked if not question.startswith("Where"))
        assert len(set(named)) == len(named)
        assert not any(name in others for name in named)


def test_buildings_of_a_ninth_are_counted():
    land, centres = nothing()
    for row, column in ((0, 0), (1, 2), (3, 3), (8, 8), (11, 11)):  # three in the first ninth, two in the last
        centres[OBJECTS.index("building"), row, column] = True
    seen = {turn for seed in range(60) for turn in turns(land, centres, seed) if turn[0].startswith("How many")}
    assert seen == {
        ("How many buildings are there at the top left of the image?", "3"),
        ("How many buildings are there at the bottom right of the image?", "2"),
    }


def test_what_is_known_of_places_is_asked_once():
    land, centres = nothing()
    known = [("Where in the image is the building?", "left")]
    centres[OBJECTS.index("building"), 5, 1] = True
    flat = land.reshape(len(land), -1), centres.reshape(len(centres), -1)
    drawn = [place_turns(np.random.default_rng(seed), *flat, 9, known) for seed in range(40)]
    assert known in drawn
    assert all(dict(turns).get(known[0][0], "left") == "left" and len(dict(turns)) == len(turns) for turns in drawn)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_a_place_turns_as_its_picture_does(quarters, mirrored):
    """By Pillow, which has its own ways to turn and to mirror."""
    for number, place in enumerate(PLACES):
        marked = np.zeros((6, 6), np.uint8)
        marked[number // 3 * 2, number % 3 * 2] = 255
        seen = Image.fromarray(marked).rotate(90 * quarters)
        seen = seen.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else seen
        assert (turned(marked, quarters, mirrored) == np.asarray(seen)).all()
        row, column = np.argwhere(np.asarray(seen))[0] // 2
        assert turned_place(place, quarters, mirrored) == PLACES[row * 3 + column]

"""Questions about ninths, against pictures whose every patch is known."""

import numpy as np
import pytest
from unirs.trainers.scene_shapes import LAND_CLASSES
from unirs.trainers.scene_tasks import OBJECTS
from unirs.trainers.tiny_places import NAMES, PLACES, ninths, place_turns

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
    land[LAND_CLASSES.index("water"), row : row + 4, column : column + 4] = 1
    answers = dict(turns(land, centres, place))
    assert len(answers) == 9
    assert answers.pop(f"What is at the {PLACES[place]} of the image?") == "water"
    assert set(answers.values()) == {NAMES["ground"]}


def test_things_are_where_their_middles_are_and_nowhere_else():
    land, centres = nothing()
    land[LAND_CLASSES.index("ground")] = 0.5  # no main land anywhere
    centres[OBJECTS.index("vehicle"), 11, 6] = True  # bottom
    seen = {question: answer for seed in range(40) for question, answer in turns(land, centres, seed)}
    assert seen.pop("Is there a vehicle at the bottom of the image?") == "yes"
    assert len(seen) == 8
    assert set(seen.values()) == {"no"}
    assert all("vehicle" in question for question in seen)  # of what is nowhere nothing is asked


def test_a_thing_that_reaches_in_from_next_door_is_not_asked_for():
    land, centres = nothing()
    centres[OBJECTS.index("building"), 3, 3] = True  # top left, at its border
    land[LAND_CLASSES.index("building"), 2:5, 2:5] = 1
    asked = {question for seed in range(40) for question, _ in turns(land, centres, seed)}
    assert "Is there a building at the top left of the image?" in asked
    for place in ("top", "left", "middle"):
        assert f"Is there a building at the {place} of the image?" not in asked


def test_no_more_than_asked_for():
    land, centres = nothing()
    land[0] = 1
    assert len(turns(land, centres, 0, most=3)) == 3

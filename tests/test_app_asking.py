"""Who asks the model for the web page: answers, clues and maps, and their end when a visitor leaves."""

import dataclasses
import json
import threading

import pytest
import rasterio
from transformers import pipeline

from tests import rasters
from tests.tiny import picture, tiny_model
from unirs.app.asking import Answer, Asker
from unirs.app.limits import Limits
from unirs.app.scene_map import MapSettings, SceneMap
from unirs.report import changed_share
from unirs.terminal import InputError

TILE = MapSettings(tile=32, threshold=0, merge=False)


@pytest.fixture
def asker(processor):
    return Asker(tiny_model(processor), processor, None, Limits(new_tokens=12, map_seconds=60))


def talkative(processor, new_tokens):
    """An asker whose model never ends by itself, and a count of its steps."""
    model = tiny_model(processor)
    model.generation_config.suppress_tokens += [model.config.text_config.eos_token_id]
    steps = []
    model.register_forward_hook(lambda *_: steps.append(1))
    return Asker(model, processor, None, Limits(new_tokens=new_tokens, seconds=600)), steps


def test_last_answer_is_the_pipelines(asker, processor):
    found = list(asker.ask("picture", [picture(1)], "What?", clue=False))
    pipe = pipeline("rs-visual-question-answering", model=tiny_model(processor), processor=processor)
    assert found[-1].text == pipe(picture(1), "What?", max_new_tokens=12)["answer"]
    assert found[-1].has_ended
    *_, pair = asker.ask("pair", [picture(1, 56, 28), picture(2, 56, 28)], "", clue=False, change_map=True)
    assert pair.changed == changed_share(pair.change_map, (56, 28))


def test_answer_ends_when_its_visitor_leaves(processor):
    asker, steps = talkative(processor, 700)
    *_, whole_answer = asker.ask("picture", [picture(1)], "What?", clue=False)
    assert whole_answer.has_ended
    assert len(steps) >= 700
    steps.clear()
    answers = asker.ask("picture", [picture(1)], "What?", clue=False)
    next(answers)
    answers.close()
    asker.thread.submit(int).result()  # the model is free again
    assert len(steps) < 350


def test_clue_ends_when_its_visitor_leaves(processor):
    """The time and the visitor's leaving were the answer's alone, and nothing woke who waited for the clue."""
    asker, steps = talkative(processor, 700)
    has_gone = threading.Event()

    def wait_at_the_third(*given):
        if len(steps) == 3:
            has_gone.wait(5)

    asker.network.register_forward_hook(wait_at_the_third)
    answers = asker.ask("picture", [picture(1)], "What?", clue=True)
    assert next(answers) == Answer()
    answers.close()
    has_gone.set()
    asker.thread.submit(int).result()
    assert len(steps) <= 3


def test_clue_and_answer_share_the_time(processor):
    asker, steps = talkative(processor, 700)
    asker.limits = dataclasses.replace(asker.limits, seconds=-1)
    assert list(asker.ask("picture", [picture(1)], "What?", clue=True))[-1].has_ended
    assert len(steps) == 2  # a token of each


def test_fault_of_ours_is_not_told_as_the_visitors(asker, monkeypatch):
    def broken(*given, **options):
        raise ValueError("tensors of other sizes")

    monkeypatch.setitem(asker.pipes, "picture", broken)
    with pytest.raises(ValueError, match="tensors of other sizes"):
        list(asker.ask("picture", [picture(1)], "What?", clue=False))


@pytest.mark.parametrize(("question", "sentence"), [(" ", "Type a question first"), ("x" * 2001, "2,001 characters")])
def test_questions_that_are_not_asked_are_told(asker, question, sentence):
    with pytest.raises(InputError, match=sentence):
        next(asker.ask("picture", [picture(1)], question, clue=False))


@pytest.mark.parametrize(
    ("task", "shown", "question"),
    [("picture", [picture(1)], "\U0001f6f0" * 500), ("clip", [[picture(1)] * 60], "")],
)
def test_more_tokens_than_the_model_reads_are_told(processor, task, shown, question):
    """A question that is short in characters, and a clip of few pixels, were "The page failed on this"."""
    model = tiny_model(processor)
    model.config.text_config.max_position_embeddings = 40
    options = {"num_frames": 60} if task == "clip" else {}
    with pytest.raises(InputError, match=r"tokens and the model reads 40; .* fewer pictures or frames\.$"):
        list(Asker(model, processor, None, Limits()).ask(task, shown, question, clue=False, **options))


def test_a_clip_of_the_most_frames_is_answered_and_no_page_offers_more(processor):
    model = tiny_model(processor)
    model.config.text_config.max_position_embeddings = 850
    asker = Asker(model, processor, None, Limits())
    most = asker.most_frames
    assert 1 < most < Limits().files
    assert list(asker.ask("clip", [[picture(1)] * most], "", clue=False, num_frames=most))[-1].has_ended
    with pytest.raises(InputError, match="the model reads 850"):
        list(asker.ask("clip", [[picture(1)] * 64], "", clue=False, num_frames=64))
    assert Asker(model, processor, None, Limits(files=3)).most_frames == 3


@pytest.fixture
def dates(tmp_path):
    folder = tmp_path / "dates"
    folder.mkdir()
    return [rasters.write(folder / f"{date}.tif", rasters.scene(date)) for date in (1, 2)]


def test_map_tells_its_tiles_and_leaves_its_files(asker, dates, tmp_path):
    """128 x 128 pixels of 10 m are 16 tiles of 320 m a side, all of which pass a threshold of 0."""
    *steps, made = asker.map(dates, tmp_path, TILE)
    assert steps == [(0, 16), (16, 16)]
    assert isinstance(made, SceneMap)
    assert made.areas == [pytest.approx(320.0**2, rel=1e-3)] * 16
    assert sorted(path.name for path in made.files) == ["change.tif", "changes.geojson", "map.html"]
    assert sorted(path.name for path in made.files[0].parent.iterdir()) == [
        "change.tif",
        "changes.geojson",
        "map.html",
    ]


def test_map_does_not_tell_where_the_server_keeps_its_files(asker, dates, tmp_path):
    """Its notes did, on the page and in the files to take along, for rasters that are warped."""
    finer = rasterio.transform.from_origin(rasters.LEFT, rasters.TOP, 8, 8)
    warped = rasters.write(dates[0].parent / "finer.tif", rasters.scene(2), transform=finer)
    *_, made = asker.map([dates[0], warped], tmp_path, TILE)
    assert "finer.tif is warped onto the first date's grid." in made.notes
    assert not [path for path in made.files if bytes(tmp_path) in path.read_bytes()]


def test_two_files_of_one_name_are_told_apart_by_their_order(asker, tmp_path):
    """The map called them by the server's folders, which are hashes."""
    folder = tmp_path / "maps"
    folder.mkdir()
    dates = []
    for date in (1, 2):
        (tmp_path / str(date)).mkdir()
        dates.append(rasters.write(tmp_path / str(date) / "scene.tif", rasters.scene(date)))
    *_, made = asker.map(dates, folder, TILE)
    told = json.loads(made.files[0].read_text())
    assert '"scene, before"' in json.dumps(told)
    assert '"scene, after"' in json.dumps(told)
    assert "1/scene" not in json.dumps(told)


def test_map_that_takes_too_long_is_ended_without_leftovers(processor, dates, tmp_path):
    asker = Asker(tiny_model(processor), processor, None, Limits(map_seconds=-1))
    with pytest.raises(InputError, match="stopped after -1 seconds, with 0 of 16 tiles"):
        list(asker.map(dates, tmp_path, TILE))
    assert list(tmp_path.iterdir()) == [dates[0].parent]


def test_map_ends_when_its_visitor_leaves(asker, dates, tmp_path):
    steps = asker.map(dates, tmp_path, TILE)
    assert next(steps) == (0, 16)
    steps.close()
    asker.thread.submit(int).result()
    assert list(tmp_path.iterdir()) == [dates[0].parent]


def test_map_waits_for_the_answer_before_it(processor, dates, tmp_path):
    """The network is in one thread only."""
    asker, _ = talkative(processor, 20)
    threads = set()
    asker.network.register_forward_hook(lambda *_: threads.add(threading.current_thread().name))
    asker.network.model.vision_tower.register_forward_hook(lambda *_: threads.add(threading.current_thread().name))
    answers = asker.ask("picture", [picture(1)], "What?", clue=False)
    next(answers)
    assert isinstance([*asker.map(dates, tmp_path, TILE)][-1], SceneMap)
    assert list(answers)[-1].has_ended
    assert len(threads) == 1


def test_rasters_that_do_not_overlap_are_told_without_folders(asker, dates, tmp_path):
    far = rasterio.transform.from_origin(600_000, 5_000_000, 10, 10)
    other = rasters.write(tmp_path / "dates" / "far.tif", rasters.scene(2), transform=far)
    with pytest.raises(InputError, match=r"far\.tif") as told:
        list(asker.map([dates[0], other], tmp_path, TILE))
    assert str(tmp_path) not in str(told.value)
    assert list(tmp_path.iterdir()) == [dates[0].parent]

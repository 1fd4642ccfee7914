"""A clip of a real picture is that picture under a moving camera: no edge comes in, and no other light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from unirs.trainers import real_clips, tiny_mixture
from unirs.trainers.real_clips import real_clip
from unirs.trainers.real_scenes import SCENE_CLASSES, SIDE
from unirs.trainers.tiny_data import FRAMES, SIZE, make_scenes
from unirs.trainers.tiny_mixture import Mixture


def test_no_frame_shows_more_than_the_picture():
    rng = np.random.default_rng(0)
    picture = np.full((SIDE, SIDE, 3), 150, np.uint8)
    for _ in range(40):
        clip = real_clip(rng, picture, SIZE, FRAMES)
        assert (clip.shape, clip.dtype) == ((FRAMES, SIZE, SIZE, 3), np.uint8)
        # beyond the picture lies black; season and light change slowly across it
        assert clip.min() > 0.4 * np.median(clip)


def test_each_frame_is_a_window_of_the_picture_and_the_windows_wander(monkeypatch):
    monkeypatch.setattr(real_clips, "relight", lambda rng, image, strength: image)
    for name in ("TURN", "ZOOM", "GRAIN"):
        monkeypatch.setattr(real_clips, name, 0.0)
    noise = np.random.default_rng(1).integers(0, 255, (24, 24)).astype(np.uint8)
    grey = np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    wandered = []
    for seed in range(8):
        clip = real_clip(np.random.default_rng(seed), np.repeat(grey[..., None], 3, -1), SIZE, FRAMES)
        found = [window(grey, frame[..., 0]) for frame in clip]
        assert len({turns for turns, _ in found}) == 1
        places = np.array([place for _, place in found])
        steps = np.diff(places, axis=0)
        assert (np.abs(steps - steps.mean(0)) <= 2).all()  # at an even pace, but for a tremble
        wandered.append(np.abs(places[-1] - places[0]).max())
    assert SIDE * real_clips.PAN < max(wandered) <= SIDE * real_clips.PAN * 2 + 2


def window(picture: np.ndarray, frame: np.ndarray) -> tuple[int, tuple[int, int]]:
    """Which quarter turn of the picture the frame is cut of, and at which row and column."""
    best: tuple[float, int, tuple[int, int]] = (np.inf, 0, (0, 0))
    for turns in range(4):
        cut = np.lib.stride_tricks.sliding_window_view(np.rot90(picture, turns), frame.shape)[..., ::8, ::8]
        far = np.abs(cut.astype(float) - frame[::8, ::8]).mean((-2, -1))
        place = tuple(int(one) for one in np.unravel_index(far.argmin(), far.shape))
        best = min(best, (float(far.min()), turns, place))
    assert best[0] < 12  # grey values: half a pixel of a wave of eight
    return best[1:]


def test_real_clips_are_told_to_be_no_event(tmp_path, monkeypatch):
    real = tmp_path / "real"
    for number, one in enumerate(SCENE_CLASSES):
        (real / one.folder).mkdir(parents=True)
        Image.new("RGB", (40, 40), (30 * number,) * 3).save(real / one.folder / "a.jpg")
    for name in ("REAL_CLIPS", "REAL_PAIRS"):
        monkeypatch.setattr(tiny_mixture, name, 5)
    make_scenes(tmp_path / "world", {"video": 1}, 0, processes=1, quiet=True)
    mixture = Mixture(tmp_path / "world", Path(real), 0, tasks=("video",))
    rows = [row for row in mixture.rows() if row["kind"] == "real_video"]
    assert {row["row"] for row in rows} == set(range(5))
    told = set()
    for row in rows * 20:
        talk = mixture.talk("real_video", row["row"])
        assert talk.pixels == "pixel_values_videos"
        clip = next(item["video"] for item in talk.messages[0]["content"] if item["type"] == "video")
        assert (np.stack(clip) == mixture.pictures["real_video"][row["row"]]).all()
        told |= {turn["content"] for turn in talk.messages[1::2] if isinstance(turn["content"], str)}
    clues = {f"An aerial view of {one.noun}." for one in SCENE_CLASSES}
    assert "Non-event" in told
    assert told <= {"Non-event", "I cannot tell."} | clues

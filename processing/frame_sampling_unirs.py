"""Which frames of a clip, and which pictures of a dated sequence, the model sees."""

import numpy as np

from .image_loading_unirs import VisualInputError
from .prompts_unirs import MAX_FRAMES


def sample_frame_indices(frame_count: int, num_frames: int) -> list[int]:
    """Choose frames evenly, as the released reader does where its rule works.

    That rule is `int(linspace(0, frame_count - 2, num_frames))`: it never takes the last frame. Where it
    breaks (no more frames than wanted: it repeats frames, raises, or pads with black) every frame is taken
    once, so a short clip gives fewer frames and the prompt gets as many frame markers.

    Args:
        frame_count: Frames in the clip.
        num_frames: Frames wanted.

    Returns:
        Ascending indices, `min(frame_count, num_frames)` of them.

    Raises:
        VisualInputError: The clip has no frames, or none are wanted.
    """
    if frame_count < 1:
        raise VisualInputError("the clip has no frames; check the file")
    if num_frames < 1:
        raise VisualInputError(f"num_frames is {num_frames}; ask for 1 to {MAX_FRAMES} frames")
    if frame_count <= num_frames:
        return list(range(frame_count))
    return np.linspace(0, frame_count - 2, num_frames).astype(int).tolist()


class DatedSequence(list):
    """Pictures of several dates, which `load_video` chooses from by `sample_date_indices`, not as frames of a clip."""


def sample_date_indices(date_count: int, num_frames: int) -> list[int]:
    """Choose pictures of a dated sequence evenly, the first and the last always among them.

    The released rule for clips leaves the last frame out; of a sequence that is the newest date.

    Returns:
        Ascending indices, `min(date_count, num_frames)` of them.
    """
    if date_count <= num_frames or num_frames < 2:
        return sample_frame_indices(date_count, num_frames)
    return np.linspace(0, date_count - 1, num_frames).round().astype(int).tolist()

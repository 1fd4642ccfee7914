"""Clips to pixel tensors: frames are chosen, then treated as pictures."""

from collections.abc import Sequence

import torch
from transformers.feature_extraction_utils import BatchFeature
from transformers.processing_utils import VideosKwargs

from .image_processing_unirs import UniRSImageProcessor, check_rescaled
from .prompts_unirs import MAX_FRAMES
from .video_loading_unirs import load_video


class UniRSVideosKwargs(VideosKwargs, total=False):  # type: ignore[call-arg]
    image_aspect_ratio: str | None


class UniRSVideoProcessor(UniRSImageProcessor):
    r"""Prepares clips for UniRS.

    It is no sub-processor of its own in a saved folder (`AutoVideoProcessor` needs torchvision): `UniRSProcessor`
    makes it from its image processor's settings. transformers' base class of video processors needs torchvision too.

    Args:
        num_frames (`int`, defaults to 8): Frames taken from a clip, evenly spread; a shorter clip gives all it has.
    """

    model_input_names = ["pixel_values_videos"]  # noqa: RUF012

    def __init__(self, num_frames: int = 8, **kwargs):
        super().__init__(**kwargs)
        self.num_frames = num_frames

    def __call__(self, videos: Sequence, **kwargs) -> BatchFeature:
        return self.preprocess(videos, **kwargs)

    def preprocess(  # type: ignore[override]
        self, videos: Sequence, num_frames: int | None = None, **kwargs
    ) -> BatchFeature:
        """Reads and prepares clips.

        Args:
            videos: Paths, bytes, lists of pictures or arrays `(frames, height, width, 3)`, one for each clip.
            num_frames: Frames to take from each clip.

        Returns:
            `pixel_values_videos` of shape `(frames of all clips, 3, H, W)` and `frames_per_video`, a list.
        """
        if unknown := sorted(kwargs.keys() - UniRSVideosKwargs.__annotations__.keys()):
            raise TypeError(f"UniRSVideoProcessor has no option {', '.join(unknown)}")
        if kwargs.get("fps") is not None or kwargs.get("do_sample_frames") is False:
            raise ValueError(
                f"fps and do_sample_frames=False are not for UniRS, which spreads num_frames (at most {MAX_FRAMES}) "
                "evenly over a clip; give num_frames"
            )
        check_rescaled(videos, kwargs.get("do_rescale", self.do_rescale))
        kwargs["return_tensors"] = "pt"
        image_kwargs = {
            name: value for name, value in kwargs.items() if name in UniRSImageProcessor.valid_kwargs.__annotations__
        }
        pixels, frames_per_video = [], []
        for video in videos:
            frames = load_video(video, self.num_frames if num_frames is None else num_frames)
            frames_per_video.append(len(frames))
            # Clip by clip, so that only one is in memory as decoded pictures.
            pixels.append(super().preprocess(frames, **image_kwargs)["pixel_values"])
        return BatchFeature({"pixel_values_videos": torch.cat(pixels), "frames_per_video": frames_per_video})


__all__ = ["UniRSVideoProcessor"]

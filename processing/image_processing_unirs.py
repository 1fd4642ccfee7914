"""Pictures to pixel tensors: RGB, padded to a square with the mean colour, bicubic resize, normalised."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_backends import PilBackend
from transformers.image_utils import IMAGENET_STANDARD_MEAN, IMAGENET_STANDARD_STD, PILImageResampling
from transformers.processing_utils import ImagesKwargs

from .image_loading_unirs import load_image

try:  # torchvision may be installed and yet not import, where it was built for another torch
    import torchvision  # noqa: F401
    from transformers.image_processing_backends import TorchvisionBackend as Backend
except (ImportError, RuntimeError):
    Backend = PilBackend


LONGEST_PADDED = 8192  # pixels; the model sees a few hundred


class UniRSImagesKwargs(ImagesKwargs, total=False):  # type: ignore[call-arg]
    image_aspect_ratio: str | None


def pad_to_square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Centres a PIL image on a square of its longer side; the odd pixel goes right or below.

    A picture longer than `LONGEST_PADDED` is shrunk to that first: the square of a long strip would fill the memory.
    """
    if image.width == image.height:
        return image
    side = max(image.size)
    if side > LONGEST_PADDED:
        shrunk = [max(1, round(length * LONGEST_PADDED / side)) for length in image.size]
        image, side = image.resize((shrunk[0], shrunk[1]), Image.Resampling.BOX), LONGEST_PADDED
    canvas = Image.new("RGB", (side, side), colour)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def check_rescaled(pictures: Any, do_rescale: bool | None) -> None:
    """Floats become bytes when they are read, so unlike in transformers they do need to be rescaled."""
    if not do_rescale and _holds_floats(pictures):
        raise ValueError(
            "do_rescale=False was given with pictures of floats, which are read as bytes; leave it out: floats of "
            "0..1 give the same as bytes of 0..255"
        )


def _holds_floats(pictures: Any) -> bool:
    if isinstance(pictures, (list, tuple)):
        return any(map(_holds_floats, pictures))
    if isinstance(pictures, torch.Tensor):
        return pictures.is_floating_point()
    return isinstance(pictures, np.ndarray) and pictures.dtype.kind == "f"


class UniRSImageProcessor(Backend):
    r"""Prepares pictures for UniRS, with torchvision where it can be imported and with PIL otherwise.

    Args:
        image_aspect_ratio (`"pad"` or `"resize"`, defaults to `"pad"`):
            `"pad"` puts the picture on a square of the mean colour first, as the released training does;
            `"resize"` squashes it, as VILA-1.5 and the released evaluation of images and pairs do.
    """

    valid_kwargs = UniRSImagesKwargs
    resample = PILImageResampling.BICUBIC
    image_mean = IMAGENET_STANDARD_MEAN
    image_std = IMAGENET_STANDARD_STD
    size = {"height": 384, "width": 384}  # noqa: RUF012
    do_resize = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True
    image_aspect_ratio = "pad"
    model_input_names = ["pixel_values"]  # noqa: RUF012

    def fetch_images(self, image_url_or_urls):
        """Loads everything that is a picture into RGB; keeps the nesting."""
        if isinstance(image_url_or_urls, (list, tuple)):
            return [self.fetch_images(image) for image in image_url_or_urls]
        return load_image(image_url_or_urls)

    def preprocess(self, images, *args, **kwargs) -> BatchFeature:
        check_rescaled(images, kwargs.get("do_rescale", self.do_rescale))
        return super().preprocess(images, *args, **kwargs)

    def process_image(self, image, image_aspect_ratio=None, image_mean=None, **kwargs):
        image = load_image(image)
        if image_aspect_ratio == "pad":
            image = pad_to_square(image, tuple(int(255 * mean) for mean in image_mean))
        elif image_aspect_ratio != "resize":
            raise ValueError(f"image_aspect_ratio is {image_aspect_ratio!r}; 'pad' and 'resize' are allowed")
        return super().process_image(image, **kwargs)

    def _preprocess(self, images, image_aspect_ratio=None, **kwargs) -> BatchFeature:
        if Backend is not PilBackend or kwargs["do_pad"]:
            return super()._preprocess(images, **kwargs)
        # Pixels are bytes: transformers' own arithmetic for each of the 256, then looked up, is a tenth of the work.
        every_byte = np.arange(256, dtype=np.uint8).reshape(1, 1, 256).repeat(3, 0)  # a picture, (3, 1, 256)
        bytes_alone = {"do_resize": False, "do_center_crop": False, "return_tensors": None}
        (values,) = super()._preprocess([every_byte], **{**kwargs, **bytes_alone})["pixel_values"]
        as_bytes = {"do_rescale": False, "do_normalize": False, "return_tensors": None}
        resized = super()._preprocess(images, **{**kwargs, **as_bytes})["pixel_values"]  # uint8, (3, H, W) each
        pixels: np.ndarray | list[np.ndarray]
        if kwargs["return_tensors"] and len({image.shape for image in resized}) == 1:
            # one block, so that a tensor of it needs no copy
            pixels = np.empty((len(resized), *resized[0].shape), values.dtype)
        else:
            pixels = [np.empty(image.shape, values.dtype) for image in resized]
        for image, filled in zip(resized, pixels, strict=True):
            for channel in range(3):
                np.take(values[channel, 0], image[channel], out=filled[channel], mode="clip")
        return BatchFeature({"pixel_values": pixels}, tensor_type=kwargs["return_tensors"])


__all__ = ["UniRSImageProcessor"]

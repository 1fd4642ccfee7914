"""What is kept of pictures: features as the model gives them, each looked at once, within a limit."""

import pytest
import torch
from unirs.evaluation.seen_pictures import SeenPictures, digests


class Core:
    """Features are sums that tell pictures apart; counts what is looked at."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self):
        self.looks = []

    def get_image_features(self, pixels):  # (n, 3, H, W)
        self.looks.append(len(pixels))
        return pixels.flatten(1).sum(1)[:, None, None].expand(-1, 4, 2).contiguous()

    def get_change_features(self, pixels):  # (n, 2, 3, H, W)
        self.looks.append(len(pixels))
        return (pixels[:, 1] - 2 * pixels[:, 0]).flatten(1).sum(1)[:, None, None].expand(-1, 4, 2).contiguous()


KIB = 1024  # bytes; a feature of `Core` has 32


def pixels(*seeds):
    return torch.stack([torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def features(seen, **given):
    return seen.features(given, digests(given))


def test_features_stand_for_the_pixels_of_their_kind_in_order():
    seen, core = SeenPictures(Core(), KIB), Core()
    images, frames, pairs = pixels(1, 2), pixels(3, 1, 4), pixels(5, 6, 6, 5).unflatten(0, (2, 2))
    found = features(seen, pixel_values=images, pixel_values_videos=frames, pixel_values_pairs=pairs)
    assert found.keys() == {"image_features", "video_features", "change_features"}
    torch.testing.assert_close(found["image_features"], core.get_image_features(images))
    torch.testing.assert_close(found["video_features"], core.get_image_features(frames))
    torch.testing.assert_close(found["change_features"], core.get_change_features(pairs))


def test_a_picture_is_looked_at_once_alone_or_as_a_frame():
    seen = SeenPictures(Core(), KIB)
    first = features(seen, pixel_values=pixels(1, 2, 1))
    again = features(seen, pixel_values=pixels(2), pixel_values_videos=pixels(1, 3))
    assert seen.core.looks == [2, 1]
    assert torch.equal(first["image_features"][1], again["image_features"][0])
    assert torch.equal(first["image_features"][0], again["video_features"][0])


def test_a_pair_is_its_order_and_no_picture_of_it():
    seen = SeenPictures(Core(), KIB)
    there, back = pixels(1, 2)[None], pixels(2, 1)[None]
    assert not torch.equal(*(features(seen, pixel_values_pairs=one)["change_features"] for one in (there, back)))
    features(seen, pixel_values=pixels(1))
    assert seen.core.looks == [1, 1, 1]


def test_pictures_of_one_content_and_another_shape_or_type_differ():
    zeros = [torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 2, 8), torch.zeros(1, 3, 4, 4, dtype=torch.int32)]
    assert len({digests({"pixel_values": one})["pixel_values"][0] for one in zeros}) == 3


def test_the_longest_unused_is_forgotten_first():
    seen = SeenPictures(Core(), 3 * 32)
    for seed in (1, 2, 3, 1, 4):  # 2 has to go
        features(seen, pixel_values=pixels(seed))
    assert seen.bytes == 3 * 32
    seen.core.looks.clear()
    for seed in (1, 3, 4):
        features(seen, pixel_values=pixels(seed))
    assert seen.core.looks == []
    features(seen, pixel_values=pixels(2))
    assert seen.core.looks == [1]


@pytest.mark.parametrize("limit", [0, 31])
def test_more_than_there_is_room_for_is_answered_and_not_kept(limit):
    seen = SeenPictures(Core(), limit)
    for _ in range(2):
        found = features(seen, pixel_values=pixels(1, 2))["image_features"]
        torch.testing.assert_close(found, Core().get_image_features(pixels(1, 2)))
    assert seen.core.looks == [2, 2]
    assert seen.bytes == 0


def test_what_is_kept_holds_no_batch():
    """A view of a batch's features would keep all of them, uncounted."""
    seen = SeenPictures(Core(), KIB)
    features(seen, pixel_values=pixels(*range(8)))
    assert all(one.untyped_storage().nbytes() == 32 for one in seen._kept.values())


def test_words_alone_have_nothing_to_look_at():
    seen = SeenPictures(Core(), KIB)
    assert features(seen, input_ids=torch.ones(1, 3)) == {}

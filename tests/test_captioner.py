"""The captioner of stage 1: its words, what it may see, what it is taught."""

import pytest
import torch
from unirs.trainers.captioner import END, PAD, START, UNKNOWN, ChangeCaptioner, Vocabulary


@pytest.fixture
def captioner():
    torch.manual_seed(0)
    return ChangeCaptioner(dim=16, words=12, longest=6, heads=4, dropout=0.0).eval()


def test_words_are_those_that_come_often_enough():
    vocabulary = Vocabulary.of_captions(["a road is built", "A road", "the road"], min_count=2)
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "a", "road")
    assert vocabulary.encode("a new road", 5) == [START, 4, UNKNOWN, 5, END]
    assert vocabulary.encode("a road a road", 3) == [START, 4, 5, 4]  # cut, so it has no end to learn
    assert vocabulary.decode([START, 4, 5, END, 4, PAD]) == "a road"


def test_a_saved_vocabulary_is_the_same(tmp_path):
    vocabulary = Vocabulary.of_captions(["a road"], min_count=1)
    vocabulary.save(tmp_path / "v.json")
    assert Vocabulary.load(tmp_path / "v.json").words == vocabulary.words


def test_later_words_do_not_change_what_is_said_before(captioner):
    features = torch.randn(1, 9, 16)
    words = torch.tensor([[START, 5, 6, 7]])
    other = torch.tensor([[START, 5, 8, 9]])
    first, second = captioner(features, words), captioner(features, other)
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2:], second[:, 2:])


def test_padding_changes_neither_logits_nor_loss(captioner):
    features = torch.randn(1, 9, 16)
    words = torch.tensor([[START, 5, 6, END]])
    padded = torch.tensor([[START, 5, 6, END, PAD, PAD]])
    torch.testing.assert_close(captioner(features, padded)[:, :4], captioner(features, words))
    torch.testing.assert_close(captioner.loss(features, padded), captioner.loss(features, words))


def test_the_loss_is_the_mean_over_words_and_the_end(captioner):
    features, words = torch.randn(2, 9, 16), torch.tensor([[START, 5, 6, END], [START, 7, END, PAD]])
    said = captioner(features, words[:, :-1]).log_softmax(-1)
    true = [(0, 0, 5), (0, 1, 6), (0, 2, END), (1, 0, 7), (1, 1, END)]
    expected = -torch.stack([said[place] for place in true]).mean()
    torch.testing.assert_close(captioner.loss(features, words), expected)


def test_greedy_captions_are_what_the_logits_say_and_no_special_word(captioner):
    features = torch.randn(3, 9, 16)
    said = captioner.caption(features)
    assert said.shape == (3, 6)
    for row in range(3):
        words = [START]
        for place in range(6):
            logits = captioner(features[row : row + 1], torch.tensor([words]))[0, -1]
            logits[[PAD, START, UNKNOWN]] = -torch.inf
            words.append(int(logits.argmax()))
            assert said[row, place] == words[-1]
            if words[-1] == END:
                assert (said[row, place + 1 :] == PAD).all()
                break


def test_a_caption_that_is_too_long_is_refused(captioner):
    with pytest.raises(ValueError, match="a caption of 7 words"):
        captioner(torch.randn(1, 9, 16), torch.full((1, 8), 5))

"""What a listener is trained on: batches as a stream has them, and the loss of clips, silence and talk."""

import numpy as np
import pytest
import torch
from exported import listener_network
from torch.nn import functional

from kws_demo.data import Clips, SpeechData
from kws_demo.train import BATCH, TALK, TALK_ROWS, Speech, listener_loss


def data(talk: np.ndarray, recorded: bool = False) -> SpeechData:
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((BATCH, 16_000))).astype(np.float32)
    clips = Clips(audio, np.arange(BATCH) % 4, tuple(str(one) for one in range(BATCH)), np.full(BATCH, recorded))
    return SpeechData(("_silence_", "_unknown_", "a", "b"), clips, clips, clips, (), (), {}, talk)


def first_batch(talk: np.ndarray, recorded: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    return next(iter(Speech(data(talk, recorded), listener_network(2).stem, 3200, seed=0).training(0)))


def test_talk_is_in_every_part_of_a_batch() -> None:
    talk = (0.1 * np.random.default_rng(1).standard_normal(5 * 16_000)).astype(np.float32)
    features, labels = first_batch(talk)
    assert len(features) == len(labels) == BATCH + TALK_ROWS
    assert all((part == TALK).any() and (part != TALK).any() for part in labels.chunk(4))
    assert all(torch.equal(*pair) for pair in zip(first_batch(talk), (features, labels), strict=True))


def test_some_recorded_keywords_of_a_batch_are_made_unknown_words() -> None:
    spoken, recorded = (first_batch(np.zeros(0), kind)[1].bincount(minlength=4).tolist() for kind in (False, True))
    assert recorded[1] > spoken[1] and recorded[2] < spoken[2] and recorded[3] < spoken[3]
    assert recorded[0] == spoken[0]


def test_validation_clips_that_are_stored_label_by_label_are_spliced_among_all_labels() -> None:
    count = 3 * BATCH
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((count, 16_000))).astype(np.float32)
    clips = Clips(audio, np.arange(count) * 4 // count, tuple(map(str, range(count))), np.ones(count, bool))
    known = SpeechData(("_silence_", "_unknown_", "on", "up"), clips, clips, clips, (), (), {})
    network = listener_network(2)
    speech = Speech(known, network.stem, 3200, seed=0)
    plain, spliced = (
        torch.cat([labels for _logits, labels in speech.heard(network, splices)]).bincount(minlength=4).tolist()
        for splices in (False, True)
    )
    assert plain == [count // 2] * 4 and sum(spliced) == spliced[1]
    # A quarter of the keywords are drawn, and two of three partners are of another label.
    assert count / 4 * 2 / 3 * 0.7 < spliced[1] < count / 4 * 2 / 3 * 1.3


@pytest.mark.parametrize("seconds", [0, 1])
def test_without_enough_talk_there_are_clips_only(seconds: int) -> None:
    features, labels = first_batch(np.ones(16_000 * seconds, np.float32))
    assert len(features) == len(labels) == BATCH and (labels >= 0).all()


def test_the_loss_of_clips_is_cross_entropy_at_the_end_and_of_silence_before() -> None:
    logits = torch.randn(6, 8, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 3, 1, 2, 3, 1])
    expected = functional.cross_entropy(logits[:, -1], labels)
    expected += 0.2 * functional.cross_entropy(logits[:, :2].reshape(-1, 4), torch.zeros(12, dtype=torch.long))
    assert torch.allclose(listener_loss(logits, labels, 2), expected)


def test_in_talk_any_answer_but_a_keyword_is_right_at_every_hop() -> None:
    logits = torch.randn(5, 8, 4, generator=torch.Generator().manual_seed(0))
    talk = torch.full((5,), TALK)
    chance = logits.softmax(-1)
    assert torch.allclose(listener_loss(logits, talk, 2), -(1 - chance[..., 2:].sum(-1)).log().mean())
    unmoved = logits + torch.tensor([1.0, 1.0, 0.0, 0.0])
    swapped = unmoved[..., [1, 0, 2, 3]]
    assert torch.allclose(listener_loss(unmoved, talk, 2), listener_loss(swapped, talk, 2))


def test_talk_does_not_change_the_loss_of_the_clips() -> None:
    generator = torch.Generator().manual_seed(1)
    clips, talk = torch.randn(6, 8, 4, generator=generator), torch.randn(3, 8, 4, generator=generator)
    labels, talking = torch.tensor([0, 1, 2, 3, 2, 0]), torch.full((3,), TALK)
    together = listener_loss(torch.cat([clips, talk]), torch.cat([labels, talking]), 2)
    assert torch.allclose(together, listener_loss(clips, labels, 2) + listener_loss(talk, talking, 2))

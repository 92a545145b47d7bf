"""Streams with a word: labelled as said, at the stated noise ratio, the same whenever asked for, padded at the end."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from word_clips import LABELS, RATE_HZ, extent, power_db, word_data

from kws_demo.streams import Mixture, StreamBatch, Streams, Word, hop_labels
from kws_demo.voices import chances
from toolkit.errors import MilliwiseError
from toolkit.strategies.sanas import IGNORED

torch.set_num_threads(1)
HOP = 3200
KINDS = [0] * 6 + [1] * 6 + [2] * 12 + [3] * 12
CLEAN = (100.0, 100.0)  # dB: noise that is not heard
CONTINUOUS = Mixture(seconds=(3.0, 6.0), words=(1, 3), snr_db=CLEAN)


def equal(one: StreamBatch, other: StreamBatch) -> bool:
    return torch.equal(one.audio, other.audio) and one.words == other.words and one.speakers == other.speakers


def hops_of(batch: StreamBatch) -> list[int]:
    return (batch.labels != IGNORED).sum(1).tolist()


def masked(words: list[Word], hops: int, hop: int) -> tuple[list[int], list[float]]:
    """Labels and shares by counting samples, one at a time."""
    owner = np.full(hops * hop + RATE_HZ, -1)  # a second of nothing comes first
    for place, word in enumerate(words):
        owner[RATE_HZ + word.start : RATE_HZ + word.stop] = place
    labels, shares = [], []
    for number in range(1, hops + 1):
        window = owner[number * hop : number * hop + RATE_HZ]
        inside = [place for place in range(len(words)) if 2 * np.sum(window == place) > np.sum(owner == place)]
        labels.append(words[max(inside, key=lambda place: words[place].start)].label if inside else 0)
        shares.append(np.mean(window >= 0))
    return labels, shares


@st.composite
def spoken(draw: st.DrawFn) -> tuple[list[Word], int, int]:
    hop, hops = draw(st.sampled_from([160, 640, 3200, 5000])), draw(st.integers(4, 30))
    cuts = sorted(draw(st.lists(st.integers(0, hop * hops), max_size=8, unique=True)))
    words = [Word(draw(st.integers(1, 3)), *cuts[place : place + 2]) for place in range(0, len(cuts) - 1, 2)]
    return draw(st.permutations(words)), hops, hop


@given(spoken())
def test_a_hop_is_labelled_with_the_last_word_of_which_more_than_half_is_in_its_second(
    stream: tuple[list[Word], int, int],
) -> None:
    labels, share = hop_labels(*stream)
    expected_labels, expected_share = masked(*stream)
    assert labels.dtype == np.int64 and labels.tolist() == expected_labels
    assert share.dtype == np.float32 and np.allclose(share, expected_share, atol=1e-6)


def test_exactly_half_a_word_is_not_enough() -> None:
    assert hop_labels([Word(2, 2200, 4200)], 2, HOP)[0].tolist() == [0, 2]
    assert hop_labels([Word(2, 2198, 4200)], 2, HOP)[0].tolist() == [2, 2]


@pytest.mark.parametrize("mixture", [Mixture(snr_db=CLEAN), CONTINUOUS])
def test_the_words_are_where_they_are_said_to_be(mixture: Mixture) -> None:
    data = word_data(KINDS)
    seen = 0
    for batch in Streams(data, "validation", HOP, 0, mixture).batches(0):
        for audio, hops, words, speaker in zip(
            batch.audio.numpy(), hops_of(batch), batch.words, batch.speakers, strict=True
        ):
            own = audio[: hops * HOP]
            assert mixture.seconds[0] <= len(own) / RATE_HZ <= mixture.seconds[1] + HOP / RATE_HZ
            heard = np.abs(own) > 1e-3
            inside = np.zeros_like(heard)
            for word in words:
                assert 0 <= word.start < word.stop <= len(own) and not inside[word.start : word.stop].any()
                inside[max(0, word.start - 100) : word.stop + 100] = True  # energy is that of frames of 6 ms
                seen += 1
            assert not (heard & ~inside).any()
            if words:  # the first is a clip, to the sample
                clip = data.validation.audio[int(speaker)]
                assert words[0].label == data.validation.label[int(speaker)]
                start, stop = extent(clip)
                found = extent(np.where(np.abs(own[words[0].start : words[0].stop]) > 1e-5, 1, 0))
                begin = words[0].start + found[0] - np.flatnonzero(np.abs(clip[start:]) > 1e-5)[0]
                assert np.allclose(own[begin : begin + stop - start], clip[start:stop], atol=2e-5)
            else:
                assert speaker == "" and not heard.any()
    assert seen > 20


def test_the_labels_are_those_of_the_words() -> None:
    for batch in Streams(word_data(KINDS), "validation", HOP, 0, CONTINUOUS).batches(0):
        for labels, share, hops, words in zip(batch.labels, batch.share, hops_of(batch), batch.words, strict=True):
            expected_labels, expected_share = masked(list(words), hops, HOP)
            assert labels[:hops].tolist() == expected_labels
            assert np.allclose(share[:hops], expected_share, atol=1e-6)


@pytest.mark.parametrize("snr_db", [5.0, 20.0])
def test_the_signal_to_noise_ratio_is_the_stated_one(snr_db: float) -> None:
    data = word_data(KINDS)
    noisy, clean = (
        list(Streams(data, "test", HOP, 0, Mixture(snr_db=(level, level))).batches(0)) for level in (snr_db, 100.0)
    )
    checked = 0
    for one, other in zip(noisy, clean, strict=True):
        for heard, word_alone, hops, words in zip(one.audio, other.audio, hops_of(one), one.words, strict=True):
            noise, alone = (heard - word_alone)[: hops * HOP].numpy(), word_alone.numpy()
            if words and heard.abs().max() < 1:
                start, stop = extent(np.abs(alone) > 1e-3)
                assert abs(power_db(alone[start:stop]) - power_db(noise) - snr_db) < 0.5
                checked += 1
    assert checked > 20


def test_all_words_of_a_stream_are_equally_loud() -> None:
    [batch] = Streams(word_data(KINDS), "validation", HOP, 0, CONTINUOUS).batches(0)
    for audio, words in zip(batch.audio.numpy(), batch.words, strict=True):
        levels = [power_db(audio[word.start : word.stop]) for word in words]
        assert not levels or max(levels) - min(levels) < 0.1
    assert {len(words) for words in batch.words} == {0, 1, 2, 3}


def test_a_batch_is_the_same_whenever_it_is_asked_for() -> None:
    data = word_data(KINDS)
    one, other = (Streams(data, "train", HOP, 5, batch_size=16) for _ in range(2))
    first = list(one.batches(0))
    assert len(first) > 1
    together = list(zip(other.batches(0), other.batches(1), strict=True))  # one beside the other disturbs neither
    assert all(equal(*pair) for pair in zip(first, [pair[0] for pair in together], strict=True))
    assert not equal(first[0], together[0][1])
    assert not equal(first[0], next(Streams(data, "train", HOP, 6, batch_size=16).batches(0)))


def test_frozen_streams_are_all_clips_in_order_whatever_the_seed() -> None:
    data = word_data(KINDS)
    first, again = (list(Streams(data, "test", HOP, seed, batch_size=16).frozen()) for seed in (0, 9))
    assert all(equal(*pair) for pair in zip(first, again, strict=True))
    speakers = [speaker for batch in first for speaker in batch.speakers]
    assert speakers == ["" if label == 0 else str(place) for place, label in enumerate(KINDS)]
    labels = [words[0].label if words else 0 for batch in first for words in batch.words]
    assert labels == KINDS


def test_fewer_or_more_frozen_streams() -> None:
    streams = Streams(word_data(KINDS), "train", HOP, 0)
    few = [words[0].label if words else 0 for batch in streams.frozen(12) for words in batch.words]
    assert Counter(few) == {0: 2, 1: 2, 2: 4, 3: 4}
    audio = torch.cat([batch.audio[:, :RATE_HZ] for batch in streams.frozen(2 * len(KINDS))])
    assert len(audio) == 2 * len(KINDS) and not torch.equal(audio[: len(KINDS)], audio[len(KINDS) :])


def test_frozen_streams_are_not_augmented() -> None:
    data = word_data(KINDS)
    trained, tested = (next(Streams(data, part, HOP, 0).frozen()) for part in ("train", "test"))
    assert equal(trained, tested)


def test_padding_is_at_the_end_and_ignored() -> None:
    [batch] = Streams(word_data(KINDS), "train", HOP, 0).batches(0)
    assert batch.audio.dtype == torch.float32 and batch.audio.shape == (30, batch.labels.shape[1] * HOP)
    assert batch.labels.dtype == torch.int64 and batch.share.dtype == torch.float32
    hops = hops_of(batch)
    assert min(hops) < max(hops) == batch.labels.shape[1] and batch.audio.abs().max() <= 1
    for audio, labels, share, own in zip(batch.audio, batch.labels, batch.share, hops, strict=True):
        assert (labels[:own] != IGNORED).all() and (labels[own:] == IGNORED).all()
        assert not audio[own * HOP :].any() and not share[own:].any() and audio[(own - 1) * HOP : own * HOP].any()


def test_labels_are_drawn_for_the_stated_shares() -> None:
    data = word_data([0] * 5 + [1] * 300 + [2] * 100 + [3] * 400)
    mixture = Mixture(seconds=(1.0, 1.0), unknown_share=0.2, silence_share=0.1)
    batches = list(Streams(data, "validation", HOP, 0, mixture).batches(0))
    found = Counter(words[0].label if words else 0 for batch in batches for words in batch.words)
    total = sum(found.values())
    assert total == round(500 / 0.7)
    for label, share in enumerate((0.1, 0.2, 0.35, 0.35)):
        assert abs(found[label] / total - share) < 0.06  # four standard errors


def test_chances_of_clips() -> None:
    found = chances(np.array([0, 1, 1, 2, 3, 3]), 0.2, 0.1)
    assert np.allclose(found, [0.1, 0.1, 0.1, 0.35, 0.175, 0.175])
    assert np.allclose(chances(np.array([2, 3]), 0.1, 0.1), 0.5)
    with pytest.raises(MilliwiseError, match="none of the 2 clips"):
        chances(np.array([0, 0]), 0.1, 0.0)


def test_training_streams_sound_different_each_time() -> None:
    data = word_data([2] * 40)
    [plain] = Streams(data, "validation", HOP, 0, Mixture(snr_db=CLEAN)).batches(0)
    [heard] = Streams(data, "train", HOP, 0, Mixture(snr_db=CLEAN)).batches(0)
    lengths = np.array([[words[0].stop - words[0].start for words in batch.words] for batch in (plain, heard)])
    assert plain.speakers == heard.speakers and (lengths[0] != lengths[1]).sum() > 10
    quieter = heard.audio.square().sum(1) / plain.audio.square().sum(1)
    assert quieter.min() < 0.1 and quieter.max() > 1.5


def test_talk_is_unknown_and_for_training_only() -> None:
    talk = np.tile(np.r_[0.1 * np.sin(np.arange(16_000)), np.zeros(32_000)], 5).astype(np.float32)
    data = word_data(KINDS, talk=talk)
    mixture = Mixture(seconds=(2.0, 3.0), snr_db=CLEAN, talk_share=0.5)
    [batch] = Streams(data, "train", HOP, 0, mixture, augmented=False, batch_size=200).batches(0)
    talked = [place for place, words in enumerate(batch.words) if words and batch.speakers[place] == ""]
    assert 0.3 < len(talked) / len(batch.words) < 0.6  # some of it is a pause
    for place in talked:
        labels, hops = batch.labels[place], hops_of(batch)[place]
        assert set(labels[:hops].tolist()) <= {0, 1} and (labels == 1).any()
        spoken = batch.audio[place, : hops * HOP].abs() > 0.05
        words = batch.words[place]
        assert all(spoken[word.start : word.stop].any() for word in words)
        assert sum(int(spoken[word.start : word.stop].sum()) for word in words) == int(spoken.sum())
    assert all(words or speaker == "" for words, speaker in zip(batch.words, batch.speakers, strict=True))
    [others] = Streams(data, "test", HOP, 0, mixture, batch_size=200).batches(0)
    assert all(speaker for words, speaker in zip(others.words, others.speakers, strict=True) if words)


def test_the_test_part_has_noise_of_its_own() -> None:
    tones = [np.sin(2 * np.pi * hz * np.arange(48_000) / RATE_HZ).astype(np.float32) for hz in (1000, 3000)]
    data = word_data(KINDS, (tones[0],), (tones[1],))
    for part, hz in (("train", 1000), ("validation", 1000), ("test", 3000)):
        mixture = Mixture(seconds=(1.0, 1.0), snr_db=(-30.0, -30.0), recorded_share=1)
        [batch] = Streams(data, part, HOP, 0, mixture, augmented=False).batches(0)
        assert (torch.fft.rfft(batch.audio).abs().argmax(1) == hz).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"seconds": (0.5, 1.0)}, "streams of"),
        ({"seconds": (2.0, 1.0)}, "streams of"),
        ({"seconds": (1.0, float("nan"))}, "streams of"),
        ({"words": (0, 1)}, "words in a stream"),
        ({"words": (3, 2)}, "words in a stream"),
        ({"snr_db": (30.0, 5.0)}, "signal-to-noise"),
        ({"unknown_share": 0.6, "silence_share": 0.5}, "shares of"),
        ({"talk_share": -0.1}, "shares of"),
    ],
)
def test_what_cannot_be_mixed_is_refused(values: dict, message: str) -> None:
    with pytest.raises(MilliwiseError, match=message):
        Mixture(**values)


def test_a_part_that_is_not_there_is_refused() -> None:
    with pytest.raises(MilliwiseError, match="give a part of train, validation, test"):
        Streams(word_data(KINDS), "dev", HOP, 0)
    with pytest.raises(MilliwiseError, match="1 sample or more"):
        Streams(word_data(KINDS), "train", 0, 0)


@pytest.mark.parametrize("hop", [640, 1000, 16_000, 24_000])
def test_other_hops(hop: int) -> None:
    [batch] = Streams(word_data(KINDS), "train", hop, 0).batches(0)
    assert batch.audio.shape[1] == batch.labels.shape[1] * hop
    assert LABELS[max(batch.labels.unique().tolist())] == "no"

"""Long streams: words at the stated times, as often, as loud and as far apart as stated, and a word after idle time."""

import numpy as np
import pytest
import torch
from word_clips import LABELS, RATE_HZ, extent, power_db, word_clips

from kws_demo.long_streams import LongStream, idle_then_word, long_stream
from toolkit.errors import MilliwiseError

torch.set_num_threads(1)
CLIPS = word_clips([0] * 4 + [1] * 10 + [2] * 10 + [3] * 20)
NOISE = (0.1 * np.random.default_rng(0).standard_normal(100_000)).astype(np.float32)


def stream(seconds: float, share: float, seed: int = 0, snr_db: tuple[float, float] = (5.0, 20.0)) -> LongStream:
    return long_stream(CLIPS, LABELS, (NOISE,), seconds, share, seed, snr_db)


def spans(found: LongStream) -> list[tuple[int, int]]:
    return [(round(truth.start_ms * 16), round((truth.end_ms or 0) * 16)) for truth in found.truths]


@pytest.mark.parametrize(("seconds", "share"), [(60.0, 0.05), (60.0, 0.2), (8.3, 0.05), (200.0, 0.01)])
def test_words_are_apart_in_order_and_make_up_the_stated_share(seconds: float, share: float) -> None:
    found = stream(seconds, share)
    starts = np.array([truth.start_ms for truth in found.truths])
    assert found.audio.shape == (round(seconds * RATE_HZ),) == (found.samples,)
    assert starts[0] >= 1000 and starts[-1] <= seconds * 1000 - 2000
    assert (np.diff(starts) >= 1200).all()
    spoken = sum(stop - start for start, stop in spans(found))
    assert abs(spoken - share * found.samples) <= 8200  # a word
    assert len(found.speakers) == len(found.truths)
    assert all(
        LABELS[CLIPS.label[int(who)]] == truth.word for who, truth in zip(found.speakers, found.truths, strict=True)
    )


def test_words_are_unknown_for_the_stated_share() -> None:
    words = [truth.word for truth in long_stream(CLIPS, LABELS, (), 600, 0.15, 1, unknown_share=0.3).truths]
    assert len(words) > 200 and abs(words.count("_unknown_") / len(words) - 0.3) < 0.12
    assert abs(words.count("yes") / len(words) - 0.35) < 0.12 and "_silence_" not in words
    assert {truth.word for truth in long_stream(CLIPS, LABELS, (), 60, 0.1, 0, unknown_share=0).truths} == {"yes", "no"}


@pytest.mark.parametrize("snr_db", [(5.0, 20.0), (0.0, 0.0)])
def test_words_are_where_and_as_loud_as_stated(snr_db: tuple[float, float]) -> None:
    found, noise = stream(120, 0.1, snr_db=snr_db), stream(120, 0, snr_db=snr_db).audio
    alone = found.audio - noise
    assert abs(power_db(noise) - 20 * np.log10(found.noise_rms)) < 0.5
    rest, ratios_db = alone.copy(), []
    for (start, stop), who in zip(spans(found), found.speakers, strict=True):
        clip = CLIPS.audio[int(who)]
        first, past = extent(clip)
        assert abs((stop - start) - (past - first)) <= 200  # frames of 6 ms at either end
        near = range(start - 100, start + 101)  # bounds are those of frames of 6 ms
        assert max(np.corrcoef(alone[at : at + past - first], clip[first:past])[0, 1] for at in near) > 0.999
        ratios_db.append(power_db(alone[start:stop]) - power_db(noise))
        rest[start - 100 : stop + 100] = 0
    assert np.abs(rest).max() < 1e-5
    assert snr_db[0] - 0.5 < min(ratios_db) and max(ratios_db) < snr_db[1] + 0.5
    assert max(ratios_db) - min(ratios_db) > 0.6 * (snr_db[1] - snr_db[0])


def test_one_seed_gives_one_stream_and_its_blocks_are_it() -> None:
    found = stream(45.5, 0.1)
    assert np.array_equal(found.audio, stream(45.5, 0.1).audio) and found.truths == stream(45.5, 0.1).truths
    assert not np.array_equal(found.audio, stream(45.5, 0.1, seed=1).audio)
    blocks = list(found.blocks())
    assert np.array_equal(np.concatenate(blocks), found.audio) and max(map(len, blocks)) == 160_000
    assert found.audio.dtype == np.float32 and np.abs(found.audio).max() <= 1


@pytest.fixture(scope="module")
def later() -> LongStream:
    return idle_then_word(CLIPS, LABELS, (NOISE,), 610, clip=21, seed=3, snr_db=20)


@pytest.mark.parametrize("idle_s", [0, 0.01, 1, 9.9, 10, 60, 600])
def test_a_word_after_idle_time_starts_when_stated(idle_s: float, later: LongStream) -> None:
    found = idle_then_word(CLIPS, LABELS, (NOISE,), idle_s, clip=20, seed=3, snr_db=20)
    assert [(truth.word, truth.start_ms) for truth in found.truths] == [
        ("yes" if CLIPS.label[20] == 2 else "no", idle_s * 1000)
    ]
    assert found.samples == round((idle_s + 2) * RATE_HZ) == len(found.audio)
    noise = later.audio[: found.samples]
    alone = found.audio - noise  # the same noise, whenever the word comes
    [(start, stop)] = spans(found)
    assert not alone[:start].any() and not alone[stop:].any()
    first, past = extent(CLIPS.audio[20])
    heard = alone[start + first % 100 :][: past - first]
    assert np.corrcoef(heard, CLIPS.audio[20][first:past])[0, 1] > 0.999


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 0.05, 0), "a stream of 0 s"),
        ((float("nan"), 0.05, 0), "a stream of nan s"),
        ((60, 1.5, 0), "speech for 1.5"),
        ((60, 0.9, 0), "words or more, and 48 fit in"),
        ((2, 0.2, 0), "1 words or more, and 0 fit in"),
        ((60, 0.05, -1), "seed -1"),
        ((60, 0.05, 0, (20.0, 5.0)), "signal-to-noise"),
    ],
)
def test_what_does_not_fit_is_refused(values: tuple, message: str) -> None:
    with pytest.raises(MilliwiseError, match=message):
        stream(*values)


@pytest.mark.parametrize(
    ("idle_s", "clip", "message"), [(-1, 20, "after -1 s"), (1, 0, "clip 0 of 44 is no word"), (1, 44, "clip 44 of 44")]
)
def test_a_word_that_cannot_be_heard_is_refused(idle_s: float, clip: int, message: str) -> None:
    with pytest.raises(MilliwiseError, match=message):
        idle_then_word(CLIPS, LABELS, (), idle_s, clip, 0)


def test_no_words_at_all() -> None:
    found = stream(3, 0)
    assert found.truths == [] and abs(power_db(found.audio) - 20 * np.log10(found.noise_rms)) < 1

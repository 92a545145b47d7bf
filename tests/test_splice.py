"""Unknown words made of two: which clips change, what they are made of, and that the cut is not heard."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kws_demo.data import Clips
from kws_demo.splice import MOST_GAIN, SHARE, alike, said_alone, spliced

torch.set_num_threads(1)
START, END, SAMPLES = 4000, 12_000, 16_000
LOWEST, STEP = 200, 20  # Hz
APART = ~torch.eye(4, dtype=torch.bool)  # any two labels


def tones(count: int, level: float = 0.2) -> Tensor:
    """Clips with a word that is a tone, each of another pitch, between silences."""
    time = torch.arange(SAMPLES) / SAMPLES
    pitch = LOWEST + STEP * torch.arange(count)
    clips = level * torch.sin(2 * torch.pi * pitch[:, None] * time)
    clips[:, :START] = clips[:, END:] = 0
    return clips


def clip_of(sound: Tensor) -> int:
    """Of the clips of `tones`, the one that this is of."""
    spectrum = torch.fft.rfft(sound * torch.hann_window(len(sound)), SAMPLES).abs()
    return round((int(spectrum.argmax()) - LOWEST) / STEP)


def word(clip: Tensor) -> Tensor:
    sounding = torch.nonzero(clip.abs() > 0.01).flatten()
    return clip[sounding[0] : sounding[-1] + 1]


def make(labels: Tensor, seed: int = 0, clips: Tensor | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return spliced(tones(len(labels)) if clips is None else clips, labels, labels > 1, APART, generator)


def test_a_share_of_the_keywords_become_unknown_words_and_nothing_else_changes() -> None:
    labels = torch.arange(240) % 4
    clips = tones(240)
    made, given = make(labels, clips=clips)
    changed = given != labels
    assert torch.equal(clips, tones(240)) and torch.equal(labels, torch.arange(240) % 4)  # the input is left as it is
    assert (labels[changed] >= 2).all() and (given[changed] == 1).all()
    # Two of three partners are of another label, and of 120 keywords a share are drawn.
    assert SHARE * 120 / 3 < int(changed.sum()) < SHARE * 120
    assert torch.equal(made[~changed], clips[~changed]) and made.abs().max() <= 1
    assert all(map(torch.equal, make(labels), (made, given)))
    assert not torch.equal(make(labels, seed=1)[1], given)


def test_each_begins_as_one_word_and_ends_as_another_of_another_label() -> None:
    labels = torch.arange(240) % 4
    made, given = make(labels)
    own_place = set()
    for row in torch.nonzero(given != labels).flatten().tolist():
        sound = word(made[row])
        quarter = 2000
        parts = [clip_of(sound[:quarter]), clip_of(sound[-quarter:])]
        assert row in parts
        own_place.add(parts.index(row))
        other = parts[1 - parts.index(row)]
        assert labels[other] != labels[row] and labels[other] != 0
        assert 0.55 * 8000 < len(sound) < 1.45 * 8000
    assert own_place == {0, 1}


def test_only_recordings_of_people_who_say_nothing_else_change() -> None:
    speakers = ("anna", "ben", "cleo", "espeak")
    label = np.array([2, 3, 2, 3, 1, 0, 2, 3])
    speaker = ("anna", "anna", "ben", "ben", "ben", "silence", "espeak", "cleo")
    clips = Clips(
        np.zeros((8, SAMPLES), np.float32), label, speaker, np.array([each in speakers[:3] for each in speaker])
    )
    assert said_alone(clips).tolist() == [True, True, False, False, False, False, False, True]
    labels, alone = 2 + torch.arange(240) % 2, torch.arange(240) % 3 == 0
    _made, given = spliced(tones(240), labels, alone, APART, torch.Generator().manual_seed(0))
    assert (given == 1).any() and alone[given == 1].all()


@pytest.mark.parametrize("labels", [[2] * 40, [0, 2] * 20, [0, 1] * 20, [0] * 40])
def test_without_another_word_or_a_keyword_nothing_changes(labels: list[int]) -> None:
    made, given = make(torch.tensor(labels))
    assert torch.equal(made, tones(40)) and given.tolist() == labels


def test_the_parts_are_equally_loud_and_no_cut_is_heard() -> None:
    labels = 2 + torch.arange(80) % 2
    levels = torch.where(torch.arange(80) % 2 == 0, 0.3, 0.3 / (0.9 * MOST_GAIN))[:, None]
    clips = tones(80) * levels / 0.2
    made, given = make(labels, clips=clips)
    rows = torch.nonzero(given == 1).flatten().tolist()
    assert rows
    for row in rows:
        sound = word(made[row])
        loud = [float(part.square().mean().sqrt()) for part in (sound[:1500], sound[-1500:])]
        assert loud[0] == pytest.approx(loud[1], rel=0.1)
        highest = LOWEST + STEP * 80
        steepest = max(loud) * np.sqrt(2) * 2 * np.pi * highest / SAMPLES
        assert sound.diff().abs().max() < 1.1 * steepest


def test_words_that_begin_or_end_alike_are_not_joined() -> None:
    """The beginning of "on" and the end of "off" are "off"."""
    names = ("_silence_", "_unknown_", "On", "off", "no", "up")
    found = alike(names)
    together = {(names[one], names[other]) for one, other in torch.nonzero(found).tolist() if one < other}
    assert (
        together == {("_silence_", "_unknown_"), ("On", "off")} and found.diagonal().all() and (found == found.T).all()
    )
    labels, alone = 2 + torch.arange(80) % 2, torch.ones(80, dtype=torch.bool)
    _made, given = spliced(tones(80), labels, alone, ~found, torch.Generator().manual_seed(0))
    assert torch.equal(given, labels)


def test_a_click_after_the_word_does_not_move_the_cut_behind_it() -> None:
    clips = tones(240)
    clips[:, END:] = 0
    clips[:, END - 5000 : END] = 0  # the word is over early
    clips[:, -50:-20] = 0.2
    labels = torch.arange(240) % 4
    made, given = make(labels, clips=clips)
    for row in torch.nonzero(given != labels).flatten().tolist():
        sound = word(made[row, : SAMPLES - 100])
        assert clip_of(sound[:700]) != clip_of(sound[-700:])


def test_what_is_too_long_for_a_clip_keeps_its_cut() -> None:
    """A word that fills its second, followed by most of another that does."""
    time = torch.arange(SAMPLES) / SAMPLES
    clips = 0.2 * torch.sin(2 * torch.pi * (LOWEST + STEP * torch.arange(40))[:, None] * time)
    made, given = make(2 + torch.arange(40) % 2, clips=clips)
    assert (given == 1).any()
    for row in torch.nonzero(given == 1).flatten().tolist():
        assert made[row].shape == (SAMPLES,)
        assert clip_of(made[row, 500:3000]) != clip_of(made[row, -3500:-1000]) or (made[row, -3500:-1000] == 0).all()

"""Which take is of another word: on real takes of one speaker, and properties of the distance."""

import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from spoken import recording, word

from kws_demo.outliers import OTHERS, cepstra, outliers, strangeness, warped_distances

UP, DOWN = (400, 900, 2200), (2400, 1000, 500)


def takes(formants_hz: tuple[float, ...], count: int) -> list[np.ndarray]:
    return [recording(word(0.4 + 0.02 * seed, formants_hz, seed), seed=seed) for seed in range(count)]


def warped_by_recursion(a: np.ndarray, b: np.ndarray) -> float:
    """The definition, written down again: the cheapest path through all pairs of frames."""
    best = {(-1, -1): 0.0}
    for i in range(len(a)):
        for j in range(len(b)):
            d = float(np.linalg.norm(a[i] - b[j]))
            steps = ((i - 1, j - 1, 2 * d), (i - 1, j, d), (i, j - 1, d))
            best[i, j] = min(best.get((x, y), np.inf) + cost for x, y, cost in steps)
    return best[len(a) - 1, len(b) - 1] / (len(a) + len(b))


@given(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=4), st.integers(0, 99))
def test_all_pairs_at_once_are_as_one_by_one(sizes: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = ([rng.normal(size=(size, 3)) for size in each] for each in zip(*sizes, strict=True))
    expected = [warped_by_recursion(a, b) for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(warped_distances(first, second), expected, rtol=1e-6, atol=1e-6)


def test_a_word_said_slower_louder_or_through_another_microphone_is_the_same() -> None:
    slow = np.repeat(cepstra(takes(UP, 1)[0]), 2, axis=0)
    assert warped_distances([slow], [slow[::2]])[0] < 1e-6
    quiet = cepstra(takes(UP, 1)[0] * 0.1)
    np.testing.assert_allclose(quiet, cepstra(takes(UP, 1)[0]), atol=0.02)


def test_another_word_is_named_and_takes_of_one_word_are_not() -> None:
    assert outliers(takes(UP, 5)) == []
    for place in range(5):
        mixed = takes(UP, 5)
        mixed[place] = takes(DOWN, 3)[2]
        assert outliers(mixed) == [place]


def test_too_few_to_tell() -> None:
    assert outliers([]) is None and outliers(takes(UP, 2)) is None and outliers(takes(UP, 3)) == []


def test_copies_of_a_take_do_not_make_the_other_takes_strange() -> None:
    assert outliers([takes(UP, 1)[0]] * 4 + takes(UP, 3)[1:]) == []


def test_of_many_clips_some_stand_for_all() -> None:
    clips = takes(UP, 3) * (OTHERS // 2) + takes(DOWN, 1)
    assert len(clips) > OTHERS and outliers(clips) == [len(clips) - 1]


def test_silence_noise_and_nothing_are_compared_too() -> None:
    found = strangeness([np.zeros(0, np.float32), np.zeros(16000, np.float32), *takes(UP, 3)])
    assert found is not None and np.isfinite(found).all()


def test_real_takes_of_one_speaker(shared_data: Path) -> None:
    """The rates the docstring states, on speakers the threshold was not chosen on."""
    files: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted((shared_data / "keywords_ar" / "val").glob("*/*.flac")):
        files[path.stem.split("_")[0]][path.parent.name].append(path)
    rng = random.Random(0)
    groups = [(speaker, name) for speaker in files for name in files[speaker] if len(files[speaker][name]) >= 5]
    hits = named = 0
    chosen = rng.sample(groups, 40)
    for speaker, name in chosen:
        clips = [soundfile.read(path, dtype="float32")[0] for path in rng.sample(files[speaker][name], 5)]
        other = rng.choice([each for each in files[speaker] if each != name])
        named += len(outliers(clips) or [])
        odd = soundfile.read(rng.choice(files[speaker][other]), dtype="float32")[0]
        hits += 0 in (outliers([odd, *clips[1:]]) or [])
    assert hits >= 0.85 * len(chosen)
    assert named <= 0.04 * 5 * len(chosen)

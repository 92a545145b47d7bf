"""What a listener has to ignore: frequent words, words that nearly sound like its keywords, and running speech."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kws_demo.espeak import all_accents, pronounce
from kws_demo.lexicon import made_up, words
from kws_demo.phonemes import LEAST_DISTANCE, distances, neighbours, segments
from kws_demo.recordings import split_speakers
from kws_demo.synth import PARTS

COMMON, LEXICON = 3000, 6000  # the most frequent words are said; the look-alikes are searched among twice as many
LOOK_ALIKES_EACH = 24  # of each keyword among the words, and as many made up
LOOK_ALIKES, RUNNING = 0.25, 0.2  # of the unknown words that are said; of the unknown clips
HELD_OUT_SHARES = {"validation": 0.15, "test": 0.15}  # of the words: the other parts never hear them
SENTENCE_WORDS = (4, 10)
RANK = 30  # the n-th word comes 1 / (n + RANK) times as often: Zipf's law, with fewer of the very first
ENDS, COMMAS = (".", ".", ".", "?", "!"), 0.1


@dataclass
class Unknown:
    """Words to ignore: `common` ones, the most frequent first, and words `near` a keyword with their distance to it."""

    common: list[str] = field(default_factory=list)
    near: dict[str, float] = field(default_factory=dict)


def unknown_words(
    keywords: Sequence[str], language: str, seed: int, least: float = LEAST_DISTANCE
) -> dict[str, Unknown]:
    """For each part, the words to ignore in it.

    None is less than `least` from a keyword ("know" sounds like "no") or sounds like a word of another part.

    Raises:
        MilliwiseError: espeak-ng, which tells how they sound, does not know the language.
    """
    frequent = words(language, LEXICON)
    near = look_alikes(keywords, language, LOOK_ALIKES_EACH, seed, least)
    sound_of = _sounds([*frequent, *near], language)
    part_of = split_speakers({"".join(sound): {""} for sound in sound_of.values()}, HELD_OUT_SHARES, seed)
    chosen = {part: Unknown() for part in PARTS}
    for word in allowed(frequent[:COMMON], keywords, language, least):
        chosen[part_of["".join(sound_of[word])]].common.append(word)
    for word, distance in near.items():
        chosen[part_of["".join(sound_of[word])]].near[word] = distance
    return chosen


def look_alikes(
    keywords: Sequence[str], language: str, each: int, seed: int, least: float = LEAST_DISTANCE
) -> dict[str, float]:
    """Words that nearly sound like a keyword, with their distance to the nearest: `each` real and `each` made up.

    "stop" gives "stock", "step", "stopped", and "[[...]]" for what is no word. None is less than `least` away.
    """
    frequent = allowed(words(language, LEXICON), keywords, language, least)
    lexicon = list(_sounds(frequent, language).items())
    found = [word for sound in _sounds(keywords, language).values() for word, _ in neighbours(sound, lexicon, each)]
    rng = np.random.default_rng([seed, 5])
    found += allowed(made_up(keywords, language, 2 * each * len(keywords), rng), keywords, language, least)
    found = list(dict.fromkeys(found))[: 2 * each * len(keywords)]
    return dict(zip(found, _nearest(found, keywords, language).tolist(), strict=True))


def allowed(texts: Sequence[str], keywords: Sequence[str], language: str, least: float = LEAST_DISTANCE) -> list[str]:
    """Those of the texts that can be said and sound at least `least` different from every keyword."""
    taken = {keyword.casefold() for keyword in keywords}
    near = _nearest(texts, keywords, language)
    return [text for text, distance in zip(texts, near, strict=True) if distance >= least and text not in taken]


def unknown_texts(unknown: Unknown, count: int, rng: np.random.Generator) -> list[str]:
    """`count` unknown words to say, at most a quarter of them look-alikes: the farther from a keyword, the oftener."""
    near, distance = list(unknown.near), np.array(list(unknown.near.values()))
    few = round(LOOK_ALIKES * count) if near and unknown.common else 0
    chances = distance / distance.sum() if few else None
    return [near[index] for index in rng.choice(max(1, len(near)), few, p=chances)] + draw(
        unknown.common, count - few, rng
    )


def sentences(
    language: str, count: int, seed: int, avoid: Sequence[str] = (), among: Sequence[str] | None = None
) -> list[str]:
    """`count` runs of 4 to 9 frequent words, frequent ones oftener; no word sounds like one to `avoid`.

    They are made of the words `among`, the most frequent first, instead of the language's if these are given.

    Raises:
        MilliwiseError: espeak-ng does not know the language.
    """
    rng = np.random.default_rng([seed, 9])
    known = np.array(allowed(words(language, COMMON) if among is None else among, avoid, language))
    if not len(known):
        return []
    chances = 1 / (np.arange(len(known)) + RANK)
    made = []
    for _ in range(count):
        run = known[rng.choice(len(known), int(rng.integers(*SENTENCE_WORDS)), p=chances / chances.sum())].tolist()
        pauses = ["," if rng.random() < COMMAS else "" for _ in run[1:]] + [str(rng.choice(ENDS))]
        made.append(" ".join(word + pause for word, pause in zip(run, pauses, strict=True)))
    return made


def draw(words: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` of the words in random order, each as often as any other, give or take one."""
    rounds = math.ceil(count / len(words)) if words else 0
    return [words[index] for _ in range(rounds) for index in rng.permutation(len(words))][:count]


def _sounds(texts: Sequence[str], language: str) -> dict[str, tuple[str, ...]]:
    """The phonemes of every text; none where espeak-ng cannot say it."""
    return {text: segments(said.ipa) for text, said in zip(texts, pronounce(texts, language), strict=True)}


def _nearest(texts: Sequence[str], keywords: Sequence[str], language: str) -> np.ndarray:
    """How far each text sounds from the nearest keyword, float64 [texts]: 0 for the same or no sound at all."""
    sounds = [segments(said.ipa) for said in pronounce(texts, language)]
    accents = dict.fromkeys(segments(said.ipa) for said in all_accents(keywords, language))
    each = [distances(keyword, sounds) for keyword in accents]
    least = np.min(each, axis=0) if each else np.full(len(sounds), np.inf)
    return np.where([bool(sound) for sound in sounds], least, 0.0)

"""Speech data for a keyword listener: clips of keywords, unknown words and silence, in parts that share no speaker."""

from __future__ import annotations

import contextlib
import difflib
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from exporters.metadata import SILENCE, UNKNOWN
from kws_demo.noises import CLIP_SAMPLES, silence_clips
from kws_demo.own_takes import OWN, own_takes, repeated, require_unheld, speakers, trained
from kws_demo.plan import Plan
from kws_demo.recordings import (
    BACKGROUND,
    HELD_OUT,
    Recording,
    by_label,
    check_words,
    noise_files,
    noise_parts,
    read_noise,
    split_speakers,
    unknown_recordings,
    word_recordings,
)
from kws_demo.running import running_speech
from kws_demo.source import Source, parse_spec
from kws_demo.synth import PARTS, as_spoken, base_voices, excerpts, speak_sentences, split_voices, synthesise
from kws_demo.words import RUNNING, sentences, unknown_texts, unknown_words
from toolkit.errors import MilliwiseError, printable
from toolkit.progress import progress

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
UNKNOWN_PER_KEYWORD, UNKNOWN_SHARE, FEWEST_UNKNOWN = 1.5, 0.35, 300  # times a keyword's clips; of all keywords' clips
# Of the unknown clips, where there are enough recordings; the rest is spoken by espeak-ng. Beside synthetic keywords
# fewer are real, or the network learns that whoever is real says nothing of interest.
REAL_UNKNOWN, REAL_BESIDE_SYNTHETIC = 0.9, 2 / 3
LEAST_UNKNOWN = {"train": 20, "validation": 5, "test": 5}  # fewer show nothing
PIECES_EACH = 2  # excerpts of a spoken sentence
# Of running speech, for each second of training clips, and at most. Without it a listener that hears words on their own
# only takes parts of talk for keywords.
TALK_SHARE, MOST_TALK_S, TALK_SEED = 0.3, 900.0, 1_000_000
SILENCE_PER_KEYWORD, FEWEST_SILENCE = 1.0, 16


@dataclass(frozen=True)
class Clips:
    """N clips of one second: `audio` float32 [N, 16000] within -1..1, `label` int64 [N], and who speaks.

    `recorded`, bool [N], tells recordings from what was made here.
    """

    audio: np.ndarray
    label: np.ndarray
    speaker: tuple[str, ...]
    recorded: np.ndarray


@dataclass(frozen=True)
class SpeechData:
    """Everything a listener is trained and tested on; no speaker is in two of the three parts.

    `labels` are "_silence_", "_unknown_", then the words. `noise` and `test_noise` are background recordings, float32
    at 16 kHz, possibly none. `description` is plain JSON: source, seed, clips per part and label. `talk` is running
    speech without a keyword to train on, float32 [samples], possibly none; `spare`, float32 [N, 16000], what there is
    of recorded unknown words beside those in `train`.
    """

    labels: tuple[str, ...]
    train: Clips
    validation: Clips
    test: Clips
    noise: tuple[np.ndarray, ...]
    test_noise: tuple[np.ndarray, ...]
    description: dict[str, Any]
    talk: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    spare: np.ndarray = field(default_factory=lambda: np.zeros((0, CLIP_SAMPLES), np.float32))


def load_data(
    spec: str,
    *,
    seed: int = 0,
    unknown: Sequence[Path] = (),
    noise: Sequence[Path] = (),
    add: Sequence[Path] = (),
    words: Sequence[str] = (),
    language: str | None = None,
    spoken: Sequence[str] = (),
    clips_per_word: int = 800,
    spare: bool = False,
) -> SpeechData:
    """Make or read the data that `spec` names (see `parse_spec`); the same arguments give the same data.

    `unknown` are folders of recordings of other words, `noise` of background sound, `add` are folders of own
    recordings of the words, which are used for training only; `words` are those of a folder's to listen for, and what
    else is in it is unknown; `language` is that of recordings, in which other words are spoken to be ignored (English
    when None), and `spoken` are the words as it writes them, in their order; `clips_per_word` counts for synthetic
    speech, over all three parts; with `spare` what is left of the unknown words is read, too.

    Raises:
        MilliwiseError: anything wrong with the argument or the files, named, with the cure.
    """
    if seed < 0:
        raise MilliwiseError(f"the seed {seed} is negative: give 0 or more")
    source = parse_spec(spec) if language is None else _in_language(parse_spec(spec), language)
    recordings, backgrounds = _find(source)
    found_words = source.words or tuple(sorted({found.label for found in recordings} - {UNKNOWN}))
    words = _chosen(words, found_words, source) if words else found_words
    check_words(words, f"'{printable(spec)}'")
    if spoken and language is None:
        raise MilliwiseError("--spoken has words of no language: name it, --language LANGUAGE")
    said = words if language is None else as_spoken(words, spoken, language)
    recordings = [found if found.label in words else replace(found, label=UNKNOWN) for found in recordings]
    for folder in unknown:
        recordings += unknown_recordings(folder, words)
    takes = [own_takes(folder, words) for folder in add]
    for folder, found in zip(add, takes, strict=True):
        require_unheld(found, recordings, folder)
    recordings = _decide_parts(recordings, seed, {speaker for found in takes for speaker in speakers(found)})
    if source.kind != "synth":
        _check_parts(words, recordings)
    usual = trained(recordings)
    for found in takes:
        recordings += repeated(found, usual, SHARES["train"] * clips_per_word)
    for folder in noise:
        known = {path.resolve() for path, _ in backgrounds}  # a folder within another is read once, or it tests itself
        backgrounds += [(path, part) for path, part in noise_parts(folder) if path.resolve() not in known]
    train_noise, test_noise = read_noise(backgrounds, seed)
    plans, talk = _plans(source, words, said, recordings, seed, clips_per_word)
    labels = (SILENCE, UNKNOWN, *words)
    noises = {"train": train_noise, "validation": train_noise, "test": test_noise}
    clips = _clips(plans, labels, noises, seed)
    counts = {part: {labels[i]: n for i, n in sorted(Counter(clips[part].label.tolist()).items())} for part in PARTS}
    description = {"source": spec, "seed": seed, "clips": counts, "noise_recordings": len(train_noise)}
    train, validation, test = (clips[part] for part in PARTS)
    left = (plans["train"] if spare else Plan()).read_spare()
    return SpeechData(labels, train, validation, test, train_noise, test_noise, description, talk, left)


def _in_language(source: Source, language: str) -> Source:
    if source.kind == "synth":
        raise MilliwiseError(f"--language is of recordings: write synth:{printable(language)[:20]}:WORD,WORD,… instead")
    base_voices(language)
    return replace(source, language=language)


def _find(source: Source) -> tuple[list[Recording], list[tuple[Path, str]]]:
    """The recordings of a source, and its background recordings with the part they belong to ("" if still open)."""
    if source.kind == "synth":
        return [], []
    if source.kind == "speech_commands":
        from kws_demo.speech_commands import speech_commands

        recordings, files = speech_commands(source.path)
        return recordings, [(path, "") for path in files]
    recordings = word_recordings(source.path)
    folders = [(source.path, ""), (source.path / "train", ""), *((source.path / name, "test") for name in HELD_OUT)]
    kept = [(folder / BACKGROUND, part) for folder, part in folders if (folder / BACKGROUND).is_dir()]
    return recordings, [(path, part) for folder, part in kept for path in noise_files(folder)]


def _chosen(words: Sequence[str], found: Sequence[str], source: Source) -> tuple[str, ...]:
    """The words to listen for, of those found in a folder."""
    if source.kind == "synth":
        raise MilliwiseError("--words chooses from recordings: with synth: name the words there, synth:WORD,WORD")
    for word in words:
        if word not in found:
            close = difflib.get_close_matches(word, found, n=3, cutoff=0.3) or found[:3]
            raise MilliwiseError(f"there are no recordings of '{printable(word)}': choose of {', '.join(close)}, …")
    return tuple(words)


def _decide_parts(recordings: list[Recording], seed: int, taught: Collection[str] = ()) -> list[Recording]:
    """Give every recording its part, by its speaker; a speaker who is held out anywhere is held out everywhere.

    Those of `taught` are trained, for recordings of theirs are.
    """
    part_of = dict.fromkeys(taught, "train")
    part_of |= {recording.speaker: recording.part for recording in recordings if recording.part}
    for is_unknown in (False, True):  # one after the other, so that the keywords alone decide how theirs are split
        group = [recording for recording in recordings if (recording.label == UNKNOWN) == is_unknown]
        held = {recording.part for recording in group}
        words_of: dict[str, set[str]] = {}
        for recording in group:
            if recording.speaker not in part_of:
                words_of.setdefault(recording.speaker, set()).add(recording.label)
        shares = {part: SHARES[part] for part in PARTS[1:] if part not in held}
        part_of |= split_speakers(words_of, shares, seed)
    return [replace(recording, part=recording.part or part_of[recording.speaker]) for recording in recordings]


def _check_parts(words: Sequence[str], recordings: list[Recording]) -> None:
    found = {(recording.label, recording.part) for recording in recordings}
    for word in words:
        for part in PARTS:
            if (word, part) not in found:
                speakers = len({recording.speaker for recording in recordings if recording.label == word})
                raise MilliwiseError(
                    f"the word '{printable(word)}' has no recording left for {part}: its speakers ({speakers}) may"
                    " be in one part only; record three or more, and name the files SPEAKER_NUMBER.wav"
                )


def _plans(
    source: Source,
    words: Sequence[str],
    said: Sequence[str],
    recordings: list[Recording],
    seed: int,
    clips_per_word: int,
) -> tuple[dict[str, Plan], np.ndarray]:
    """The clips of words and unknown words of each part, spoken by espeak-ng and to be read; and talk to train on."""
    voices = split_voices(source.language, seed)
    plans = {part: Plan() for part in PARTS}
    ignored = unknown_words(said, source.language, seed)
    for number, part in enumerate(PARTS):
        rng = np.random.default_rng([seed, 4, number])
        groups = by_label(recording for recording in recordings if recording.part == part)
        strangers = groups.pop(UNKNOWN, [])
        plan = plans[part]
        plan.recordings += [recording for group in groups.values() for recording in group]
        counts = [len(groups.get(word, [])) for word in words]
        if source.kind == "synth":
            each = max(4, round(SHARES[part] * clips_per_word))
            plan.say(synthesise(words, each, _job_seed(seed, number), voices[part], source.language))
            counts = [count + each for count in counts]
        wanted = math.ceil(max(UNKNOWN_PER_KEYWORD, UNKNOWN_SHARE * len(words)) * float(np.median(counts)))
        wanted = max(wanted, math.ceil(FEWEST_UNKNOWN * SHARES[part] / SHARES["train"]))
        most_real = REAL_BESIDE_SYNTHETIC if source.kind == "synth" else REAL_UNKNOWN
        real = _drawn(strangers, round(most_real * wanted), rng)
        plan.recordings += real
        plan.spare = sorted(set(strangers) - set(real), key=lambda recording: recording.path)
        job_seed = _job_seed(seed, number)
        pieces = round(RUNNING * (wanted - len(real)))
        texts = unknown_texts(ignored[part], wanted - len(real) - pieces, rng)
        plan.say(synthesise(texts, 1, job_seed, voices[part], source.language, strict=False), UNKNOWN)
        texts = sentences(source.language, math.ceil(pieces / PIECES_EACH), job_seed, said, ignored[part].common)
        plan.say(excerpts(speak_sentences(texts, job_seed, voices[part], source.language), pieces, rng), UNKNOWN)
        _check_unknown(plan.labels.count(UNKNOWN), part, source.language)
    seconds = min(MOST_TALK_S, TALK_SHARE * len(plans["train"].labels))
    among, speakers = ignored["train"].common, voices["train"]
    return plans, running_speech(seconds, said, among, speakers, source.language, TALK_SEED + seed)


def _drawn(strangers: Sequence[Recording], most: int, rng: np.random.Generator) -> list[Recording]:
    """At most so many recordings of unknown words: one's own first, as long as they are half or others are too few."""
    own = [recording for recording in strangers if recording.speaker.startswith(OWN)]
    others = [recording for recording in strangers if not recording.speaker.startswith(OWN)]
    count = min(len(own), max(most // 2, most - len(others)))
    chosen = ((own, count), (others, most - count))
    return [group[index] for group, number in chosen for index in sorted(rng.permutation(len(group))[:number])]


def _check_unknown(count: int, part: str, language: str) -> None:
    if count < LEAST_UNKNOWN[part]:
        raise MilliwiseError(
            f"there are {count} unknown words for {part}, {LEAST_UNKNOWN[part]} are needed (espeak-ng can say few "
            f"words in {language!r}): record other words and name their folder, --unknown FOLDER"
        )


def _job_seed(seed: int, part: int) -> int:
    return len(PARTS) * seed + part


def _clips(
    plans: dict[str, Plan], labels: tuple[str, ...], noises: dict[str, tuple[np.ndarray, ...]], seed: int
) -> dict[str, Clips]:
    """The parts, each with its silence clips first; the recordings are read now."""
    index = {label: number for number, label in enumerate(labels)}
    clips: dict[str, Clips] = {}
    reading = sum(len(plan.recordings) for plan in plans.values())
    bar = progress(f"reading {reading} recordings", reading) if reading else contextlib.nullcontext(lambda amount: None)
    with bar as advance:
        for number, (part, plan) in enumerate(plans.items()):
            names = plan.labels
            spoken = Counter(label for label in names if label != UNKNOWN)
            count = max(FEWEST_SILENCE, math.ceil(SILENCE_PER_KEYWORD * float(np.median(list(spoken.values())))))
            label = np.array([index[name] for name in [SILENCE] * count + names], np.int64)
            speaker = (f"silence/{part}",) * count + plan.speakers
            silence = silence_clips(count, noises[part], np.random.default_rng([seed, 6, number]))
            recorded = np.arange(len(label)) >= len(label) - len(plan.recordings)
            clips[part] = Clips(plan.read(silence, advance), label, speaker, recorded)
    return clips

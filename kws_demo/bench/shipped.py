"""`milliwise bench shipped`: every listener that ships, on real people and six hours of talk, for its card, too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from exporters.listener import Listener
from exporters.metadata import RATE_HZ
from kws_demo.audio import read_wav, reblock
from kws_demo.bench.listener import CORE, TEN, arabic_words, keyword_figures, ten_words
from kws_demo.bench.rows import Results, machine, row
from kws_demo.decide import Decider, Decision, Detection, detection
from kws_demo.intervals import rate_interval
from kws_demo.model_card import write_card
from kws_demo.recordings import Recording, word_recordings
from kws_demo.shipped import shipped
from kws_demo.synth import split_voices
from kws_demo.talk import Talk
from toolkit.progress import progress

HOURS = 6.0
Row = dict[str, Any]

ESPEAK = {
    "name": "synthetic speech",
    "license": "none claimed",
    "attribution": "made with espeak-ng 1.52; words to say from wordfreq's lists",
}
ARABIC = {
    "name": "keywords_ar/train",
    "license": "CC BY 4.0",
    "attribution": "Arabic Speech Commands Dataset",
}
ENGLISH = {
    "name": "keywords_en/train: bed, cat, happy, as unknown words",
    "license": "CC BY 4.0",
    "attribution": "Speech Commands v0.01, Google",
}
NOISE = {
    "name": "noise/train",
    "license": "CC BY 4.0",
    "attribution": "Speech Commands v0.01, Google; Arabic Speech Commands Dataset",
}
SOUNDS = {
    "name": "noise/esc10",
    "license": "CC BY 3.0",
    "attribution": "ESC-10, Karol J. Piczak; recordings of freesound.org",
}
FLITE = {
    "name": "speech by flite 2.2: awb, kal16, rms, slt",
    "license": "BSD-like, of Carnegie Mellon University; parts under other free licences",
    "attribution": "flite, Carnegie Mellon University",
}
PICO = {
    "name": "speech by SVOX Pico: en-US, en-GB",
    "license": "Apache-2.0; the voice data come without their source",
    "attribution": "SVOX Pico, SVOX AG",
}
TEACHER = {
    "name": "hints of the speech embedding (openwakeword 0.4.0), which is not in the file",
    "license": "Apache-2.0",
    "attribution": "Google; openWakeWord, David Scripka",
}
DATA = "../shared/data"


@dataclass(frozen=True)
class Shipped:
    """How a listener was made, and how it is tested.

    Attributes:
        hears: a sentence.
        arguments: of `milliwise search`, beside the profile and the budget.
        before: the command that makes what else they need.
        data: what trained it.
        language: of the talk it must not react to.
        test: its file and the folder of recordings, to figures.
        shares: figure, what it is called in the card; the first is the one that `milliwise models` shows.
        not_tested: sentences.
        spoken: the keywords in the script of the language, where the labels are not.
        space, budget: that were searched.
        drawn: for intervals: speakers where the recordings tell them apart, else clips.
    """

    hears: str
    arguments: str
    data: tuple[dict[str, str], ...]
    language: str
    test: Callable[[Path, Path], Row]
    shares: tuple[tuple[str, str], ...]
    not_tested: tuple[str, ...]
    spoken: tuple[str, ...] = ()
    before: str = ""
    drawn: str = "speakers"
    space: str = "kws-coarse"
    budget: str = "1 ms"

    @property
    def command(self) -> str:
        """What made it."""
        search = f'milliwise search {self.space} --profile device.json --budget "{self.budget}" {self.arguments}'
        lines = (f"milliwise profile {self.space} -o device.json", search, "milliwise export run -o listener.onnx")
        return self.before + "\n".join(lines)


def computer_word(model: Path, recordings: Path) -> Row:
    """The wake word in clips of about three seconds, against another wake word and single words."""
    found = word_recordings(recordings / "wakewords") + word_recordings(recordings / "keywords_en30")
    # These recordings name no speakers, so every clip stands for itself.
    words = [Recording(each.path, each.label, each.path.name) for each in found if each.label == "computer"]
    others = [each for each in found if each.label != "computer"]
    return keyword_figures(model, words, others, round(0.05 * len(others)), lambda path: read_wav(path)[0])


NEVER = "Other rooms, microphones and distances than those of these recordings; children; noise louder than speech."
SHIPPED = {
    "english": Shipped(
        "Ten English commands.",
        f"--data synth:{','.join(TEN)} --add voices --unknown {DATA}/keywords_ar/train "
        f"--unknown {DATA}/keywords_en/train --noise {DATA}/noise/train --teacher --minutes 45 -o run",
        (ESPEAK, FLITE, PICO, TEACHER, ARABIC, ENGLISH, NOISE),
        "en",
        ten_words,
        (
            ("detected", "keywords_en30: detected where 5 % of other words are accepted"),
            ("between", "keywords_en30: told apart"),
        ),
        (
            NEVER,
            "The official Speech Commands test set: these are a few clips a word of v0.01.",
            "New voices alone: 4 of the 10 speakers of the ten words, with 14 of the 48 clips, say other words in "
            "training, and 8 of the 108 clips of other words are training's own.",
            "Clips that nobody looked at before: its teacher and its width were chosen, among five ways to train, by "
            "how many of these 48 were detected.",
            "A budget of 1 ms: the machine of that day was slow, the listener before it took 1.15 ms there (p95; 0.61 "
            "on another day).",
        ),
        before=f"milliwise speak {' '.join(TEN)} -o voices\n",
        space="kws-coarse:width=48",
        budget="3 ms",
    ),
    "arabic": Shipped(
        "Ten Arabic commands, labelled in English.",
        f"--data {DATA}/keywords_ar --words {','.join(CORE)} --noise {DATA}/noise/train --minutes 10 -o run",
        (ARABIC, ESPEAK, NOISE),
        "ar",
        arabic_words,
        (
            ("twelve", "keywords_ar/val: ten words, unknown and silence"),
            ("core", "keywords_ar/val: told apart"),
        ),
        (NEVER, "Dialects that the 24 speakers of the recordings do not speak."),
        ("نعم", "لا", "أعلى", "فوق", "أسفل", "تحت", "يسار", "يمين", "افتح", "أغلق", "ابدأ", "قف", "توقف"),
    ),
    "computer": Shipped(
        "The wake word “computer”.",
        f"--data synth:computer --add voices --unknown {DATA}/keywords_ar/train "
        f"--unknown {DATA}/keywords_en/train --noise {DATA}/noise/train --noise {DATA}/noise/esc10 --teacher "
        "--minutes 12 -o run",
        (ESPEAK, FLITE, PICO, TEACHER, ARABIC, ENGLISH, NOISE, SOUNDS),
        "en",
        computer_word,
        (("detected", "wakewords/computer: detected where 5 % of other words are accepted"),),
        (
            NEVER,
            "Words that sound like it and are none of those tested: “commuter”, “compute”.",
            "New voices alone: 68 of the 256 clips of other words are by people who say bed, cat or happy in training, "
            "and 8 of these are training's own.",
            "A budget of 1 ms: the machine of that day was slow.",
        ),
        before="milliwise speak computer -o voices\n",
        drawn="clips",
        space="kws-coarse:width=48",
        budget="2 ms",
    ),
}


def run(results: Results, *, quick: bool, recordings: Path, seed: int) -> Row:
    """Measure what `results` does not hold yet, and write the cards; `quick` leaves out the hours of talk.

    Returns:
        rows (name, target, measured, interval, met, reason) and machine.
    """
    rows = []
    for name, model in shipped().items():
        if name not in SHIPPED or not recordings.is_dir():
            rows.append(row(f"{name}: figures", "none", None, bool, reason=f"no recordings in {recordings}"))
            continue
        known = SHIPPED[name]
        key = f"{name} {Listener.open(model).sha256[:12]}"  # another file has other figures
        tested = results.keep(f"{key}: people", partial(known.test, model, recordings))
        talk = None if quick else results.keep(f"{key}: talk", partial(_talk, model, known, seed))
        rows += [_share(name, title, tested[key]) for key, title in known.shares]
        rows += [_evenness(name, tested["overconfidence"]), _alarms(name, talk)]
        if talk is not None:
            write_card(model.with_suffix(".md"), model, _facts(known, tested, talk))
    return {"rows": rows, "machine": machine()}


def _talk(model: Path, known: Shipped, seed: int) -> Row:
    """False alarms of a listener, at its threshold, in hours of synthetic talk that it was not trained on."""
    listener = Listener.open(model)
    hop_ms = 1000 * listener.hop_samples / listener.rate
    decider = Decider(listener.labels, hop_ms, Decision(**listener.metadata.decision))
    voices = split_voices(known.language, listener.metadata.seed)["test"]
    talk = Talk(known.spoken or listener.labels[2:], voices, known.language, seed)
    found: list[Detection] = []
    with progress(f"{HOURS:g} hours of talk", HOURS * 3600) as advance:
        parts = (_counted(part, advance) for part in talk.minutes(HOURS * 3600))
        for count, block in enumerate(reblock(parts, listener.hop_samples), 1):
            result = decider.update(count * hop_ms, listener.push(block).probabilities)
            if said := detection(count * hop_ms, result):
                found.append(said)
    low, high = rate_interval(len(found), HOURS)
    return {"alarms": len(found), "hours": HOURS, "per_hour": len(found) / HOURS, "low": low, "high": high}


def _counted(part: np.ndarray, advance: Callable[[float], None]) -> np.ndarray:
    advance(len(part) / RATE_HZ)
    return part


def _share(name: str, title: str, found: Row) -> Row:
    interval = found["low"], found["high"]
    return _untargeted(f"{name}, {title}", found["share"], interval, f"{found['clips']} clips")


def _evenness(name: str, found: dict[str, float]) -> Row:
    """How far a score is from the chance that its word was said, for the keyword where it is farthest."""
    farthest = max(found, key=lambda word: abs(found[word]))
    title = f"{name}: score less share right, the keyword where it is farthest from 0"
    return _untargeted(title, found[farthest], (min(found.values()), max(found.values())), f"{farthest}; all keywords")


def _alarms(name: str, talk: Row | None) -> Row:
    title = f"{name}, synthetic talk: false alarms an hour"
    if talk is None:
        return row(title, "none", None, bool, reason="left out by --quick")
    interval = talk["low"], talk["high"]
    return _untargeted(title, talk["per_hour"], interval, f"{talk['alarms']} in {talk['hours']:g} h")


def _untargeted(name: str, measured: float, interval: tuple[float, float], reason: str) -> Row:
    """A figure without a target is neither met nor missed; `bench listener` has the targets."""
    return {**row(name, "none", measured, bool, interval, reason), "met": None}


def _facts(known: Shipped, tested: Row, talk: Row) -> dict[str, Any]:
    """What the card says beside what is in the file."""
    accuracy: list[Row] = [
        {
            "test": title,
            "share": tested[key]["share"],
            "interval": [tested[key]["low"], tested[key]["high"]],
            "of": f"{tested[key]['clips']} clips, {known.drawn} drawn",
        }
        for key, title in known.shares
    ]
    accuracy.append(
        {
            "test": "synthetic talk: false alarms at its threshold",
            "per_hour": talk["per_hour"],
            "interval": [talk["low"], talk["high"]],
            "of": f"{talk['hours']:g} h of espeak-ng",
        }
    )
    first = accuracy[0]
    low, high = first["interval"]
    line = f"{100 * first['share']:.0f} % ({100 * low:.0f} to {100 * high:.0f}) on real people, {first['test']}"
    return {
        "hears": known.hears,
        "command": known.command,
        "accuracy_line": line,
        "accuracy": accuracy,
        "data": list(known.data),
        "not_tested": list(known.not_tested),
    }

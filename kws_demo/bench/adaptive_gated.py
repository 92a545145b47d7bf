"""Adaptive listeners of `kws-gated` against every other way to choose a mode, on streams of people never heard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporters.adaptive import mode_names, modes_after
from kws_demo.adaptive_search import run_adaptive_search
from kws_demo.data import SpeechData
from kws_demo.decide import Decision
from kws_demo.gates import GATES, Cascade, Heard, Learned, Oracle, Policy, Random, dialled
from kws_demo.long_streams import LongStream, long_stream
from kws_demo.operating_points import (
    ParetoPoint,
    Sweep,
    at_false_alarms,
    cost_by_share,
    missed_more,
    misses_and_alarms,
    pareto_point,
    spent_ms,
)
from kws_demo.score import keyword_truths
from kws_demo.settings import Settings, data_of
from kws_demo.sinks import sinks_of
from kws_demo.streams import Word, hop_labels
from kws_demo.synth import split_voices
from kws_demo.talk import Talk
from profilers.modes import ModeCosts
from toolkit.adaptive import AdaptiveNetwork
from toolkit.profile import DeviceProfile
from toolkit.run import Selected, load_selected
from toolkit.spaces import SAMPLES_PER_MS

SPACE, HOP_MS = "kws-gated", 200
HOP = HOP_MS * SAMPLES_PER_MS
STREAM_S, SPEECH_SHARE = 7200.0, 0.05
TALK_MINUTES, TALK_SEED = 20, 71
ALARMS_PER_HOUR = 5.0
HANGOVERS = (0, 1, 2, 4)  # hops for which a gate that has to be swept stays open
SURE = (0.9, 1.0)  # above that a cascade takes the small network's word for it
THRESHOLDS = np.append(np.round(np.linspace(0.02, 0.98, 49), 3), 1.0)  # with 1 nothing is announced
SILENT, OPEN = 0, 1  # the modes of a listener that an outer gate wakes
Row = dict[str, Any]


def settings(recordings: Path, seed: int, minutes: float, budget: str) -> Settings:
    """Of the search whose listener is judged."""
    return Settings(
        SPACE,
        budget,
        str(recordings / "keywords_en"),
        strategy="sanas",
        seed=seed,
        minutes=minutes,
        unknown=[str(recordings / "keywords_ar" / "train")],
        noise=[str(recordings / "noise" / "train")],
    )


@dataclass
class Trial:
    """One seed's listener, and what it is judged on.

    Args:
        folder: of its run; the search goes on from what is in it.
    """

    recordings: Path
    folder: Path
    seed: int
    minutes: float
    profile: DeviceProfile
    budget: str

    @cached_property
    def selected(self) -> Selected:
        """The run, made if it is not finished."""
        if not (self.folder / "run.json").exists():
            run_adaptive_search(self._settings, self.profile, self.folder, resume=True)
        return load_selected(self.folder)

    @property
    def _settings(self) -> Settings:
        return settings(self.recordings, self.seed, self.minutes, self.budget)

    @cached_property
    def data(self) -> SpeechData:
        return data_of(self._settings)

    @property
    def adaptive(self) -> AdaptiveNetwork:
        assert self.selected.adaptive is not None
        return self.selected.adaptive

    @cached_property
    def costs(self) -> ModeCosts:
        return ModeCosts.from_facts(self.selected.facts["modes"], self.adaptive)

    @cached_property
    def stream(self) -> LongStream:
        """Two hours, a twentieth of it words of the test speakers, half of these no keywords."""
        data = self.data
        return long_stream(data.test, data.labels, data.test_noise, STREAM_S, SPEECH_SHARE, self.seed)

    @cached_property
    def heard(self) -> Heard:
        """The stream, by all modes."""
        audio = self.stream.audio
        sinks = sinks_of(self.adaptive, torch.from_numpy(audio), HOP, "hearing two hours by all modes")
        return Heard.by(self.adaptive, audio, HOP, sinks, hop_labels(self.said, len(sinks), HOP)[0])

    @property
    def said(self) -> list[Word]:
        """The words of the stream, in samples."""
        return [
            Word(self.data.labels.index(truth.word), round(16 * truth.start_ms), round(16 * (truth.end_ms or 0)))
            for truth in self.stream.truths
        ]

    @cached_property
    def talk(self) -> Heard:
        """Synthetic talk without a keyword, by voices never heard."""
        words = self.data.labels[2:]
        talk = Talk(words, split_voices("en", self.seed)["test"], "en", TALK_SEED + self.seed)
        audio = np.concatenate(list(talk.minutes(60.0 * TALK_MINUTES)))
        sinks = sinks_of(self.adaptive, torch.from_numpy(audio), HOP, "hearing talk by all modes")
        return Heard.by(self.adaptive, audio, HOP, sinks)

    @cached_property
    def decision(self) -> Decision:
        return Decision(**self.selected.facts["decision"])

    def sweep(self, scores: np.ndarray) -> Sweep:
        """Of the stream's scores."""
        return misses_and_alarms(scores, self.stream.truths, self.data.labels, HOP_MS, self.decision, THRESHOLDS)

    @cached_property
    def speakers(self) -> list[str]:
        """Of the keywords said in the stream."""
        pairs = zip(self.stream.truths, self.stream.speakers, strict=True)
        return [speaker for truth, speaker in pairs if keyword_truths([truth])]


@dataclass(frozen=True)
class Choice:
    """A way to choose the mode of every hop, tried on a stream and on talk.

    Attributes:
        modes: of the stream's hops; names.
        scores: [hops, labels].
        ms: [hops], of the stream and of the talk.
    """

    kind: str
    parameter: float | str
    modes: Sequence[str]
    scores: np.ndarray
    ms: np.ndarray
    talk_ms: np.ndarray


def choices(trial: Trial, outer_ms: Row) -> Iterator[Choice]:
    """All that is compared: the network's own modes and gates, and gates in front of the dearest mode."""
    adaptive, heard, talk = trial.adaptive, trial.heard, trial.talk
    table = trial.costs.table(adaptive).numpy()
    names, after = mode_names(adaptive), modes_after(adaptive)

    def inside(kind: str, parameter: float | str, policy: Policy) -> Choice:
        modes, in_talk = policy(heard), policy(talk)
        before = np.concatenate([[0], modes[:-1]])
        told = [names[place] for place in after[before, modes]]
        return Choice(kind, parameter, told, heard.scores_of(modes), spent_ms(modes, table), spent_ms(in_talk, table))

    for mode, ms in enumerate(outer_ms["alone"]):  # as files of their own, without gates
        modes = GATES["static"](mode)(heard)
        told = [names[after[mode, mode]]] * heard.hops
        yield Choice(
            "static", told[0], told, heard.scores_of(modes), *(np.full(hops, ms) for hops in (heard.hops, talk.hops))
        )
    for cascade in _cascades(heard.modes):
        opened = names[after[cascade.open, cascade.open]]
        yield inside("cascade", f"{cascade.low:g} to {cascade.high:g}, {_stays(cascade.hangover)}, {opened}", cascade)
    for parameter in Oracle.tried:
        modes = Oracle(parameter)(heard)
        told = [names[place] for place in after[np.concatenate([[0], modes[:-1]]), modes]]
        shut = spent_ms(np.zeros(talk.hops, np.int64), table)
        yield Choice("oracle", parameter, told, heard.scores_of(modes), spent_ms(modes, table), shut)
    dials = Learned.tried
    own, in_talk = dialled(adaptive, heard, dials), dialled(adaptive, talk, dials)
    for place, dial in enumerate(dials):
        taught = _known({id(heard): own[place], id(talk): in_talk[place]})
        yield inside("learned", dial, taught)
        yield inside("random", dial, Random(taught, seed=trial.seed))
    yield from _outer(trial, outer_ms)


def _cascades(modes: int) -> Iterator[Cascade]:
    """Whatever may suit a cascade: both thresholds, how long it stays open, and to which mode but the first."""
    for low, high, hangover, mode in product(Cascade.tried, SURE, HANGOVERS, range(1, modes)):
        yield Cascade(low, high=high, hangover=hangover, open=mode)


def _stays(hangover: int) -> str:
    return f"{hangover} hops longer"


def _known(modes: dict[int, np.ndarray]) -> Policy:
    return lambda heard: modes[id(heard)]


def _outer(trial: Trial, outer_ms: Row) -> Iterator[Choice]:
    """A gate that listens to the sound itself wakes the whole listener; else nothing runs, and silence is said."""
    silent = np.zeros((trial.heard.hops, 1, len(trial.data.labels)), np.float32)
    silent[..., 0] = 1
    woken = Heard(
        trial.heard.audio, HOP, trial.heard.sinks, np.concatenate([silent, trial.heard.scores[:, -1:]], 1),
    )  # fmt: skip
    for kind in ("energy", "vad"):
        gate_ms = outer_ms[kind]
        table = np.array([[gate_ms, gate_ms + outer_ms["restart"]], [gate_ms, gate_ms + outer_ms["alone"][-1]]])
        for parameter, hangover in product(GATES[kind].tried, HANGOVERS):  # type: ignore[attr-defined]
            policy = GATES[kind](parameter, shut=SILENT, open=OPEN, hangover=hangover)
            modes, in_talk = policy(woken), (policy(trial.talk) > SILENT).astype(np.int64)
            told = [("off", "open")[mode] for mode in modes]
            ms, in_talk_ms = spent_ms(modes, table), spent_ms(in_talk, table)
            name = f"{parameter:g}, {_stays(hangover)}"
            yield Choice(kind, name, told, woken.scores_of(modes), ms, in_talk_ms)


def points(trial: Trial, outer_ms: Row) -> Row:
    """Every choice at the same false alarms: its point, and how much more it misses than the dearest mode always on."""
    rng = np.random.default_rng(trial.seed)
    found, reference, by_share = [], None, []
    for choice in choices(trial, outer_ms):  # hundreds, each as long as the stream: none is kept
        sweep = trial.sweep(choice.scores)
        place = at_false_alarms(sweep, ALARMS_PER_HOUR)
        point = pareto_point(
            choice.kind, choice.parameter, sweep, place, choice.modes, choice.ms, HOP_MS, trial.speakers, rng
        )
        if choice.kind == "static":
            reference = (sweep.missed[place], point)  # the last one is that of all gates open
        if _is_ours(point):
            by_share = _by_share(trial, choice)
        found.append((point, sweep.missed[place], float(choice.talk_ms.mean()) * 1000 / HOP_MS))
    assert reference is not None
    return {
        "rows": [
            {
                **point.facts(),
                "talk_ms_per_second": talk_ms_per_second,
                "more_missed": missed_more(missed, reference[0], trial.speakers, rng),
                "more_delay_ms": _more_delay(point, reference[1]),
            }
            for point, missed, talk_ms_per_second in found
        ],
        "by_share": by_share,
        "words": len(trial.speakers),
        "hours": STREAM_S / 3600,
        "outer_ms": outer_ms,
    }


def _is_ours(point: ParetoPoint) -> bool:
    """Whether it is the controller as it was taught."""
    return point.name == "learned" and point.parameter == 0


def _by_share(trial: Trial, choice: Choice) -> list[Row]:
    """ms of the stream's hops by how much of their window is word; minutes belong together."""
    shares = hop_labels(trial.said, trial.heard.hops, HOP)[1]
    minutes = [str(hop * HOP_MS // 60_000) for hop in range(trial.heard.hops)]
    return cost_by_share(shares, choice.ms, minutes, np.random.default_rng(trial.seed))


def _more_delay(point: ParetoPoint, reference: ParetoPoint) -> float | None:
    return None if point.delay_ms is None or reference.delay_ms is None else point.delay_ms - reference.delay_ms

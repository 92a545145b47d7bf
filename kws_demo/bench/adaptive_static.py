"""Static listeners on a trial's stream: trained on its data, of several sizes and hops, and always on."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from exporters.listener import Listener
from exporters.metadata import default_decision
from exporters.onnx import to_onnx, with_properties
from kws_demo.bench.adaptive_costs import CALLS
from kws_demo.bench.adaptive_gated import ALARMS_PER_HOUR, THRESHOLDS, Trial
from kws_demo.calibrate import calibrate
from kws_demo.decide import Decision
from kws_demo.operating_points import Sweep, at_false_alarms, missed_more, misses_and_alarms, pareto_point
from kws_demo.train import Speech
from profilers.clock import time_paced
from profilers.listener_metadata import listener_metadata
from profilers.target import LocalTarget
from toolkit.files import write_bytes
from toolkit.graph import Architecture
from toolkit.progress import progress
from toolkit.run import Selected, append_log, load_selected, save_selected
from toolkit.spaces import SAMPLES_PER_MS, find_space
from toolkit.training import Plan, quick_in_bfloat16, train

MINUTES, LARGE_MINUTES = 3.0, 10.0  # of training on one core: 25 epochs or more, as the adaptive listener has
MOST_EPOCHS = 600
CNN_RATE = 1e-3  # its dense layer has a million weights
BATCH_NORM_BATCHES = 16
# Of kws-ds: one entry, three separable layers at the coarse resolution.
SMALL = frozenset({
    "mel-coarse0-conv9",
    *(f"coarse{depth}-coarse{depth + 1}-separable3" for depth in range(3)),
    "coarse3-out-all-bands",
})  # fmt: skip
Row = dict[str, Any]


@dataclass(frozen=True)
class Static:
    """A network that runs whole at every hop.

    Attributes:
        kind: by which it is told from other ways to listen.
        size: what it is called among those of its kind.
        kept: edges of its space; all of them if None.
        minutes: of training.
        bfloat16: large layers train in it where that is quick.
    """

    kind: str
    size: str
    space: str
    hop_ms: int
    kept: Architecture | None = None
    minutes: float = MINUTES
    learning_rate: float = Plan.learning_rate
    bfloat16: bool = False

    @property
    def parameter(self) -> str:
        """What tells it from others of its kind."""
        return f"{self.space} {self.size}, hop {self.hop_ms} ms"

    @property
    def folder(self) -> Path:
        """Of its run, in that of the trial."""
        return Path("static", f"{self.space}-{self.size}-{self.hop_ms}-{self.minutes:g}")


NETWORK, CNN = "static network", "cnn-trad-fpool3"
# 120 ms is the multiple of 40 ms next to 100.
COMPETITORS = (
    Static(NETWORK, "small", "kws-ds", 200, SMALL),
    *(Static(NETWORK, "whole", "kws-coarse", hop_ms) for hop_ms in (120, 200, 400)),
    Static(NETWORK, "whole", "kws-ds", 200, minutes=LARGE_MINUTES),
    Static(CNN, "whole", "kws-cnn-cached", 200, None, LARGE_MINUTES, CNN_RATE, bfloat16=True),
)


def static_points(trial: Trial) -> Row:
    """Every static listener at the same false alarms as all others: rows as `adaptive_gated.points` has them.

    What is trained is kept in the trial's folder, and gone on with.
    """
    rng = np.random.default_rng(trial.seed)
    big = trial.sweep(trial.heard.scores[:, -1])
    minutes = {static.parameter: static.minutes for static in COMPETITORS}
    return {"rows": [_row(trial, static, big, rng) for static in COMPETITORS], "minutes": minutes}


def _row(trial: Trial, static: Static, big: Sweep, rng: np.random.Generator) -> Row:
    """A static listener's point, and how much more it misses than the dearest mode always on."""
    selected = trained(trial, static)
    path = exported(trial, static, selected)
    hop_ms = static.hop_ms
    options: Row = {"hop_ms": hop_ms, "gap_ms": hop_ms, "calls": CALLS}
    timing = time_paced(path, LocalTarget(), title=f"timing {static.parameter}", **options)
    scores = heard_by(Listener.open(path), trial.stream.audio, static.parameter)
    decision = Decision(**selected.facts["decision"])
    sweep = misses_and_alarms(scores, trial.stream.truths, selected.labels, hop_ms, decision, THRESHOLDS)
    place, reference = at_false_alarms(sweep, ALARMS_PER_HOUR), at_false_alarms(big, ALARMS_PER_HOUR)
    modes, ms = ["always"] * len(scores), np.full(len(scores), statistics.median(timing.values_ms))
    point = pareto_point(static.kind, static.parameter, sweep, place, modes, ms, hop_ms, trial.speakers, rng)
    other_ms = _delay_ms(big, reference)
    return {
        **point.facts(),
        "talk_ms_per_second": point.ms_per_second,
        "more_missed": missed_more(sweep.missed[place], big.missed[reference], trial.speakers, rng),
        "more_delay_ms": None if point.delay_ms is None or other_ms is None else point.delay_ms - other_ms,
    }


def _delay_ms(sweep: Sweep, place: int) -> float | None:
    late_ms = sweep.late_ms[place][np.isfinite(sweep.late_ms[place])]
    return float(late_ms.mean()) if len(late_ms) else None


def trained(trial: Trial, static: Static) -> Selected:
    """Its run, made if it is not finished: trained alone, recalibrated and calibrated as a search leaves a network."""
    folder = trial.folder / static.folder
    if (folder / "run.json").exists():
        return load_selected(folder)
    torch.manual_seed(trial.seed)
    labels, hop_ms = trial.data.labels, static.hop_ms
    whole = find_space(static.space).build(len(labels), hop_ms)
    network = whole.select(static.kept or whole.graph.full)
    speech = Speech(trial.data, network.stem, hop_ms * SAMPLES_PER_MS, trial.seed)
    in_bfloat16 = static.bfloat16 and quick_in_bfloat16(speech.device)
    train(
        network,
        speech.training,
        speech.steps,
        Plan(MOST_EPOCHS, static.minutes, static.learning_rate, bfloat16=in_bfloat16),
        speech.loss(),
        title=f"training {static.parameter}",
        seed=trial.seed,
        checkpoint=folder / "checkpoint",
        log=lambda row: append_log(folder, row),
    )
    speech.recalibrate(network, batches=BATCH_NORM_BATCHES)
    decision = default_decision(hop_ms)
    calibration = calibrate(network, speech, int(decision["average_ms"] // hop_ms) + 1)
    facts = {
        "space": static.space,
        "seed": trial.seed,
        "budget": "none",
        "data": trial.data.description,
        "calibration": calibration.facts(),
        "decision": {**decision, "threshold": calibration.threshold},
    }
    save_selected(folder, Selected(network, network.graph.full, labels, hop_ms, facts))
    return load_selected(folder)


def exported(trial: Trial, static: Static, selected: Selected) -> Path:
    """Its file, written anew."""
    model = to_onnx(selected.network, find_space(static.space).shape(static.hop_ms))
    properties = listener_metadata(selected, model, None, trial.profile, 0.0).to_properties()
    path = trial.folder / static.folder / "listener.onnx"
    write_bytes(path, with_properties(model, properties))
    return path


def heard_by(listener: Listener, audio: np.ndarray, name: str) -> np.ndarray:
    """Scores float32 [hops, labels] of a stream [samples], cut to whole hops, as the exported file says them."""
    hop = listener.hop_samples
    hops = audio[: len(audio) // hop * hop].reshape(-1, hop)
    scores = np.zeros((len(hops), len(listener.labels)), np.float32)
    with progress(f"hearing the stream by {name}", len(hops)) as advance:
        for place, block in enumerate(hops):
            scores[place] = listener.push(block).probabilities
            advance(1)
    return scores

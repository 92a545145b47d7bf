"""A short trial of `milliwise bench adaptive`, of a network that was never trained; nothing of it is measured."""

from pathlib import Path

import gated_space
import numpy as np
import torch
from exported import randomise
from word_clips import LABELS, word_data

from kws_demo.bench.adaptive_gated import Trial
from kws_demo.decide import Decision
from kws_demo.gates import Heard
from kws_demo.long_streams import long_stream
from kws_demo.sinks import sinks_of
from profilers.modes import ModeCosts
from toolkit.run import Selected

NAMED_MS = dict(zip(gated_space.MODES, (0.5, 2.0, 1.0, 9.0, 3.0, 11.0, 10.0, 5.0, 4.0), strict=True))
HOP = 3200


def trial() -> Trial:
    """Two minutes of tones, and one without, by a small space with the gates of `kws-gated`."""
    torch.manual_seed(0)
    adaptive = gated_space.space().adaptive(len(LABELS)).eval()
    randomise(adaptive.network)
    made = Trial(Path(), Path(), 0, 1.0, gated_space.profile(gated_space.space()), "6 ms mean")
    facts = {"modes": ModeCosts(NAMED_MS, 200).facts(), "decision": vars(Decision()), "budget": made.budget}
    stream = long_stream(word_data([0, 1, 2, 3] * 4).test, LABELS, (), 120.0, 0.1, 0)
    made.__dict__.update(
        selected=Selected(adaptive.network, adaptive.graph.full, LABELS, 200, {**facts, "space": "gated"}, adaptive),
        data=word_data([0, 1, 2, 3] * 4),
        stream=stream,
    )
    noise = np.random.default_rng(1).normal(0, 0.01, 60 * 16_000).astype(np.float32)
    made.__dict__["talk"] = Heard.by(adaptive, noise, HOP, sinks_of(adaptive, torch.from_numpy(noise), HOP))
    return made

"""The report of a search: one static HTML page that opens without a network, a script or another file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kws_demo import report_header as header
from kws_demo import report_tables as tables
from kws_demo.drawings import budget as budget_drawings
from kws_demo.drawings import latency, network, training
from kws_demo.drawings import stream as stream_drawing
from kws_demo.drawings.svg import FULL, HALF, plain
from kws_demo.drawings.values import UNMEASURED, at, number, show_ms, show_share, texts
from kws_demo.report_style import style_sheet
from toolkit.budget import Budget
from toolkit.errors import MilliwiseError
from toolkit.files import write_bytes
from toolkit.graph import Architecture, Graph
from toolkit.profile import DeviceProfile
from toolkit.spaces import built_in

Facts = Mapping[str, Any]
# Should a text ever slip past the escaping, the browser still neither runs nor fetches anything.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
CONTENTS = {
    "asked": "Budget",
    "stream": "Listening",
    "pareto": "Candidates",
    "network": "Network",
    "held-out": "Prediction",
    "milliseconds": "Milliseconds",
    "training": "Training",
    "confusion": "Confusion",
    "seconds": "Time",
    "device": "Device",
    "run": "Run",
    "use": "Use it",
}


def write_report(
    path: Path, *, profile: DeviceProfile, run: Facts, log: Sequence[Facts], stream: Facts | None = None
) -> None:
    """Write the page.

    Args:
        path: of the HTML file.
        profile: of the device that the search was for.
        run: content of `run.json`; whatever it lacks is said to be not measured.
        log: rows of `log.jsonl`.
        stream: what the exported file heard in a recording: wav, seconds, hop_ms, labels, scores (a row per hop),
            level (0-1, evenly over the recording), detections and truth (keyword, start_s), threshold, ms_per_second,
            p99_ms; and window_ms, where a score judges another stretch than a second.

    Raises:
        MilliwiseError: the file cannot be written.
    """
    write_bytes(path, page(profile, run, log, stream).encode("utf-8", "replace"))


def page(profile: DeviceProfile, run: Facts, log: Sequence[Facts], stream: Facts | None) -> str:
    """The whole page as HTML."""
    search = _Search.read(profile, run)
    links = " ".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in CONTENTS.items())
    return "".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{header.title(run, search.statistic)}</title><style>{style_sheet()}</style></head><body><main>",
            header.verdict(profile, run, search.statistic),
            header.tiles(profile, run),
            f"<nav>{links}</nav>",
            _budget_section(search),
            _stream_section(stream),
            _pareto_section(search),
            _network_section(search),
            _pair(_held_out_section(profile), _milliseconds_section(search)),
            _training_section(log, search),
            _pair(_confusion_section(run), _section("seconds", "Where the time went", "", tables.seconds(run))),
            _pair(
                _section("device", "The device", "", tables.device(profile)),
                _section("run", "The run", "", tables.about(run)),
            ),
            _section("use", "Use it", "", tables.usage(run)),
            "<footer>Made by milliwise. Every figure is of this run; a missing one is said to be missing.</footer>",
            "</main></body></html>\n",
        ]
    )


@dataclass(frozen=True)
class _Search:
    """What several sections need: the graph is None where the run's space is not known here as it was then."""

    profile: DeviceProfile
    run: Facts
    graph: Graph | None
    live: Architecture
    limit_ms: float | None
    statistic: str

    @classmethod
    def read(cls, profile: DeviceProfile, run: Facts) -> _Search:
        graph, kept = _graph(profile, run), texts(run, "kept")
        live = graph.live(kept) if graph and graph.full.issuperset(kept) else frozenset()
        try:
            budget = Budget.parse(str(run.get("budget")))
        except MilliwiseError:
            return cls(profile, run, graph, live, None, "p95")
        limit_ms = budget.limit if budget.metric == "latency_ms" else None
        return cls(profile, run, graph, live, limit_ms, budget.statistic or "p95")


def _graph(profile: DeviceProfile, run: Facts) -> Graph | None:
    try:
        space = built_in(str(run.get("space") or profile.space))
        if space is None:
            return None
        graph = space.build(max(1, len(texts(run, "labels"))), profile.hop_ms).graph
    except MilliwiseError:  # no hop of this space
        return None
    return graph if graph.digest() == profile.digest else None


def _section(anchor: str, heading: str, lead: str, body: str | None) -> str:
    """A titled part of the page; without a body it says that there is nothing to show."""
    explained = f'<p class="lead">{lead}</p>' if lead and body else ""
    shown = body or f'<p class="absent-note">{UNMEASURED}</p>'
    shown = f"<figure>{shown}</figure>" if shown.startswith("<svg") else shown
    return f'<section id="{anchor}"><h2>{heading}</h2>{explained}{shown}</section>'


def _pair(*parts: str) -> str:
    return f'<div class="pair">{"".join(parts)}</div>'


def _budget_section(search: _Search) -> str:
    lead = (
        "Measured means the whole exported file, front-end included, called once per hop in fresh processes. "
        "The budget is kept when even the upper 95 % confidence bound (the whisker) is below the limit."
    )
    drawing = budget_drawings.asked_against_measured(search.run, search.limit_ms, search.statistic)
    return _section("asked", "Asked against measured", lead, drawing)


def _stream_section(stream: Facts | None) -> str:
    heading = "What it heard"
    heard = stream_drawing.read_stream(stream) if stream else None
    if stream is None or heard is None:
        return _section("stream", heading, "", None)
    name = PurePosixPath(str(stream.get("wav") or "a recording")).name
    lead = (
        f"The exported file listening to {plain(name, 60)}. A word is heard when its score, averaged over time, passes "
        "the threshold; a score stands where the stretch of sound that it judges begins."
    )
    said = "" if at(stream, "truth") is None else f", {len(heard.truth)} words said"
    per_second, slowest = number(stream, "ms_per_second"), number(stream, "p99_ms")
    told = [f"{len(heard.detections)} detections in {heard.seconds:.0f} s of sound{said}."]
    if per_second is not None:
        told.append(f"Listening took {show_ms(per_second)} per second of sound, {per_second / 10:.2f} % of a core.")
    if slowest is not None:
        told.append(f"99 of 100 hops were done in {show_ms(slowest)}.")
    if heard.seconds > stream_drawing.MOST_SECONDS:
        told.append(f"Drawn are the first {stream_drawing.MOST_SECONDS} s.")
    caption = f"<figcaption>{' '.join(told)}</figcaption>"
    return _section("stream", heading, lead, f"<figure>{stream_drawing.timeline(heard)}{caption}</figure>")


def _pareto_section(search: _Search) -> str:
    lead = (
        "A hollow dot is a candidate as the search saw it: cost predicted from the profile, accuracy with the shared "
        "weights. The most promising were measured on the device and, if they kept the budget, fine-tuned: a line "
        "leads to where each of them came out."
    )
    return _section("pareto", "What could have been chosen", lead, budget_drawings.pareto(search.run, search.limit_ms))


def _network_section(search: _Search) -> str:
    heading, graph = "The chosen network in its super-network", search.graph
    if graph is None:
        return _section("network", heading, "", None)
    lead = (
        f"The super-network has {len(graph.edges)} edges; {len(search.live)} of them are in the exported file. Sound "
        "enters on the left and scores leave on the right. A used edge is as thick and as hot as it is slow on this "
        "device."
    )
    return _section("network", heading, lead, network.network(graph, search.live, search.profile.edges))


def _held_out_section(profile: DeviceProfile) -> str:
    found = profile.held_out
    if found.mape is None or found.within_5 is None or found.within_10 is None or found.spearman is None:
        return _section("held-out", "Predicted against measured", "No network was held out.", None)
    lead = (
        f"{found.nets} networks that took no part in fitting the latency model: mean error {show_share(found.mape)}, "
        f"{100 * found.within_5:.0f} % within 5 %, {100 * found.within_10:.0f} % within 10 %, "
        f"rank correlation {found.spearman:.3f}."
    )
    return _section("held-out", "Predicted against measured", lead, latency.held_out(profile))


def _milliseconds_section(search: _Search) -> str:
    lead = (
        "The predicted cost of the chosen network, part by part. The last part is what a call costs more when the "
        "device rests between hops."
    )
    drawing = latency.milliseconds(search.profile, search.graph, search.live) if search.graph else None
    return _section("milliseconds", "Where the milliseconds go", lead, drawing)


def _training_section(log: Sequence[Facts], search: _Search) -> str:
    lead = (
        "Loss on the training data: first of sub-networks of the super-network, then of the extracted candidates, "
        "fine-tuned one by one."
    )
    rows = [row for row in log if isinstance(row, Mapping)]
    stages = list(dict.fromkeys(str(row.get("stage")) for row in rows if number(row, "loss") is not None))
    groups = (stages[:1], stages[1:])
    width = HALF if len(stages) > 1 else FULL
    curves = [training.losses([row for row in rows if str(row.get("stage")) in group], width) for group in groups]
    body = "".join(f"<figure>{curve}</figure>" for curve in curves if curve)
    body = _pair(body) if len(stages) > 1 else body
    order = [edge.name for edge in search.graph.ordered] if search.graph else []
    if heat := training.probabilities(rows, order, search.live):
        told = (
            "The search learns with which probability each edge should be there. Names in bold are the edges of the "
            "chosen network."
        )
        body += f'<p class="lead">{told}</p><figure>{heat}</figure>'
    return _section("training", "How it was trained", lead, body)


def _confusion_section(run: Facts) -> str:
    lead = "Test clips: what was said is a row, what was heard a column; a good listener has a green diagonal."
    drawing = training.confusion(texts(run, "labels"), at(run, "accuracy", "confusion"))
    return _section("confusion", "What it confuses", lead, drawing)

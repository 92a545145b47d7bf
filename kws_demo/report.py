"""The report of a search: one static HTML page that opens without a network, a script or another file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from kws_demo import report_architecture as architecture
from kws_demo import report_header as header
from kws_demo import report_tables as tables
from kws_demo.drawings import adaptive, latency, network, training
from kws_demo.drawings import budget as budget_drawings
from kws_demo.drawings import stream as stream_drawing
from kws_demo.drawings.svg import FULL, HALF, plain
from kws_demo.drawings.values import at, number, show_ms, show_share, texts
from kws_demo.report_page import html_page, section
from kws_demo.report_search import Facts, Search
from toolkit.budget import AVERAGED, TIMED
from toolkit.files import write_bytes
from toolkit.profile import DeviceProfile
from toolkit.spaces import Space

ADAPTIVE = (
    "This listener chooses its network anew at every hop: it has modes, which cost as much as is said here, and no "
    "candidates. So no single architecture is drawn by its cost; milliwise bench adaptive draws what its choices bring."
)
CONTENTS = {
    "asked": "Budget",
    "stream": "Listening",
    "pareto": "Candidates",
    "network": "Network",
    "architecture": "Architecture",
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
    path: Path,
    *,
    profile: DeviceProfile,
    run: Facts,
    log: Sequence[Facts],
    stream: Facts | None = None,
    space: Space | None = None,
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
        space: of the run, where it is the user's own.

    Raises:
        MilliwiseError: the file cannot be written.
    """
    write_bytes(path, page(profile, run, log, stream, space).encode("utf-8", "replace"))


def page(
    profile: DeviceProfile, run: Facts, log: Sequence[Facts], stream: Facts | None, space: Space | None = None
) -> str:
    """The whole page as HTML."""
    search = Search.read(profile, run, space)
    left_out = {"stream"} if search.sees or stream is None else set()
    left_out |= {"network"} if search.sees or search.adaptive else set()
    links = " ".join(f'<a href="#{anchor}">{name}</a>' for anchor, name in CONTENTS.items() if anchor not in left_out)
    parts = [
        header.verdict(profile, run, search.statistic, search.sees),
        header.tiles(profile, run, search.sees),
        f"<nav>{links}</nav>",
        _budget_section(search),
        "" if "stream" in left_out else _stream_section(stream),
        _pareto_section(search),
        "" if "network" in left_out else _network_section(search),
        _architecture_section(search),
        _pair(_held_out_section(profile), _milliseconds_section(search)),
        _training_section(log, search),
        _pair(_confusion_section(search), section("seconds", "Where the time went", "", tables.seconds(run))),
        _pair(
            section("device", "The device", "", tables.device(profile)),
            section("run", "The run", "", tables.about(run)),
        ),
        section("use", "Use it", "", tables.usage(run, search.sees)),
    ]
    return html_page(header.title(run, search.statistic), parts, "run")


def _pair(*parts: str) -> str:
    return f'<div class="pair">{"".join(parts)}</div>'


def _budget_section(search: Search) -> str:
    lead = (
        "Measured means the whole exported file, front-end included, called once per hop in fresh processes. "
        "The budget is kept when even the upper 95 % confidence bound (the whisker) is below the limit."
    )
    if search.adaptive or (search.budget and search.limit_ms is None):
        return section("asked", "Asked against found", "", f"<p>{header.found(search.run, search.statistic)}.</p>")
    drawing = budget_drawings.asked_against_measured(search.run, search.limit_ms, search.statistic)
    return section("asked", "Asked against measured", lead, drawing)


def _stream_section(stream: Facts | None) -> str:
    heading = "What it heard"
    heard = stream_drawing.read_stream(stream) if stream else None
    if stream is None or heard is None:
        return section("stream", heading, "", None)
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
    return section("stream", heading, lead, f"<figure>{stream_drawing.timeline(heard)}{caption}</figure>")


def _pareto_section(search: Search) -> str:
    heading = "What could have been chosen"
    if search.adaptive:
        modes = at(search.run, "modes", "named_ms")
        named = modes.items() if isinstance(modes, Mapping) else ()
        return section("pareto", heading, ADAPTIVE, tables.table((str(n), show_ms(number(modes, n))) for n, _ in named))
    lead = (
        "A hollow dot is a candidate as the search saw it: cost predicted from the profile, accuracy with the shared "
        "weights. The most promising were measured on the device and, if they kept the budget, fine-tuned: a line "
        "leads to where each of them came out."
    )
    if search.metric not in TIMED:
        lead = "A hollow dot is a candidate with the shared weights; a line leads to where fine-tuning brought it. "
        lead += architecture.BILLED
    drawing = budget_drawings.pareto({"pareto": search.candidates()}, search.limit, search.metric)
    return section("pareto", heading, lead, drawing)


def _network_section(search: Search) -> str:
    heading, graph = "The chosen network in its super-network", search.graph
    if graph is None:
        return section("network", heading, "", None)
    lead = (
        f"The super-network has {len(graph.edges)} edges; {len(search.live)} of them are in the exported file. Sound "
        "enters on the left and scores leave on the right. A used edge is as thick and as hot as it is slow on this "
        "device."
    )
    return section("network", heading, lead, network.network(graph, search.live, search.profile.edges))


def _architecture_section(search: Search) -> str:
    heading = "The architecture by its cost"
    if search.graph is None or not search.live or search.adaptive:
        why = "Its edges are chosen anew at every hop." if search.adaptive else None
        return section("architecture", heading, "", why and f"<p>{why}</p>")
    found = architecture.views(search.graph, search.live, search.profile, search.edge_costs)
    return section("architecture", heading, architecture.LEAD, architecture.figures(found))


def _held_out_section(profile: DeviceProfile) -> str:
    found = profile.held_out
    if found.mape is None or found.within_5 is None or found.within_10 is None or found.spearman is None:
        return section("held-out", "Predicted against measured", "No network was held out.", None)
    lead = (
        f"{found.nets} networks that took no part in fitting the latency model: mean error {show_share(found.mape)}, "
        f"{100 * found.within_5:.0f} % within 5 %, {100 * found.within_10:.0f} % within 10 %, "
        f"rank correlation {found.spearman:.3f}."
    )
    return section("held-out", "Predicted against measured", lead, latency.held_out(profile))


def _milliseconds_section(search: Search) -> str:
    lead = (
        "The predicted cost of the chosen network, part by part. The last part is what a call costs more when the "
        "device rests between hops."
    )
    drawing = latency.milliseconds(search.profile, search.graph, search.live) if search.graph else None
    return section("milliseconds", "Where the milliseconds go", lead, drawing)


def _training_section(log: Sequence[Facts], search: Search) -> str:
    lead = (
        "Loss on the training data: first of sub-networks of the super-network, then of the extracted candidates, "
        "fine-tuned one by one."
    )
    told = [row for row in log if isinstance(row, Mapping)]
    stages = list(dict.fromkeys(str(row.get("stage")) for row in told if number(row, "loss") is not None))
    learnt = training.learning(told, search.limit, search.form)  # which has the loss of the first
    groups = [group for group in ([] if learnt else stages[:1], stages[1:]) if group]
    width = HALF if len(groups) > 1 else FULL
    curves = [training.losses([row for row in told if str(row.get("stage")) in group], width) for group in groups]
    body = "".join(f"<figure>{curve}</figure>" for curve in curves if curve)
    body = _pair(body) if len(groups) > 1 else body
    drawn = (adaptive.cost_by_label(told, texts(search.run, "labels"), metric) for metric in AVERAGED)
    by_label = next(filter(None, drawn), None)
    body = (
        (f"<figure>{learnt}</figure>" if learnt else "") + body + (f"<figure>{by_label}</figure>" if by_label else "")
    )
    order = [edge.name for edge in search.graph.ordered] if search.graph else []
    if heat := training.probabilities(told, order, search.live):
        explained = (
            "The search learns with which probability each edge should be there. Names in bold are the edges of the "
            "chosen network."
        )
        body += f'<p class="lead">{explained}</p><figure>{heat}</figure>'
    return section("training", "How it was trained", lead, body)


def _confusion_section(search: Search) -> str:
    lead = "Test clips: what was said is a row, what was heard a column; a good listener has a green diagonal."
    names = ("said", "heard")
    if search.sees:
        lead, names = (
            f"Test {header.seen(search.run)}: what they show is a row, what they were taken for a column.",
            ("shown", "taken for"),
        )
    drawing = training.confusion(texts(search.run, "labels"), at(search.run, "accuracy", "confusion"), *names)
    return section("confusion", "What it confuses", lead, drawing)

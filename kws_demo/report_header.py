"""The head of the report: asked against measured in one sentence, and the figures a user looks for first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from kws_demo.decide import is_keyword
from kws_demo.drawings.budget import upper_ms
from kws_demo.drawings.svg import plain
from kws_demo.drawings.values import UNMEASURED, at, number, rows, show_bytes, show_ms, show_share, texts
from toolkit.profile import DeviceProfile

Facts = Mapping[str, Any]
VERDICTS = {True: ("kept", "kept"), False: ("exceeded", "exceeded"), None: ("", "not decided")}  # style, word
OF_LISTENERS = ("Between the words", "Load of a core")  # tiles
NOISY = "The machine was busy while this was measured: the figures may be too high. Measure again when it rests."


def title(run: Facts, statistic: str) -> str:
    """Of the browser's window."""
    told = found(run, statistic)
    return f"milliwise: {told[0].lower()}{told[1:]}"


def verdict(profile: DeviceProfile, run: Facts, statistic: str, sees: bool = False) -> str:
    """What was asked, what was measured (or counted, if the budget is not of time), and whether that keeps it."""
    style, word = VERDICTS[_is_kept(run)]
    device = plain(profile.fingerprint.get("cpu_model") or "this device", 80)
    headline = found(run, statistic)
    kind, does, parts = ("keyword listener", "listens for", "clips")
    words = plain(", ".join(filter(is_keyword, texts(run, "labels"))) or "words", 160)
    if sees:
        kind, does = "network that sees", "tells apart"
        words = plain(", ".join(texts(run, "labels")) or "images", 160)
        parts = seen(run)
    right = show_share(number(run, "accuracy", "test"))
    noisy = f"<p>{NOISY}</p>" if at(run, "measured", "noisy") is True else ""
    return (
        f'<header class="verdict {style}"><p class="eyebrow">milliwise · a {kind} for {device}</p>'
        f"<h1>{headline.replace(' ms', '&nbsp;ms')}: <b>{word}</b></h1>"
        f"<p>It {does} {words}. Right on test {parts} that it was not trained on: {right}.</p>{noisy}</header>"
    )


def tiles(profile: DeviceProfile, run: Facts, sees: bool = False) -> str:
    """Accuracy, time, size and device at a glance."""
    accuracy, measured = at(run, "accuracy"), at(run, "measured")
    clips, calls = number(accuracy, "test_clips"), number(measured, "calls")
    name = PurePosixPath(str(at(run, "model", "file") or "not exported")).name
    parts = "images" if sees else "clips"
    judged = seen(run) if sees else parts
    shown = (
        (
            f"Accuracy on test {judged}",
            show_share(number(accuracy, "test"), number(accuracy, "test_error")),
            "" if clips is None else f"{clips:g} {parts}",
        ),
        ("Between the words", show_share(number(accuracy, "between_words")), "leaving unknown and silence out"),
        (
            "A typical call" if sees else "A typical hop",
            show_ms(number(measured, "p50_ms")),
            "" if calls is None else f"p50 of {calls:g} calls",
        ),
        ("Load of a core", _load(run), "a hop at a time, in real time"),
        ("One file", show_bytes(number(run, "model", "bytes")), plain(name, 60)),
        ("Device", f"{profile.threads} thread{'s' * (profile.threads != 1)}", plain(profile.target, 60)),
    )
    return "".join(
        [
            '<div class="tiles">',
            *(
                f'<div class="tile"><span>{n}</span><strong>{v}</strong><small>{more}</small></div>'
                for n, v, more in shown
                if not (sees and n in OF_LISTENERS)
            ),
            "</div>",
        ]
    )


def seen(run: Facts) -> str:
    """What an accuracy of images is a share of."""
    return "images' pixels" if run.get("task") == "segment" else "images"


def _is_kept(run: Facts) -> bool | None:
    """Whether the budget is kept: as measured, or, for one that is not of time, as counted."""
    chosen = (row.get("fits") for row in rows(run, "pareto") if row.get("chosen") is True)
    kept = at(run, "measured", "kept") if at(run, "measured") else next(chosen, None)
    return kept if isinstance(kept, bool) else None


def found(run: Facts, statistic: str) -> str:
    """What was asked, and what was measured, counted, or found on streams."""
    return f"Asked {plain(run.get('budget') or 'nothing', 40)}, {_found(run, statistic)}"


def _found(run: Facts, statistic: str) -> str:
    measured, upper = number(run, "measured", f"{statistic}_ms"), upper_ms(run, statistic, statistic)
    mean = number(run, "streams", "mean_ms")
    makespan, workers = number(run, "measured", "makespan_ms"), number(run, "measured", "workers")
    if makespan is not None and workers is not None:
        most = show_ms(number(run, "measured", "makespan_upper_ms"))
        return f"measured {show_ms(makespan)} on {workers:g} workers (upper bound {most})"
    if measured is None and statistic == "mean" and mean is not None:
        return f"predicted over streams of test clips {show_ms(mean)}"
    if measured is None:
        return f"counted {plain(run['cost'], 40)}" if run.get("cost") else UNMEASURED
    bound = "" if upper is None else f" (upper bound {show_ms(upper)})"
    return f"measured {statistic} {show_ms(measured)}{bound}"


def _load(run: Facts) -> str:
    measured = number(run, "measured", "p50_ms")
    hop_ms = number(run, "measured", "hop_ms") or number(run, "hop_ms")
    return UNMEASURED if measured is None or not hop_ms else f"{100 * measured / hop_ms:.2f} %"

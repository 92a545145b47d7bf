"""The figures of `milliwise score`: as JSON, and as the lines people read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kws_demo import score
from kws_demo.intervals import rate_interval, rate_upper, share_interval
from kws_demo.labels import Truth
from kws_demo.transcript import Transcript

MS_PER_HOUR = 3_600_000
MAX_VARIATION = 0.02  # of the period: MLPerf warns above it
Figures = dict[str, Any]


def figures(heard: Transcript, truths: Sequence[Truth], tolerance_ms: float, window_ms: float) -> Figures:
    """Everything that can be said of a transcript, given the words of the recording in order; JSON values.

    Shares are fractions 0-1 of the number of words; null where there is nothing to divide by.
    """
    verdicts = score.verdicts(heard.found, truths, tolerance_ms)
    counted = score.count_verdicts(verdicts, truths)
    return {
        **_shares(counted),
        **_keyword_figures(heard, truths, tolerance_ms, window_ms),
        "ms_per_second": round(heard.summary.ms_per_second, 4),
        "p99_ms": round(heard.summary.p99_ms, 4),
        "modes": heard.modes,
        "truths": len(truths),
        "hours": heard.summary.seconds / 3600,
        "tolerance_ms": tolerance_ms,
        "mlperf": _mlperf(heard, truths, window_ms),
        "found": [
            {
                "word": each.word,
                "start_s": round(each.start_ms / 1000, 4),
                "announced_s": round((each.start_ms + window_ms) / 1000, 4),
                "score": round(each.score, 4),
                "verdict": verdict.kind,
            }
            for each, verdict in zip(heard.found, verdicts, strict=True)
        ],
    }


def lines(result: Figures) -> str:
    """The same for people."""
    only = result["keywords_only"]
    told = [
        f"{result['truths']} words, {len(result['found'])} found in {_hours(result['hours'])}",
        f"all labels     {_warden(result)}",
        f"keywords only  {_warden(only)}",
        f"missed         {_missed(result)}",
        f"false alarms   {false_alarm_line(result['false_alarms'], result['hours_without_keywords'])}"
        " of audio without keywords",
        f"delay          {_delay(result)}",
        f"MLPerf rule    {_mlperf_line(result['mlperf'])}",
        f"cost           {result['ms_per_second']:.2f} ms of work per second of audio,"
        f" 99 % of hops within {result['p99_ms']:.2f} ms",
    ]
    if modes := result["modes"]:
        shares = (f"{name} {100 * hops / sum(modes.values()):.1f} %" for name, hops in modes.items())
        told.append(f"modes          {', '.join(shares)}")
    return "\n".join(told)


def false_alarm_line(alarms: int, hours: float) -> str:
    """A rate only as far as the hours support it: "0 in 0.4 h: at most 7.5 an hour (95 %)"."""
    counted = f"{alarms} in {_hours(hours)}"
    if hours <= 0:
        return counted
    rate = "" if alarms == 0 else f"{_figure(alarms / hours)} an hour, "
    return f"{counted}: {rate}at most {_figure(rate_upper(alarms, hours))} an hour (95 %)"


def _shares(counted: score.Warden) -> Figures:
    counts = {name: getattr(counted, name) for name in ("truths", "correct", "wrong", "false_alarm", "distinct")}
    return {**counted.shares(), "counts": counts}


def _keyword_figures(heard: Transcript, truths: Sequence[Truth], tolerance_ms: float, window_ms: float) -> Figures:
    found, said = score.keyword_found(heard.found), score.keyword_truths(truths)
    pairs = score.nearest_pairs(found, said, tolerance_ms)
    alarms = score.false_alarms(found, said, tolerance_ms)
    duration_ms = 1000 * heard.summary.seconds
    hours = score.free_ms(said, tolerance_ms, duration_ms) / MS_PER_HOUR
    delay_ms, delays = score.delay_ms(found, said, pairs, window_ms)
    missed = len(said) - len(pairs)
    return {
        "frr": score.share(missed, len(said)),
        "frr_interval": share_interval(missed, len(said)) if said else None,
        "fa_per_hour": len(alarms) / hours if hours else None,
        "fa_upper": rate_upper(len(alarms), hours) if hours else None,
        "fa_interval": rate_interval(len(alarms), hours) if hours else None,
        "delay_ms": delay_ms,
        "delays": delays,
        "hours_without_keywords": hours,
        "keyword_truths": len(said),
        "hits": len(pairs),
        "misses": missed,
        "false_alarms": len(alarms),
        "repeated_or_confused": len(found) - len(pairs) - len(alarms),
        "keywords_only": _shares(score.count_verdicts(score.verdicts(found, said, tolerance_ms), said)),
        "keywords": {
            word: {
                "truths": sum(truth.word == word for truth in said),
                "hits": sum(found[place].word == word for place in pairs),
                "false_alarms": sum(alarm.word == word for alarm in alarms),
            }
            for word in dict.fromkeys([truth.word for truth in said] + [each.word for each in found])
        },
    }


def _mlperf(heard: Transcript, truths: Sequence[Truth], window_ms: float) -> Figures:
    said = score.keyword_truths(truths)
    return {
        **score.wake_word(score.keyword_found(heard.found), said, window_ms)._asdict(),
        "assumed_ends": sum(truth.end_ms is None for truth in said),
        "duty_cycle": heard.summary.ms_per_second / 1000,
        "period_variation": heard.period_variation,
        "uneven": None if heard.period_variation is None else heard.period_variation > MAX_VARIATION,
    }


def _warden(shares: Figures) -> str:
    if shares["matched"] is None:
        return f"no words to match; {shares['counts']['false_alarm']} false alarms"
    names = ("matched", "correct", "wrong", "false_alarm")
    told = ", ".join(f"{name.replace('_', ' ')} {100 * shares[name]:.1f} %" for name in names)
    return f"{told} of {shares['counts']['truths']}; words matched, each once: {100 * shares['matched_set']:.1f} %"


def _missed(result: Figures) -> str:
    if result["frr"] is None:
        return "no keyword was said"
    low, high = result["frr_interval"]
    of_all = f"{result['misses']} of {result['keyword_truths']}"
    return f"{of_all} keywords: {100 * result['frr']:.1f} % (95 %: {100 * low:.1f} to {100 * high:.1f} %)"


def _delay(result: Figures) -> str:
    if result["delay_ms"] is None:
        return "unknown: no word that was found has an end (a third column of the labels)"
    return f"{result['delay_ms']:.0f} ms from the end of the word, median of {result['delays']}"


def _mlperf_line(mlperf: Figures) -> str:
    counts = f"{mlperf['true_positives']} heard, {mlperf['false_negatives']} missed, {mlperf['false_positives']} false"
    told = f"{counts}; duty cycle {100 * mlperf['duty_cycle']:.2f} %"
    if mlperf["assumed_ends"]:
        told += f"; the ends of {mlperf['assumed_ends']} words are not known: start + window"
    if mlperf["period_variation"] is not None:
        told += f"; periods vary by {100 * mlperf['period_variation']:.1f} %"
    return told + (" (warning: more than 2 %)" if mlperf["uneven"] else "")


def _hours(hours: float) -> str:
    return f"{_figure(hours)} h"


def _figure(number: float) -> str:
    """Two digits, or all before the point."""
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"

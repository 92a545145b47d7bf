"""Everything that is timed for a profile, in its order, and the latency model that follows from it."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from profilers.bundle import BundleTarget
from profilers.latency import COPIES, Fitted, conformal_bound, fit, paced_lines, priors, relative_line, spearman
from profilers.memory import fit_memory, judge_memory
from profilers.plan import EMPTY, Networks, Plan, spread
from profilers.session import Session
from toolkit.costs import planned_memory
from toolkit.errors import MilliwiseError
from toolkit.graph import Architecture
from toolkit.memory import MemoryModel
from toolkit.profile import Bound, DeviceProfile, HeldOut, LatencyModel, Line
from toolkit.progress import progress

SHORT_GAP_MS = 50.0
LEAST_WEIGHED = 5  # networks: three to fit the memory model on


class Measured:
    """What was timed of a plan: the edges in context, then random networks of those that could be, then whole files.

    Attributes:
        failed: edge to reason.
        table_seconds: how long everything took that the table is made of; what it is judged on comes last.
        memory_bytes: of some networks, what a fresh process grows by.
        paced: of each of `networks.paced`, the calls at the shortened gap and at the hop.
    """

    def __init__(self, plan: Plan, session: Session, clock: str, hop_ms: int) -> None:
        self.plan, self.session, self.clock, self.hop_ms = plan, session, clock, hop_ms
        self.gap_ms = min(SHORT_GAP_MS, float(hop_ms))
        if clock == "tight":
            session.anchors = plan.anchors()
        self._time("edges in context", plan.edges.items, len(plan.edges))
        if EMPTY in session.failures:
            raise MilliwiseError(f"the target does not run even an empty model: {session.failures[EMPTY]}")
        self.failed = plan.failed(session.failures)
        # A bundle was asked for before anything could fail: `timed` drops the networks of edges that did.
        carried = isinstance(session.target, BundleTarget)
        self.networks: Networks = plan.networks(() if carried else self.failed)
        table, judging = self.networks.fitted, (*self.networks.calibrating, *self.networks.held_out)
        self.names = {kept: f"network {index}" for index, kept in enumerate((*table, *judging))}
        if clock == "tight":
            self._time("whole files", self._whole_files, len(self.networks.paced))
            self._time("networks of the table", functools.partial(self._bodies, table), len(table))
        else:  # a cache that others use, too, changes from minute to minute: what is compared is timed by turns
            mixed = random.Random(plan.seed).sample([*table, *judging], len(table) + len(judging))
            self._time("networks", functools.partial(self._bodies, mixed), len(mixed))
        self.paced = list(self._pace())
        self.table_seconds = session.parts.keep("table seconds", lambda: session.parts.seconds)
        if clock == "tight":
            self._time("networks to judge it by", functools.partial(self._bodies, judging), len(judging))
        self.memory_bytes = dict(self._remember())
        session.level()
        if session.put_off:
            raise session.put_off[0]

    def _bodies(self, networks: Sequence[Architecture]) -> Iterator[tuple[str, bytes]]:
        return ((self.names[kept], self.plan.body(kept)) for kept in networks)

    def _whole_files(self) -> Iterator[tuple[str, bytes]]:
        return ((self._whole(index), self.plan.whole(kept)) for index, kept in enumerate(self.networks.paced))

    def _time(self, title: str, models: Callable[[], Iterable[tuple[str, bytes]]], total: int) -> None:
        effort = self.plan.effort
        if self.clock == "tight":
            self.session.tight(title, models(), effort.rounds)
        else:
            self.session.paced(f"{title}: {total} models", models, total, self.gap_ms, effort.paced_calls)

    @staticmethod
    def _whole(index: int) -> str:
        return f"whole {index}"

    def _pace(self) -> Iterator[tuple[tuple[float, ...], tuple[float, ...]]]:
        effort, networks = self.plan.effort, self.networks.paced
        with progress(f"timing {len(networks)} networks at the pace of a stream", len(networks)) as advance:
            for index, kept in enumerate(networks):
                model, name = self.plan.whole(kept), self._whole(index)
                paces = ((self.gap_ms, effort.short_calls), (float(self.hop_ms), effort.hop_calls))
                short, hop = self.session.calls(f"{name} at two paces", model, paces) or ((), ())
                yield short, hop
                advance(1)

    def _remember(self) -> Iterator[tuple[Architecture, int]]:
        """Some networks and how much memory they take; none where the device tells it of no process."""
        chosen = spread((*self.networks.fitted, *self.networks.held_out), self.plan.effort.weighed)
        networks = [kept for kept in chosen if not self.failed.keys() & kept]
        if not networks:
            return
        with progress(f"measuring the memory of {len(networks)} networks", len(networks)) as advance:
            for kept in networks:
                taken = self.session.memory(self.names[kept], self.plan.whole(kept))
                if self.session.no_memory is not None:
                    return
                if taken is not None:
                    yield kept, taken
                advance(1)

    def memory(self, profile: DeviceProfile) -> MemoryModel | None:
        """Fitted on every other network, judged on the rest; None where memory could not be measured, or of too few."""
        graph, found = self.plan.network.graph, list(self.memory_bytes.items())
        planned = [planned_memory(graph, profile, kept) for kept, _taken in found]
        taken = [each for _kept, each in found]
        if len(found) < LEAST_WEIGHED:
            return None
        return judge_memory(fit_memory(planned[::2], taken[::2]), planned[1::2], taken[1::2])

    def unmeasured(self) -> dict[str, str]:
        """What could not be measured beside edges, with the reason."""
        failures = self.session.memory_failures
        return {"no_memory": failures[-1]} if failures and len(self.memory_bytes) < LEAST_WEIGHED else {}

    def ms(self, name: str) -> float:
        return self.session.times[name].ms

    def timed(self, networks: Sequence[Architecture]) -> list[Architecture]:
        """Those that did not fail, nor one of their edges alone."""
        return [kept for kept in networks if self.names[kept] in self.session.times and not self.failed.keys() & kept]

    def prior(self) -> dict[str, float]:
        """ms of every edge before the networks have spoken."""
        times = {name: time.ms for name, time in self.session.times.items()}
        return priors(self.plan.work, times, times[EMPTY])

    def fit(self) -> Fitted:
        networks = self.timed(self.networks.fitted)
        if len(networks) < min(2, len(self.networks.fitted)):
            reason = next(iter(self.session.failures.values()))
            raise MilliwiseError(f"hardly a network of this space runs on the target: {reason}")
        same_as = {name: item.same_as for name, item in self.plan.work.items()}
        times_ms = [self.ms(self.names[kept]) for kept in networks]
        errors_ms = self._prior_errors() if self.clock == "paced" else None
        graph = self.plan.network.graph
        return fit(graph, same_as, self.prior(), networks, times_ms, prior_errors_ms=errors_ms)

    def _prior_errors(self) -> dict[str, float]:
        """ms; of few calls each, at the pace of a stream, the difference of two models is uncertain."""
        times, found = self.session.times, {}
        for name in self.plan.work:
            pair = [times[model] for model in (f"{name} x1", f"{name} x{COPIES}") if model in times]
            if len(pair) == 2:
                found[name] = math.hypot(*(time.spread * time.ms for time in pair)) / (COPIES - 1)
        return found

    def latency(self, model: Fitted) -> LatencyModel:
        """The model with its maps from the table's clock to the pace of a stream, and its bound."""
        rows = [
            (short, hop, index)
            for index, (short, hop) in enumerate(self.paced)
            if short and hop and (self.clock == "paced" or self._whole(index) in self.session.times)
            if not self.failed.keys() & self.networks.paced[index]
        ]
        if len(rows) < 2:
            reason = next(iter(self.session.failures.values()), "the space has no more")
            raise MilliwiseError(
                f"fewer than two whole networks run at the pace of a stream there ({reason}): no latency can be told"
            )
        short = [np.asarray(calls) for calls, _hop, _index in rows]
        medians = np.array([np.median(calls) for calls in short])
        at_hop = np.array([np.median(hop) for _short, hop, _index in rows])
        shortened = relative_line(medians, at_hop) if self.gap_ms < self.hop_ms else Line(0.0, 1.0)
        whole = [
            self.ms(self._whole(index)) if self.clock == "tight" else float(np.median(calls))
            for calls, _hop, index in rows
        ]
        # By the paced clock the table is made of the short calls themselves: only those at the hop can judge it.
        seen = at_hop if self.clock == "paced" else None
        lines, error = paced_lines(whole, [shortened.base + shortened.slope * calls for calls in short], seen)
        graph = self.plan.network.graph
        kept = [self.networks.paced[index] for *_calls, index in rows]
        stems = [max(0.0, ms - model(graph, each)) for ms, each in zip(whole, kept, strict=True)]
        return LatencyModel(
            float(np.median(stems)),
            model.base_ms,
            model.join_ms,
            lines,
            shortened,
            self.gap_ms,
            error,
            self._bound(model),
            model.chain_ms,
        )

    def _bound(self, model: Fitted) -> Bound | None:
        bound = conformal_bound(self._ratios(model, self.networks.calibrating))
        if bound is None:
            return None
        below = [ratio <= bound.factor for ratio in self._ratios(model, self.networks.held_out)]
        return dataclasses.replace(bound, held_out_coverage=sum(below) / len(below) if below else None)

    def _ratios(self, model: Fitted, networks: Sequence[Architecture]) -> list[float]:
        """Measured / predicted."""
        graph = self.plan.network.graph
        return [self.ms(self.names[kept]) / model(graph, kept) for kept in self.timed(networks)]

    def judge(self, model: Fitted) -> HeldOut:
        """Predicted against measured ms, front-end not included, of networks the model has not seen."""
        networks = self.timed(self.networks.held_out)
        predicted = [model(self.plan.network.graph, kept) for kept in networks]
        measured = [self.ms(self.names[kept]) for kept in networks]
        if not networks:
            return HeldOut(0, None, None, None, None, ())
        errors = np.abs(np.asarray(predicted) / np.asarray(measured) - 1)
        rows = tuple(
            {"kept": sorted(kept), "predicted_ms": p, "measured_ms": m}
            for kept, p, m in zip(networks, predicted, measured, strict=True)
        )
        return HeldOut(
            nets=len(networks),
            mape=float(errors.mean()),
            within_5=float((errors <= 0.05).mean()),
            within_10=float((errors <= 0.10).mean()),
            spearman=spearman(predicted, measured),
            rows=rows,
        )

"""Check a makespan: a network whose edges several workers share, really run so on its target, against its limit.

Networks are run back to back, in blocks over fresh processes, for that is how the parallel model was measured: nothing
is known of a hop's pace on several workers, so a budget is held against the median, and takes no percentile.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, replace
from typing import Any

from profilers.clock import upper_quantile_rank
from profilers.latency import features_only
from profilers.parallel import Bench
from profilers.target import Target
from toolkit.budget import Budget
from toolkit.graph import Graph
from toolkit.profile import DeviceProfile
from toolkit.supernet import SuperNetwork

PROCESSES, ROUNDS = 2, 20  # fresh processes, and blocks in each


@dataclass(frozen=True)
class MakespanCheck:
    """What a network took on several workers; every ms contains the front-end as the profile has it.

    Attributes:
        makespan_ms: the median of the medians of all blocks.
        makespan_upper_ms: its upper 95 % confidence bound, distribution-free; the budget is kept if that is in it.
        quietest_ms: the least median of a block, which is what the profile predicts: `predicted_ms`.
        front_end_ms: contained in all of these, and measured by the profile only.
        workers: of the budget; `used` of them had something to do, for a plan takes no more than promise to help.
        attempts: measurements made; where that is not 1, `first_upper_ms` is what the first gave, which does not count.
    """

    makespan_ms: float
    makespan_upper_ms: float
    quietest_ms: float
    predicted_ms: float
    front_end_ms: float
    workers: int
    used: int
    blocks: int
    budget: str
    kept: bool
    noisy: bool
    attempts: int = 1
    first_upper_ms: float | None = None

    @property
    def ratio(self) -> float:
        """Predicted over measured, of what the workers share: without the front-end."""
        return (self.predicted_ms - self.front_end_ms) / (self.quietest_ms - self.front_end_ms)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def check_makespan(
    network: SuperNetwork,
    input_shape: tuple[int, ...],
    graph: Graph,
    budget: Budget,
    profile: DeviceProfile,
    target: Target,
    *,
    rounds: int = ROUNDS,
    title: str = "checking the makespan",
) -> MakespanCheck:
    """Run a network by the plan that its price is of; again when the machine was busy and it was close.

    Args:
        network: of live edges alone; its weights do not matter.
        input_shape: of one call, batch of one included.
        graph: of the whole super-network, which the profile is of.
        profile: of this target, with a parallel model.
        rounds: blocks in each of the processes.

    Raises:
        UnpricedEdge: the profile has no makespan of such a network on so many workers.
        MilliwiseError: the target fails, an edge does not run there, or there are too few blocks for the bound.
    """
    live, limit_ms = network.graph.full, budget.limit
    model, front_end_ms = profile.require_parallel(live, budget.workers), profile.latency.front_end_ms
    plan = model.plan(model.operations(graph, live), budget.workers)
    rank = upper_quantile_rank(PROCESSES * rounds, 0.5)
    bare, features_shape = features_only(network, input_shape)

    def measure(title: str) -> MakespanCheck:
        bench = Bench(bare, features_shape, target, budget.workers, rounds, seed=0)
        blocks = sorted(ms + front_end_ms for _ in range(PROCESSES) for ms in bench.run([plan], title)[0].blocks_ms)
        upper_ms = blocks[rank - 1]
        return MakespanCheck(
            makespan_ms=statistics.median(blocks),
            makespan_upper_ms=upper_ms,
            quietest_ms=blocks[0],
            predicted_ms=front_end_ms + model.ends_ms(plan)[-1],
            front_end_ms=front_end_ms,
            workers=budget.workers,
            used=plan.used,
            blocks=len(blocks),
            budget=str(budget),
            kept=upper_ms <= limit_ms,
            noisy=bench.noisy,
        )

    first = measure(title)
    if not (first.noisy and 0.75 < first.makespan_upper_ms / limit_ms < 1.33):
        return first
    again = measure(f"{title} again, for the machine was busy")  # whichever way the disturbed one went, as in `check`
    return replace(again, attempts=2, first_upper_ms=first.makespan_upper_ms)

"""Whether a profile over ssh agrees with one made locally: the same machine, reached both ways in turn."""

from __future__ import annotations

from typing import Any

from kws_demo.bench.loopback import SshServer, missing_programs
from kws_demo.bench.rows import Results, row
from profilers.compare import compare
from profilers.plan import Effort
from profilers.profile import profile_device
from profilers.target import LocalTarget, Target
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

SPACE, MOST_DRIFT = "kws-ds", 0.03
TABLE_ALONE = Effort(calibrating=0, held_out=0, paced=2, short_calls=4, hop_calls=2, weighed=0)
Row = dict[str, Any]


def ssh_rows(results: Results, seed: int) -> list[Row]:
    """Four profiles, local and over ssh in turn; without an ssh server the reason why there are none."""
    names = ("over ssh against local: median drift of the edges", "local against local: median drift of the edges")
    targets = (f"<= {MOST_DRIFT:g}", "-")
    if reason := missing_programs():
        return [row(name, target, None, bool, reason=reason) for name, target in zip(names, targets, strict=True)]
    found = results.keep("over ssh", lambda: in_turn(seed))
    told = "; ".join([f"the larger of {_each(found['ssh'])}", *dict.fromkeys(found["disturbed"])])
    floor = f"over ssh against over ssh {found['ssh_again']:.4f}"
    return [
        row(names[0], targets[0], max(found["ssh"]), lambda value: value <= MOST_DRIFT, reason=told),
        row(names[1], targets[1], found["local"], None, reason=floor),
    ]


def in_turn(seed: int) -> Row:
    """Median absolute drifts of the edges: of each profile over ssh against the local one before it, and of a kind.

    The ms of every edge are kept, too: of local, ssh, local, ssh.
    """
    with SshServer() as remote:
        targets: list[Target] = [LocalTarget(), remote, LocalTarget(), remote]
        profiles = [
            profile_device(find_space(SPACE), target, seed=seed, clock="tight", effort=TABLE_ALONE)
            for target in targets
        ]
    local, ssh, local_again, ssh_again = profiles
    return {
        "ssh": [_drift(local, ssh), _drift(local_again, ssh_again)],
        "local": _drift(local, local_again),
        "ssh_again": _drift(ssh, ssh_again),
        "edges_ms": [{name: edge.latency_ms for name, edge in profile.edges.items()} for profile in profiles],
        "disturbed": [reason for profile in profiles for reason in profile.noisy_because],
    }


def _drift(a: DeviceProfile, b: DeviceProfile) -> float:
    drift = compare(a, b).median_drift
    assert drift is not None  # a space without edges that compute has no profile
    return drift


def _each(drifts: list[float]) -> str:
    return " and ".join(f"{drift:.4f}" for drift in drifts)

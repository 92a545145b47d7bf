"""Architectures made to keep a limit, or to use what is left of it, edge by edge by what edges are worth."""

from __future__ import annotations

from collections.abc import Mapping

from toolkit.costs import Price
from toolkit.graph import Architecture


def thinned(price: Price, limit: float, kept: Architecture, worth: Mapping[str, float]) -> Architecture:
    """The live edges, less those worth least until the limit is kept; empty if no path is left."""
    live = price.graph.live(kept)
    while live and price(live) > limit:
        shorter = (price.graph.live(live - {name}) for name in sorted(live, key=lambda name: (worth[name], name)))
        live = next((rest for rest in shorter if rest), frozenset())
    return live


def filled(price: Price, limit: float, kept: Architecture, worth: Mapping[str, float]) -> Architecture:
    """With more edges, those worth most first, as long as the limit is kept; the live ones of them."""
    wanted = kept
    for name in sorted(worth.keys() - kept, key=lambda name: (-worth[name], name)):
        if price(wanted | {name}) <= limit:  # free as long as it is dead: another may join it to the rest
            wanted |= {name}
    return price.graph.live(wanted)

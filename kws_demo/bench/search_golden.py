"""Published figures of ResNets and fabrics, and what our networks give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from profilers.published import published_multiply_adds
from toolkit.progress import progress
from toolkit.spaces import neural_fabric, resnet_fabric
from toolkit.supernet import SuperNetwork

IMAGE = (1, 3, 32, 32)
# MFLOPs, parameters, and steps of 1, 2 and 4 workers (thesis, tables 3.1 to 3.9), as they round there.
RESNETS = {
    20: (40.899, 0.2733, (22, 20, 20)),
    32: (69.268, 0.4681, (34, 32, 32)),
    44: (97.637, 0.6630, (46, 44, 44)),
    56: (126.006, 0.8579, (58, 56, 56)),
    110: (253.666, 1.7349, (112, 110, 110)),
}
RESNET_FABRICS = {3: (91.1, (50, 29, 20)), 18: (635.3, (320, 179, 110))}
NEURAL_FABRICS = {
    1: (53.82, 0.744, (12, 12, 12)),
    2: (406.21, 3.849, (39, 26, 19)),
    4: (1010.33, 8.580, (83, 47, 31)),
    8: (2218.57, 18.042, (171, 90, 53)),
}
Row = dict[str, Any]


def golden_rows(quick: bool) -> Iterator[Row]:
    """Every published figure, with what our networks give."""
    with progress("counting published networks", 4 + 2 * 3 + 5) as advance:
        for layers, (mega, parameters, steps) in RESNETS.items():
            network = resnet_fabric.fabric((layers - 2) // 6, 10, "")
            yield from _figures(f"ResNet-{layers}", network, (mega, 3), (parameters, 4), steps)
            advance(1)
        for blocks, (mega, steps) in RESNET_FABRICS.items():
            if not (quick and blocks > 3):
                yield from _figures(f"ResNet fabric {blocks}", resnet_fabric.fabric(blocks, 10), (mega, 1), None, steps)
            advance(3)
        for columns, (mega, parameters, steps) in NEURAL_FABRICS.items():
            if not (quick and columns > 4):
                network = neural_fabric.fabric(10, columns, 128, 6)
                yield from _figures(f"neural fabric {columns}", network, (mega, 2), (parameters, 3), steps, legacy=True)
            advance(1)


def _figures(
    name: str,
    network: SuperNetwork,
    mega: tuple[float, int],
    parameters: tuple[float, int] | None,
    steps: tuple[int, ...],
    legacy: bool = False,
) -> Iterator[Row]:
    network.eval()
    found = round(published_multiply_adds(network, IMAGE, legacy=legacy) / 1e6, mega[1])
    yield {"name": f"{name}, MFLOPs", "published": mega[0], "found": found}
    if parameters is not None:
        values = sum(value.numel() for value in network.parameters())
        found = round(values / 1e6, parameters[1])
        yield {"name": f"{name}, Mparams", "published": parameters[0], "found": found}
    free = {edge: 0 for edge, operation in network.operations.items() if isinstance(operation, nn.Identity)}
    for workers, published in zip((1, 2, 4), steps, strict=True):
        # The classifier, which is our head, takes the last step.
        count = len(network.graph.schedule(network.graph.full, workers, free)) + 1
        yield {"name": f"{name}, steps of {workers}", "published": published, "found": count}

"""A super-network trained before any budget is known, so that many searches can begin with its weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kws_demo.preparation import prepare
from kws_demo.settings import Settings
from kws_demo.stages import MOST_EPOCHS, require_device
from toolkit.costs import Price
from toolkit.errors import MilliwiseError
from toolkit.files import remove_file
from toolkit.spaces import find_space
from toolkit.strategies.uniform import Uniform
from toolkit.supernet import SuperNetwork
from toolkit.training import Plan, train
from toolkit.weights import read_tensors, save_tensors


def warm_up(settings: Settings, hop_ms: int, path: Path, minutes: float) -> None:
    """Train random networks of all densities and write the weights that they share, unless they are written.

    Args:
        settings: of any search that is to begin with it; neither budget nor strategy matters.
        minutes: of training. What was interrupted goes on.

    Raises:
        MilliwiseError: bad data, or it cannot be written.
    """
    if path.exists():
        return
    require_device(settings.device)
    task, network = prepare(settings, find_space(settings.space), hop_ms)
    edges = Price(network.graph, "edges", lambda live: float(len(live)))
    network.operations.to(settings.device)  # the stem stays with the audio, on the CPU
    network.head.to(settings.device)
    checkpoint = path.with_suffix(".checkpoint")
    train(
        network,
        task.training,
        task.steps,
        Plan(MOST_EPOCHS, minutes),
        task.loss(),
        title=f"warming up {settings.space}, seed {settings.seed}",
        strategy=Uniform(edges, edges(network.graph.full), settings.seed),
        seed=settings.seed,
        checkpoint=checkpoint,
    )
    save_tensors(path, network.cpu().state_dict(), _told(network, task.labels))
    remove_file(checkpoint)


def begin_with(network: SuperNetwork, labels: Sequence[str], path: Path) -> None:
    """Give a super-network the weights that `warm_up` wrote.

    Raises:
        MilliwiseError: they are damaged, or of another network or other labels.
    """
    tensors, told = read_tensors(path)
    cure = "warm up anew, in another folder"
    if told != _told(network, labels):
        raise MilliwiseError(f"the warm-up {path} is of another space, or of other labels than this data's: {cure}")
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise MilliwiseError(f"the warm-up {path} is damaged ({' '.join(str(error).split())[:80]}): {cure}") from None
    if not all(value.isfinite().all() for value in tensors.values()):
        raise MilliwiseError(f"the warm-up {path} is damaged, for not all of its values are finite: {cure}")


def _told(network: SuperNetwork, labels: Sequence[str]) -> str:
    return json.dumps({"graph": network.graph.digest(), "labels": [*labels]})

"""The arguments of a search."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from profilers.clock import CHECK_CALLS
from toolkit.errors import MilliwiseError
from toolkit.spaces import Space

if TYPE_CHECKING:
    from kws_demo.data import SpeechData
    from toolkit.datasets import ImageData


FOR_LISTENERS = ("add", "unknown", "noise", "words", "language", "spoken", "teacher")


@dataclass(frozen=True)
class Settings:
    """What `milliwise search` is asked; paths are kept as they were given.

    Attributes:
        space: name of the search space.
        budget: as written, such as `1 ms`.
        data: as `load_data` takes it; so are `add`, `unknown`, `noise` and `clips_per_word`.
        words: of a folder to listen for, as written: `yes,no`.
        language: of a folder's recordings; English when None.
        spoken: the words in that language's script, as written, if the folder's names are not.
        teacher: the speech embedding gives hints while a listener trains.
        strategy: name of the search strategy.
        minutes: training time; measuring comes on top.
        penalty: λ of the strategy, found by itself when None.
        network_only: a budget of mean FLOPs bills neither controller nor front-end.
        discount: γ, with which sanas is taught by REINFORCE; by the exact expectation of every hop when None.
        device: where to train, `cpu` or `cuda`.
        bound: price networks by the upper bound of the profile's prediction instead of the prediction.
        cost: for a budget of it, as `own_cost` takes it.
        on: target to measure on instead of the profile's.
        threads: refuse a profile made for another thread count.
        fine_tuned: how many candidates that keep the budget are fine-tuned, for an equal share of the time each.
        calls: in the measurement of a candidate.
        mirror: images may be mirrored in training; MNIST's digits never are.
        warm: file of weights to begin with, as `warm_up` writes it; the strategy's own warm-up is left out.
    """

    space: str
    budget: str
    data: str
    strategy: str = "bsn"
    seed: int = 0
    minutes: float = 10.0
    penalty: float | None = None
    network_only: bool = False
    discount: float | None = None
    add: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)
    words: str | None = None
    language: str | None = None
    spoken: str | None = None
    clips_per_word: int = 800
    teacher: bool = False
    device: str = "cpu"
    cost: str | None = None
    on: str | None = None
    bound: bool = False
    threads: int | None = None
    fine_tuned: int = 1
    calls: int = CHECK_CALLS
    mirror: bool = True
    warm: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What the strategy takes beside price, limit and seed."""
        return {} if self.penalty is None else {"penalty": self.penalty}


def data_of(settings: Settings) -> SpeechData:
    """Read or make the data that these settings name.

    Raises:
        MilliwiseError: settings are of images alone; or see `load_data`.
    """
    from kws_demo.data import load_data

    if not settings.mirror:
        raise MilliwiseError("--no-mirror is for images, and this space hears: leave it out")
    return load_data(
        settings.data,
        seed=settings.seed,
        words=_listed(settings.words),
        language=settings.language,
        spoken=_listed(settings.spoken),
        add=[Path(folder) for folder in settings.add],
        unknown=[Path(folder) for folder in settings.unknown],
        noise=[Path(folder) for folder in settings.noise],
        clips_per_word=settings.clips_per_word,
        spare=settings.teacher,
    )


def _listed(words: str | None) -> list[str]:
    from kws_demo.source import split_words

    return [] if words is None else list(split_words(words))


def images_of(settings: Settings, space: Space) -> ImageData:
    """Read the images that these settings name, for a space that sees.

    Raises:
        MilliwiseError: settings are of speech alone, or the space is for another task; or see `load_images`.
    """
    from toolkit.datasets import load_images

    given = {name: getattr(settings, name) for name in FOR_LISTENERS}
    if odd := [name for name, value in given.items() if value]:
        raise MilliwiseError(f"--{odd[0]} is for listeners, and {space.name} sees images: leave it out")
    data = load_images(settings.data, size=space.shape(1)[2], seed=settings.seed)
    if (task := space.values.get("task", "classify")) != data.task:
        cure = "take neural-fabric:task=segment" if data.task == "segment" else "leave task=segment out"
        raise MilliwiseError(f"{settings.data} is there to {data.task}, {space.name} to {task}: {cure}")
    return replace(data, flip=data.flip and settings.mirror)

"""The search spaces: one file each, and a row in this table; and the user's own, named by their file or module."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from toolkit.errors import MilliwiseError
from toolkit.programs import imported, loaded, neighbours, running
from toolkit.spaces.settings import Choice, Setting, Whole, read_settings

if TYPE_CHECKING:
    from toolkit.adaptive import AdaptiveNetwork
    from toolkit.supernet import SuperNetwork

SPACE = "search space"  # as errors call the user's own
SAMPLES_PER_MS = 16  # of the audio that listeners hear


class OwnSpace(MilliwiseError):
    """A file asks for a search space that is a program."""


@dataclass(frozen=True)
class Space:
    """A search space: its module has `build(labels, hop_ms) -> SuperNetwork`, which takes the settings, too.

    Attributes:
        name: that `find_space` finds it by, from any folder.
        module: that is imported.
        summary: in one line.
        input_shape: of one call, batch of one included; `hop_samples` stands for the samples of a hop, the name of a
            setting for its value.
        settings: what else it can be built with: `neural-fabric:columns=8,channels=128`.
        chosen: the values of settings that are not the default.
    """

    name: str
    module: str
    summary: str
    input_shape: tuple[int | str, ...]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    chosen: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether it is the user's."""
        return self.name.partition(":")[0] not in SPACES

    @property
    def sees(self) -> bool:
        """Whether its input is a square image of three channels; else it is audio, if a search is to be of use."""
        shape = self.shape(1)
        return len(shape) == 4 and shape[1] == 3 and shape[2] == shape[3]

    @property
    def values(self) -> dict[str, int | str]:
        """Of all settings."""
        return {**{name: setting.default for name, setting in self.settings.items()}, **self.chosen}

    def build(self, labels: int = 12, hop_ms: int = 200) -> SuperNetwork:
        """The super-network with fresh weights.

        Raises:
            MilliwiseError: the hop does not fit the space; or of the user's own, it cannot be built, is none, or does
                not run on an input of its shape.
        """
        builder: Callable[..., SuperNetwork] = importlib.import_module(self.module).build
        if not self.own:
            return builder(labels, hop_ms, **self.chosen)
        with running(SPACE, self.name), neighbours(Path(self.name)):
            network = builder(labels, hop_ms)
            _require_runs(network, self.shape(hop_ms))
            return network

    def adaptive(self, labels: int = 12, hop_ms: int = 200) -> AdaptiveNetwork:
        """The super-network with its gates: the module names them (`GATED`), and the kind of controller (`CONTROLLER`).

        Raises:
            MilliwiseError: as `build`, or the space has no gates.
        """
        from toolkit.adaptive import gate

        module = importlib.import_module(self.module)
        if not hasattr(module, "GATED"):
            raise MilliwiseError(f"{self.name} has no gated edges: take kws-gated or kws-cnn, or name them in GATED")
        network = self.build(labels, hop_ms)
        with running(SPACE, self.name) if self.own else nullcontext():
            return gate(network, module.GATED, getattr(module, "CONTROLLER", "hearing"))

    def shape(self, hop_ms: int) -> tuple[int, ...]:
        """The shape of the input of one call, batch of one included."""
        known = {"hop_samples": hop_ms * SAMPLES_PER_MS, **self.values}
        return tuple(int(known.get(str(size), size)) for size in self.input_shape)

    def with_settings(self, text: str) -> Space:
        """This space of other settings, written `columns=8,channels=128`.

        Raises:
            MilliwiseError: there is no such setting, it is given twice, or such a value is not allowed.
        """
        try:
            chosen = read_settings(self.settings, text)
        except ValueError as error:
            raise MilliwiseError(f"{self.name}: {error}") from None
        return replace(self, name=f"{self.name}:{text}", chosen=chosen)


SPACES = {
    space.name: space
    for space in (
        Space(
            "kws-ds",
            "toolkit.spaces.kws_ds",
            "streaming keyword listener, separable convolutions",
            (1, "hop_samples"),
            {"width": Whole(32, 2, 256)},
        ),
        Space(
            "kws-coarse",
            "toolkit.spaces.kws_coarse",
            "the part of kws-ds for synthetic voices",
            (1, "hop_samples"),
            {"width": Whole(32, 2, 256)},
        ),
        Space("kws-gated", "toolkit.spaces.kws_gated", "small trunk, large branches to gate", (1, "hop_samples")),
        Space("kws-cnn", "toolkit.spaces.kws_cnn", "large keyword network with dense shortcuts", (1, "hop_samples")),
        Space(
            "kws-cnn-cached", "toolkit.spaces.kws_cnn_cached", "cnn-trad-fpool3, its columns kept", (1, "hop_samples")
        ),
        Space(
            "resnet-fabric",
            "toolkit.spaces.resnet_fabric",
            "ResNet with shortcuts, for small images",
            (1, 3, "size", "size"),
            {"blocks": Whole(3, 1, 18), "width": Whole(16, 1, 256), "size": Whole(32, 4, 512)},
        ),
        Space(
            "neural-fabric",
            "toolkit.spaces.neural_fabric",
            "grid of convolutions, for images",
            (1, 3, "size", "size"),
            {
                "columns": Whole(4, 1, 16),
                "channels": Whole(32, 1, 256),
                "size": Whole(32, 1, 512),
                "task": Choice(("classify", "segment")),
            },
        ),
    )
}


def find_space(name: str) -> Space:
    """The space of that name, or the user's own one in the file (`path/to/space.py`) or module (`package.space`) named.

    Settings of milliwise's own follow a colon: `neural-fabric:columns=8,channels=128`.

    The own one is a Python program, and it is run. It defines `build(labels, hop_ms) -> SuperNetwork`; also
    `INPUT_SHAPE`, if its input is not audio, `(1, "hop_samples")`. The first line of its docstring says what it is. Its
    name is the absolute path of its file, or that of its module.

    Raises:
        MilliwiseError: there is none (the message lists those there are), or it does not run or is no search space; or
            a setting is wrong.
    """
    if known := built_in(name):
        return known
    path = Path(name)
    if path.suffix == ".py" or len(path.parts) > 1:
        if not path.is_file():
            raise MilliwiseError(f"there is no file {name} with a search space: name a Python file that has build()")
        name = str(path.resolve())
        with running(SPACE, name):
            return _own(name, loaded(Path(name)))
    if "." in name:
        with running(SPACE, name):
            return _own(name, imported(name))
    raise MilliwiseError(f"no search space {name!r}: choose {', '.join(SPACES)}, or the Python file of your own")


def built_in(name: str) -> Space | None:
    """One of milliwise's own, with its settings, if it is one.

    Raises:
        MilliwiseError: a setting is wrong.
    """
    base, colon, settings = name.partition(":")
    space = SPACES.get(base)
    return space.with_settings(settings) if space and colon else space


def built_in_space(name: str, by: str) -> Space:
    """The space of that name, which a file asks for: one of milliwise's own, for no file may have a program run.

    Args:
        by: what asks, such as `run my-run`.

    Raises:
        OwnSpace: it is another one.
        MilliwiseError: a setting is wrong.
    """
    known = built_in(name)
    if known is None:
        raise OwnSpace(
            f"{by} was searched in {name[:200]!a}, which is none of milliwise's own spaces but a program: if you trust "
            "it, name it yourself with --space my_space.py"
        )
    return known


def _own(name: str, module: ModuleType) -> Space:
    if not callable(getattr(module, "build", None)):
        raise MilliwiseError("it has no function build(labels, hop_ms): add one that returns the SuperNetwork")
    shape = getattr(module, "INPUT_SHAPE", (1, "hop_samples"))
    sizes = [1 if size == "hop_samples" else size for size in shape] if isinstance(shape, tuple) else []
    if sizes[:1] != [1] or not all(type(size) is int and size > 0 for size in sizes):
        raise MilliwiseError(
            f"its INPUT_SHAPE is {shape!r}: give a tuple of sizes with a batch of one, such as (1, 3, 32, 32)"
        )
    summary = (module.__doc__ or "").strip().partition("\n")[0]
    return Space(name, module.__name__, summary, shape)


def _require_runs(network: object, shape: tuple[int, ...]) -> None:
    """Refuse what is no super-network, or one whose parts do not fit together, in the form all the others expect."""
    import torch

    from toolkit.supernet import SuperNetwork

    if not isinstance(network, SuperNetwork):
        raise MilliwiseError(f"its build() returns a {type(network).__name__}: return a toolkit.supernet.SuperNetwork")
    training = network.training
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        output = network.eval()(torch.zeros(shape))
    network.train(training)
    if not isinstance(output, torch.Tensor) or output.shape[:1] != (1,):
        made = list(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise MilliwiseError(f"its network makes {made} of {list(shape)}: return one tensor with a batch of one")

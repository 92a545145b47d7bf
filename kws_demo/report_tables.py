"""The parts of the report that are text: where the time went, what the device and the run were, and how to go on."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from kws_demo.drawings.svg import plain
from kws_demo.drawings.values import at, number, show_binary, show_ms, show_share
from toolkit.budget import Budget
from toolkit.costs import ACCOUNTING
from toolkit.errors import MilliwiseError
from toolkit.profile import DeviceProfile
from toolkit.spaces import built_in

Facts = Mapping[str, Any]
Row = tuple[str, object]
LONGEST = 300  # characters of a value
STEPS = {
    "profile": "profile the device",
    "data": "make the data",
    "search": "train the super-network and search",
    "measure": "measure the candidates",
    "fine_tune": "fine-tune the candidates",
    "export": "export and verify",
    "stream": "listen to a recording",
}


def table(rows: Iterable[Row]) -> str:
    """Names and values, the empty ones left out; nothing for none."""
    shown = [(name, value) for name, value in rows if value not in (None, "")]
    body = "".join(f"<tr><th>{plain(name, 60)}</th><td>{plain(value, LONGEST)}</td></tr>" for name, value in shown)
    return f"<table>{body}</table>" if shown else ""


def seconds(run: Facts) -> str:
    """A bar for every step of the run and their total."""
    told = at(run, "seconds")
    spent = {str(name): number(told, name) for name in told} if isinstance(told, Mapping) else {}
    steps = {name: value for name, value in spent.items() if value is not None and value >= 0 and name != "total"}
    ordered = sorted(steps, key=lambda name: list(STEPS).index(name) if name in STEPS else len(STEPS))
    most = max(steps.values(), default=0.0) or 1.0
    body = "".join(
        f"<tr><th>{plain(STEPS.get(name, name), 60)}</th>"
        f'<td><i class="share" style="width:{100 * steps[name] / most:.1f}%"></i></td>'
        f'<td class="figure">{steps[name]:.1f} s</td></tr>'
        for name in ordered
    )
    total = spent.get("total")
    last = '<tr class="total"><th>altogether</th><td></td>'
    last = "" if total is None else f'{last}<td class="figure">{total:.1f} s</td></tr>'
    return f"<table>{body}{last}</table>" if body or last else ""


def device(profile: DeviceProfile) -> str:
    """The fingerprint of the device and how its profile was measured."""
    told = [(str(name), value) for name, value in profile.fingerprint.items()]
    facts = [(_named(name), _told(value, name.endswith("_bytes"))) for name, value in told]
    noise = "noisy: measure again when the machine rests" if profile.noisy else "steady"
    return table(
        [
            ("target", profile.target),
            *facts,
            ("threads", profile.threads),
            ("profile", f"{len(profile.edges)} edges of {profile.space} in {profile.seconds:.0f} s; {noise}"),
        ]
    )


def about(run: Facts) -> str:
    """Where the result comes from: search space, strategy, data, seed, accuracies, the exported file."""
    data = at(run, "data")
    described = data.items() if isinstance(data, Mapping) else [("data", data)]
    accuracy, model = at(run, "accuracy"), at(run, "model")
    difference = number(model, "max_abs_diff")
    return table(
        [
            ("search space", run.get("space")),
            ("strategy", run.get("strategy")),
            ("made by hand as", run.get("made_by_hand")),
            ("costs are of", run.get("accounting") or ACCOUNTING),
            ("seed", run.get("seed")),
            ("predicted p95", show_ms(number(run, "predicted_ms"))),
            ("validation", show_share(number(accuracy, "validation"), number(accuracy, "validation_error"))),
            ("test", show_share(number(accuracy, "test"), number(accuracy, "test_error"))),
            *((f"data: {_named(name)}", _told(value)) for name, value in list(described)[:12]),
            ("file", at(model, "file")),
            ("file against torch", None if difference is None else f"scores differ by at most {difference:.1e}"),
        ]
    )


def usage(run: Facts, sees: bool = False) -> str:
    """The commands that go on from here, ready to be copied into a shell."""
    file = shlex.quote(str(at(run, "model", "file") or "MODEL.onnx"))
    limit = str(run.get("budget") or "2 ms")
    commands = [("Write it as one verified ONNX file:", f"milliwise export RUN -o {file}{_own_space(run)}")]
    if not sees:
        commands = [("Listen to the microphone:", f"milliwise stream {file}")]
        commands += [("Listen to a recording:", f"milliwise stream {file} --wav RECORDING.wav")]
    if _is_of_a_file(limit):
        check = f"milliwise check {file} --budget {shlex.quote(limit)}"
        commands.append(("Measure again whether it keeps its budget:", check))
    return "".join(f"<p>{said}</p><pre>{plain(command, 2000)}</pre>" for said, command in commands)


def _own_space(run: Facts) -> str:
    """The option that names the space, where milliwise has none of that name."""
    space = run.get("space")
    try:
        return "" if space is None or built_in(str(space)) else f" --space {shlex.quote(str(space))}"
    except MilliwiseError:  # of a name that it has, with settings that it has not
        return ""


def _is_of_a_file(budget: str) -> bool:
    """Whether a file can be held against it: not what is counted, nor a mean over what is heard."""
    try:
        asked = Budget.parse(budget)
    except MilliwiseError:
        return False
    return asked.metric == "latency_ms" and asked.statistic != "mean"


def _named(name: object) -> str:
    return str(name).removesuffix("_bytes").replace("_", " ")


def _told(value: object, is_bytes: bool = False) -> object:
    """A value for people: sizes in their units, mappings as `name value`, lists with commas."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} ({told})" if isinstance(each, Mapping) else f"{name} {told}"
            for name, each in value.items()
            if (told := _told(each, is_bytes)) is not None
        )
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return show_binary(value) if is_bytes and isinstance(value, int) else value

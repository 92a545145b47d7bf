"""The README's snippets run, in their order, in one folder: with less training, and a file instead of a microphone."""

import re
import runpy
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
import torch
from click.testing import CliRunner
from conftest import SMALL

from exporters.onnx import to_onnx
from toolkit.cli import main
from toolkit.profile import DeviceProfile
from toolkit.spaces import find_space

README = (Path(__file__).parent.parent / "README.md").read_text()
# What makes an example quick enough for a test, and feasible on a busy machine; nothing else of it is changed.
QUICKER = {
    "feasible": "--budget '100 ms'",
    "search": "--clips 60 --minutes 100 --calls 59 --budget '100 ms'",
    "export": "--calls 59",
    "check": "--calls 59 --hop-ms 20 --budget '100 ms'",
    "stream": "--wav heard.wav",
}
# A busy machine may not keep the example's budget: an honest no.
MAY_SAY_NO = {"search", "export", "check"}


def snippets(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_snippets_run(
    this_machine: DeviceProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from kws_demo import search
    from profilers import profile

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "MOST_EPOCHS", 6)  # by the clock, a busy machine would train less
    monkeypatch.setattr(profile, "profile_device", lambda *_, **__: this_machine)  # the one below measures
    soundfile.write("heard.wav", np.random.default_rng(0).normal(0, 0.01, 48_000), 16_000)
    lines = [line for line in snippets("bash")[1].splitlines() if line.startswith("milliwise ")]
    names = [shlex.split(line)[1] for line in lines]
    assert names == ["profile", "feasible", "search", "export", "check", "stream"]
    for name, line in zip(names, lines, strict=True):
        arguments = [*shlex.split(line, comments=True)[1:], *shlex.split(QUICKER.get(name, ""))]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code in ({0, 1} if name in MAY_SAY_NO else {0}), (line, result.output)
    _own, program = snippets("python")
    Path("program.py").write_text(program)
    runpy.run_path("program.py")
    printed = capsys.readouterr().out
    assert printed.count("[[") == 10 and "nan" not in printed


def test_the_own_space_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file of the README goes through its commands, as far as they take no training."""
    from profilers import profile

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(profile, "profile_device", partial(profile.profile_device, effort=SMALL))
    Path("my_space.py").write_text(snippets("python")[0])
    (block,) = [block for block in snippets("bash") if "my_space.py" in block]
    first, *further = block.splitlines()
    assert [shlex.split(line)[1] for line in further] == ["search", "export"]
    for line in (first, 'milliwise feasible my_space.py --profile mine.json --budget "100 ms"'):
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, result.output
    network = find_space("my_space.py").build(labels=5)
    audio = torch.randn(1, 3 * 3200, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    for kept in (network.graph.full, {"narrow", "around"}):
        chosen = network.select(kept).eval()
        exported = onnxruntime.InferenceSession(to_onnx(chosen, (1, 3200)).SerializeToString())
        names = [output.name for output in exported.get_outputs()]
        states = {item.name: np.zeros(item.shape, np.float32) for item in exported.get_inputs()[1:]}
        for hop, expected in zip(audio.split(3200, 1), chosen(audio)[0].softmax(-1), strict=True):
            found = dict(zip(names, exported.run(None, {"audio": hop.numpy(), **states}), strict=True))
            states = {name: found[name.replace("state_in", "state_out")] for name in states}
            np.testing.assert_allclose(found["scores"][0], expected.detach().numpy(), atol=1e-5, rtol=0)


def test_the_first_snippet_is_a_target_of_the_makefile() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    assert snippets("bash")[0].strip() == "make demo"
    assert all(f"\n{target}:" in makefile for target in ("demo", "test", "lint"))

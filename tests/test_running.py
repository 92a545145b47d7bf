"""Running speech to train on: as long as asked for, by the given voices, without a keyword, the same for a seed."""

from collections.abc import Iterator

import numpy as np
import pytest

from kws_demo import running
from kws_demo.running import running_speech
from kws_demo.synth import split_voices

pytest.importorskip("espeakng_loader")
AMONG = ["the", "stop", "water", "people", "never", "house", "yellow", "window"]


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def talk(seconds: float, seed: int = 0) -> np.ndarray:
    return running_speech(seconds, ["stop"], AMONG, split_voices("en", 0)["train"], "en", seed)


def test_it_is_about_as_long_as_asked_for_and_mostly_speech() -> None:
    audio = talk(60)
    assert audio.dtype == np.float32 and 40 * 16_000 < len(audio) < 90 * 16_000 and np.abs(audio).max() <= 1
    loud = np.sqrt(np.mean(audio[: len(audio) // 1600 * 1600].reshape(-1, 1600) ** 2, 1)) > 0.005
    assert 0.5 < loud.mean() < 0.95


def test_the_seed_decides() -> None:
    assert np.array_equal(talk(9), talk(9)) and not np.array_equal(talk(9)[:8000], talk(9, seed=1)[:8000])


def test_no_keyword_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def spoken(texts: list[str], *_rest: object) -> list[object]:
        said.extend(texts)
        return []

    monkeypatch.setattr(running, "speak_sentences", spoken)
    assert len(talk(300)) == 0
    words = {word.strip(",.?!") for text in said for word in text.split()}
    assert words == {*AMONG} - {"stop"}


def test_nothing_to_say_is_no_talk() -> None:
    assert len(running_speech(9, ["stop"], ["stop"], split_voices("en", 0)["train"], "en", 0)) == 0

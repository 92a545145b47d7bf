"""espeak-ng: what it cannot read is seen, and a text that kills it costs that text only."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kws_demo import espeak
from kws_demo.espeak import base_voices, pronounce, run_worker
from kws_demo.synth import check_sayable
from toolkit.errors import MilliwiseError

pytest.importorskip("espeakng_loader")


def test_mnemonics_can_be_said_again() -> None:
    for language, text in (("en", "stop"), ("de", "ich"), ("cmn", "开灯"), ("ru", "привет"), ("ja", "とまれ")):
        (said,) = pronounce([text], language)
        again = "[[" + " ".join("|".join(word) for word in said.mnemonics) + "]]"
        assert said.ipa and pronounce([again], language)[0].ipa == said.ipa


def test_other_scripts_are_spelled() -> None:
    assert [said.spelled for said in pronounce(["yes", "привет", "你好", ""], "en")] == [False, True, True, False]
    assert [said.spelled for said in pronounce(["とまれ", "東京"], "ja")] == [False, True]


@pytest.mark.parametrize(("language", "loan"), [("de", "team"), ("fr", "weekend"), ("nl", "weekend")])
def test_loans_are_words(language: str, loan: str) -> None:
    (said,) = pronounce([loan], language)
    assert not said.spelled and "(" not in said.ipa and said.ipa == pronounce([loan], "en-gb")[0].ipa
    check_sayable([loan], language)


def test_latin_letters_are_foreign_to_those_who_do_not_write_them() -> None:
    for language in ("ar", "ru", "ja", "ko", "hi"):
        assert [said.spelled for said in pronounce(["yes", "stop"], language)] == [True, True]
    assert [said.spelled for said in pronounce(["привет", "ц", "نعم"], "de")] == [True] * 3


@pytest.mark.parametrize("language", ["nb", "hyw", "ltg"])  # their dictionaries have other names
def test_languages_with_a_dictionary_of_another_name(language: str) -> None:
    assert base_voices(language) == (language,) and pronounce(["mama"], language)


def test_common_names_of_languages_are_corrected() -> None:
    with pytest.raises(MilliwiseError, match=r"'zh'.*cmn"):
        base_voices("zh")


def fragile(folder: Path, job: dict[str, Any], advance: object) -> dict[str, np.ndarray] | None:
    """A worker that dies of the word "boom"."""
    if any(item is not None and "boom" in item for item in job["texts"] + job["utterances"]):
        return None
    said = np.array([item or "" for item in job["texts"]], np.str_)
    return {"ipa": said, "lengths": np.array([0 if item is None else 1 for item in job["utterances"]])}


@pytest.mark.parametrize(
    "texts", [["boom"], ["a", "boom"], ["a", "b", "boom", "c", "boom"], [*"abcdefg", "boom", *"hi"]]
)
def test_only_the_text_that_kills_is_lost(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_run_in", fragile)
    result = run_worker({"texts": texts, "utterances": [], "voice": "en"})
    assert result["ipa"].tolist() == [text.replace("boom", "") for text in texts]
    result = run_worker({"texts": [], "utterances": texts, "voice": "en"})
    assert result["lengths"].tolist() == [int(text != "boom") for text in texts]


def test_a_worker_that_always_dies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "_run_in", lambda *_: None)
    for texts in ([], ["a"], ["a", "b"]):
        with pytest.raises(MilliwiseError, match="crashes"):
            run_worker({"texts": texts, "utterances": [], "voice": "en"})

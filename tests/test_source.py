"""Any text given as data is understood, or refused in one line."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kws_demo.source import parse_spec
from toolkit.errors import MilliwiseError

pytest.importorskip("espeakng_loader")


@pytest.mark.parametrize(
    ("spec", "language", "words"),
    [
        ("synth:yes,no", "en", ("yes", "no")),
        ("synth:de:halt, los", "de", ("halt", "los")),
        ("synth:[[l'u:moUs]]", "en", ("[[l'u:moUs]]",)),
        ("synth:de:[[h'alt]],[[l,o:s'u:]],ja", "de", ("[[h'alt]]", "[[l,o:s'u:]]", "ja")),
    ],
)
def test_words_and_pronunciations(spec: str, language: str, words: tuple[str, ...]) -> None:
    source = parse_spec(spec)
    assert (source.kind, source.language, source.words) == ("synth", language, words)


@settings(max_examples=200, deadline=None)
@given(st.text() | st.text().map("synth:{}".format) | st.text().map("speech_commands:{}".format))
@example("synth:")
@example("synth::,")
@example("synth:en:")
def test_any_argument_is_understood_or_refused(spec: str) -> None:
    try:
        source = parse_spec(spec)
    except MilliwiseError as error:
        assert str(error).isprintable()
    else:
        assert source.kind in ("synth", "folder", "speech_commands")
        assert source.kind != "synth" or len(source.words) >= 1

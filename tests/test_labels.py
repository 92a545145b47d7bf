"""Labels files: what is read, what is refused in one line with its place, and that nothing else ever happens."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws_demo.labels import Truth, as_labels, check_within, load_labels
from toolkit.errors import MilliwiseError


def read(tmp_path: Path, content: str | bytes) -> list[Truth]:
    path = tmp_path / "labels.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_labels(path)


def test_words_comments_blank_lines_and_ends(tmp_path: Path) -> None:
    content = "# made by hand\n\nyes, 1000\r\n  no ,\t2500.5 , 3000\n_unknown_,1e4\nيمين,10000\n   # the end"
    assert read(tmp_path, content) == [
        Truth("yes", 1000),
        Truth("no", 2500.5, 3000),
        Truth("_unknown_", 10_000),
        Truth("يمين", 10_000),
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "# no words", "\ufeff"])
def test_a_recording_without_words(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == []


def test_a_byte_order_mark_is_no_part_of_a_word(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeffyes, 1") == [Truth("yes", 1)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("yes", "it has 1 columns"),
        ("yes, 1, 2, 3", "it has 4 columns"),
        ("yes;1000", "it has 1 columns"),
        ("yes, soon", "'soon' is not a time"),
        ("yes, ", "'' is not a time"),
        ("yes, nan", "'nan' is not a time"),
        ("yes, inf", "'inf' is not a time"),
        ("yes, -5", "'-5' is not a time"),
        ("yes, 1_000", "'1_000' is not a time"),
        ("yes, ١٠", "is not a time"),
        ("yes, 0x10", "is not a time"),
        ("yes, 1e10", "more than 1e.09 ms"),
        ("yes, 1e999", "more than 1e.09 ms"),
        ("yes, " + "9" * 5000, "more than 1e.09 ms"),
        ("yes, 1, soon", "'soon' is not a time"),
        ("yes, 20, 20", "ends at 20 ms and begins at 20 ms"),
        (", 20", "'' is not a word"),
        ("y\x1b[31mes, 20", r"'y\\x1b\[31mes' is not a word"),
        ("y\0es, 20", "is not a word"),
        ("yes\u2028, 20", "is not a word"),
        ("y" * 101 + ", 20", "is not a word"),
        ("yes, 5", "out of order .5 ms comes after 10 ms."),
    ],
)
def test_a_bad_line_is_named_with_the_reason(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(MilliwiseError, match=rf"labels\.txt, line 3: .*{why}") as caught:
        read(tmp_path, f"# a comment\nno, 10\n{line}\n")
    assert len(str(caught.value)) < 400 and str(caught.value).isprintable()


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(MilliwiseError, match="not UTF-8"):
        read(tmp_path, b"caf\xe9, 10")
    with pytest.raises(MilliwiseError, match="more than 16000000 bytes"):
        read(tmp_path, b"#" * 16_000_001)
    for path in (tmp_path, tmp_path / "absent", Path("/dev/zero"), Path("a\0b")):
        with pytest.raises(MilliwiseError, match="labels"):
            load_labels(path)


@given(st.one_of(st.binary(max_size=60), st.text("yes,# \n\r0123456789.e-_\x1b", max_size=60).map(str.encode)))
def test_whatever_is_in_it_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(content)
    try:
        truths = load_labels(path)
    except MilliwiseError as error:
        assert str(error).isprintable()
        return
    assert [truth.start_ms for truth in truths] == sorted(truth.start_ms for truth in truths)
    assert all(0 <= truth.start_ms <= 1e9 and truth.word.isprintable() and truth.word for truth in truths)


WORDS = st.text("abcé ب", min_size=1, max_size=8).map(str.strip).filter(bool)
TIMES = st.floats(0, 1e9, allow_subnormal=False)


@given(st.lists(st.tuples(WORDS, TIMES), max_size=8))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, float]]) -> None:
    said = sorted(said, key=lambda each: each[1])
    path = tmp_path_factory.getbasetemp() / "written.txt"
    path.write_text("".join(f"{word}, {start_ms!r}\n" for word, start_ms in said), encoding="utf-8")
    assert load_labels(path) == [Truth(word, start_ms) for word, start_ms in said]


@pytest.mark.parametrize("late", [Truth("no", 6000), Truth("no", 5900, 6001.5), Truth("no", 1e9)])
def test_words_past_the_end_are_refused(late: Truth) -> None:
    check_within([Truth("yes", 0, 500), Truth("no", 5999.9, 6000.9)], 6000, "labels.txt")
    with pytest.raises(MilliwiseError, match=r"labels\.txt: no at .* is past the end of the recording .6000 ms."):
        check_within([Truth("yes", 0), late], 6000, "labels.txt")


def test_words_a_listener_does_not_know_are_unknown_and_told_once() -> None:
    truths = [Truth("yes", 1), Truth("yse", 2, 3), Truth("_unknown_", 4), Truth("yse", 5), Truth("cat", 6)]
    known, others = as_labels(truths, ["_silence_", "_unknown_", "yes"])
    assert [truth.word for truth in known] == ["yes", "_unknown_", "_unknown_", "_unknown_", "_unknown_"]
    assert known[1] == Truth("_unknown_", 2, 3) and others == ["yse", "cat"]

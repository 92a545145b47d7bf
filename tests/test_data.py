"""Speech data: what is trained on, what is tested on, that the two share no speaker, and what is refused."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from recorded import record, speech_commands_set

from kws_demo import data as data_module
from kws_demo import plan, synth
from kws_demo import words as words_module
from kws_demo.data import Clips, SpeechData, load_data
from kws_demo.recordings import unknown_recordings
from kws_demo.synth import Spoken, split_voices, synthesise
from toolkit.errors import MilliwiseError

pytest.importorskip("espeakng_loader")
SHARED = Path(__file__).parents[2] / "shared" / "data"
LABELS = ("_silence_", "_unknown_")
PARTS = ("train", "validation", "test")
FEWEST = 60


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of one's own, and fewer words to ignore than users have: they take long to compare and to say."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patched.setattr(data_module, "FEWEST_UNKNOWN", FEWEST)
        patched.setattr(words_module, "COMMON", 300)
        patched.setattr(words_module, "LEXICON", 600)
        yield


@pytest.fixture
def tones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for espeak-ng, which takes long to start so often: a tone half as long as each text may last."""

    def spoken(job: dict[str, Any]) -> tuple[list[np.ndarray], int]:
        lengths = [round(8000 * utterance[-1] / 2) for utterance in job["utterances"]]
        return [np.round(9000 * np.sin(np.arange(length) / 3)).astype(np.int16) for length in lengths], 8000

    monkeypatch.setattr(synth, "_spoken_raw", spoken)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tones: None, tmp_path: Path) -> Path:
    for word in ("ja", "nej"):
        record(tmp_path / "words" / word, 20)
    return tmp_path / "words"


def parts(data: SpeechData) -> list[Clips]:
    return [data.train, data.validation, data.test]


def per_label(data: SpeechData, clips: Clips) -> dict[str, int]:
    return {label: int((clips.label == number).sum()) for number, label in enumerate(data.labels)}


def check_sound(data: SpeechData) -> None:
    """What holds for all data: types, range, every label in every part, no speaker in two."""
    speakers = [set(clips.speaker) for clips in parts(data)]
    assert not speakers[0] & speakers[1] and not speakers[0] & speakers[2] and not speakers[1] & speakers[2]
    for clips in parts(data):
        assert (
            clips.audio.dtype == np.float32
            and clips.audio.shape == (len(clips.label), 16000)
            and np.abs(clips.audio).max() <= 1
        )
        assert clips.label.dtype == np.int64 and len(clips.speaker) == len(clips.label)
        assert set(clips.label.tolist()) == set(range(len(data.labels)))
    silence = data.train.audio[data.train.label == 0]
    assert (silence == 0).all(1).any() and np.abs(silence).max() > 0.001


def test_synthetic_words_and_their_counts() -> None:
    data = load_data("synth:yes, no,zoom in", seed=2, clips_per_word=50)
    check_sound(data)
    assert data.labels == (*LABELS, "yes", "no", "zoom in") and not data.train.recorded.any()
    assert per_label(data, data.train) == {"_silence_": 40, "_unknown_": 60, "yes": 40, "no": 40, "zoom in": 40}
    assert per_label(data, data.test)["yes"] == per_label(data, data.validation)["yes"] == 5
    assert data.description["clips"]["train"] == per_label(data, data.train) and data.description["seed"] == 2
    loudness = np.sqrt(np.mean(data.train.audio[data.train.label == 2] ** 2, 1))
    assert loudness.min() > 0.005


def test_the_seed_decides_everything() -> None:
    one, same, other = (load_data("synth:yes,no", seed=seed, clips_per_word=20) for seed in (0, 0, 1))
    for left, right in zip(parts(one), parts(same), strict=True):
        assert np.array_equal(left.audio, right.audio) and left.speaker == right.speaker
    assert set(one.test.speaker) != set(other.test.speaker)
    with pytest.raises(MilliwiseError, match="-1"):
        load_data("synth:yes,no", seed=-1)


def test_a_folder_is_split_by_speaker(folder: Path) -> None:
    data = load_data(str(folder))
    check_sound(data)
    assert data.labels == (*LABELS, "ja", "nej")
    assert [per_label(data, clips)["ja"] for clips in parts(data)] == [32, 4, 4]
    assert {f"s{i}" for i in range(20)} <= {speaker for clips in parts(data) for speaker in clips.speaker}
    assert per_label(data, data.train)["_unknown_"] == FEWEST


def test_val_is_the_test_and_trains_nothing(tones: None, tmp_path: Path) -> None:
    for word in ("ja", "nej"):
        record(tmp_path / "train" / word, 10)
        record(tmp_path / "val" / word, 3, prefix="t")
    data = load_data(str(tmp_path))
    check_sound(data)
    keywords = data.test.label >= 2
    assert {data.test.speaker[i] for i in np.flatnonzero(keywords)} == {"t0", "t1", "t2"}
    assert [per_label(data, clips)["ja"] for clips in parts(data)] == [18, 2, 6]
    record(tmp_path / "val" / "kanske", 3)
    with pytest.raises(MilliwiseError, match="kanske"):
        load_data(str(tmp_path))


def test_what_is_left_of_the_unknown_words_is_of_people_who_train(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "other" / "kanske", 400, prefix="u")
    rng = np.random.default_rng(0)
    for path in (tmp_path / "other" / "kanske").iterdir():  # none sounds like another
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 16_000)
    assert len(load_data(str(folder), unknown=[tmp_path / "other"]).spare) == 0
    data = load_data(str(folder), unknown=[tmp_path / "other"], spare=True)
    taken = sum(speaker.startswith("u") for clips in parts(data) for speaker in clips.speaker)
    assert 0 < len(data.spare) <= 800 - taken and data.spare.shape[1:] == (16_000,) and data.spare.dtype == np.float32
    known = {clip.tobytes() for clips in parts(data) for clip in clips.audio}
    spare = [clip.tobytes() for clip in data.spare]
    assert not known & set(spare)
    monkeypatch.setattr(plan, "MOST_SPARE", len(spare) // 2)
    few = load_data(str(folder), unknown=[tmp_path / "other"], spare=True)
    assert [clip.tobytes() for clip in few.spare] in (spare[::2], spare[::3])  # not the first words of the alphabet


def test_a_speaker_who_is_tested_is_trained_nowhere(tones: None, tmp_path: Path) -> None:
    for word in ("ja", "nej"):
        record(tmp_path / "data" / "train" / word, 10)
        record(tmp_path / "data" / "val" / word, 3)  # s0, s1, s2 again
    record(tmp_path / "other" / "kanske", 12)
    data = load_data(str(tmp_path / "data"), unknown=[tmp_path / "other"])
    check_sound(data)
    assert {"s0", "s1", "s2"} <= set(data.test.speaker)


def test_other_recordings_are_unknown_words(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path / "other" / "kanske", 200, prefix="u")
    record(tmp_path / "other" / "JA", 4, prefix="never")
    data = load_data(str(folder), unknown=[tmp_path / "other"])
    assert "other: left out of the unknown words, for they are called like keywords: JA" in capsys.readouterr().err
    check_sound(data)
    strangers = [speaker for speaker, label in zip(data.train.speaker, data.train.label, strict=True) if label == 1]
    assert len(strangers) == FEWEST and sum(speaker.startswith("u") for speaker in strangers) == 0.9 * FEWEST
    for clips in parts(data):
        people = [re.fullmatch(r"[su]\d+", speaker) is not None for speaker in clips.speaker]
        assert clips.recorded.tolist() == people
    assert not any(speaker.startswith("never") for clips in parts(data) for speaker in clips.speaker)
    soundfile.write(tmp_path / "other" / "stray_1.flac", np.full(100, 0.1), 8000)  # beside the folders: both are taken
    (tmp_path / "other" / "._note.wav").write_bytes(b"of some machine")
    both = unknown_recordings(tmp_path / "other", ["ja"])
    assert len(both) == 401 and {recording.speaker for recording in both} >= {"stray", "u0"}
    (folder / "_unknown_").mkdir()
    soundfile.write(folder / "_unknown_" / "mine_1.flac", np.full(100, 0.1), 8000)
    assert "mine" in load_data(str(folder)).train.speaker


def test_own_recordings_are_trained_and_weigh_a_tenth(folder: Path, tmp_path: Path) -> None:
    record(tmp_path / "own" / "ja", 1, takes=1, prefix="me")
    data = load_data(str(folder), add=[tmp_path / "own"])
    check_sound(data)
    assert data.train.speaker.count("added/me0") == 3 and per_label(data, data.train)["ja"] == 35
    record(tmp_path / "own" / "JA", 1, takes=1, prefix="also")
    assert "added/also0" in load_data(str(folder), add=[tmp_path / "own"]).train.speaker
    record(tmp_path / "own" / "kanske", 1)
    with pytest.raises(MilliwiseError, match="'kanske' that is no keyword"):
        load_data(str(folder), add=[tmp_path / "own"])


def test_several_folders_are_added_and_each_weighs_as_much(folder: Path, tmp_path: Path) -> None:
    record(tmp_path / "own" / "ja", 1, takes=1, prefix="me")
    record(tmp_path / "voices" / "ja", 30, takes=1, prefix="robot")
    data = load_data(str(folder), add=[tmp_path / "own", tmp_path / "voices"])
    assert data.train.speaker.count("added/me0") == 3 and data.train.speaker.count("added/robot0") == 1
    assert sum(speaker.startswith("added/robot") for speaker in data.train.speaker) == 30


def test_who_is_trained_by_own_recordings_is_tested_nowhere(folder: Path, tmp_path: Path) -> None:
    tested = load_data(str(folder))
    for word in ("ja", "nej"):
        record(tmp_path / "own" / word, 20, takes=1)  # s0 to s19, as in the data
    with pytest.raises(MilliwiseError, match="no recording left for validation"):
        load_data(str(folder), add=[tmp_path / "own"])
    for path in (tmp_path / "own").glob("*/*"):
        if path.name.split("_")[0] not in tested.test.speaker:
            path.unlink()
    data = load_data(str(folder), add=[tmp_path / "own"])
    check_sound(data)
    taught = {speaker.removeprefix("added/") for speaker in data.train.speaker if speaker.startswith("added/")}
    assert taught and not taught & {*data.validation.speaker, *data.test.speaker}
    with pytest.raises(MilliwiseError, match="is in the data already"):
        load_data(str(folder), add=[folder])


def test_who_is_held_out_by_name_cannot_be_added(tones: None, tmp_path: Path) -> None:
    for word in ("ja", "nej"):
        record(tmp_path / "data" / "train" / word, 10)
        record(tmp_path / "data" / "val" / word, 3, prefix="t")
    record(tmp_path / "own" / "ja", 1, prefix="t")
    with pytest.raises(MilliwiseError, match=r"'t0' of .* would be trained, and is held out"):
        load_data(str(tmp_path / "data"), add=[tmp_path / "own"])
    record(tmp_path / "more" / "train" / "ja", 1, prefix="me")
    record(tmp_path / "more" / "val" / "ja", 1, prefix="held")
    data = load_data(str(tmp_path / "data"), add=[tmp_path / "more"])
    assert "added/me0" in data.train.speaker and "added/held0" not in data.train.speaker


def test_what_is_to_be_ignored_is_of_the_language(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], str]] = []

    def unknown_words(words: Sequence[str], language: str, seed: int) -> dict[str, Any]:
        asked.append((list(words), language))
        return words_module.unknown_words(words, language, seed)

    monkeypatch.setattr(data_module, "unknown_words", unknown_words)
    for language, spoken in ((None, ()), ("sv", ()), ("ru", ("да", "нет"))):
        check_sound(load_data(str(folder), language=language, spoken=spoken))
    assert asked == [(["ja", "nej"], "en"), (["ja", "nej"], "sv"), (["да", "нет"], "ru")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "xx"}, "no language 'xx'"),
        ({"language": "ru"}, "cannot say 'ja' in 'ru', so its talk may hold the keyword: give --spoken"),
        ({"language": "ru", "spoken": ("да",)}, "--spoken has 1 words for 2 keywords"),
        ({"spoken": ("да", "нет")}, "name it, --language LANGUAGE"),
    ],
)
def test_a_language_without_the_words_is_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MilliwiseError, match=message):
        load_data(str(folder), **options)
    with pytest.raises(MilliwiseError, match="write synth:ru:WORD"):
        load_data("synth:ja,nej", language="ru")


def test_own_unknown_recordings_come_first(folder: Path, tmp_path: Path) -> None:
    record(tmp_path / "other" / "kanske", 200, prefix="u")
    record(tmp_path / "own" / "_unknown_", 5, takes=1, prefix="mine")
    data = load_data(str(folder), unknown=[tmp_path / "other"], add=[tmp_path / "own"])
    check_sound(data)
    assert sum(speaker.startswith("added/mine") for speaker in data.train.speaker) == 5
    assert per_label(data, data.train)["_unknown_"] == FEWEST
    record(tmp_path / "many" / "_unknown_", 200, takes=1, prefix="mine")
    for unknown, own in (([tmp_path / "other"], 0.45), ([], 0.9)):
        data = load_data(str(folder), unknown=unknown, add=[tmp_path / "many"])
        assert sum(speaker.startswith("added/mine") for speaker in data.train.speaker) == own * FEWEST


def test_too_few_unknown_words_are_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mute(words: list[str], count: int, *_: object, strict: bool = True) -> list[Spoken]:
        return synthesise(words, count, 0, split_voices("en", 0)["train"], strict=strict)[: None if strict else 4]

    monkeypatch.setattr(data_module, "synthesise", mute)
    monkeypatch.setattr(data_module, "speak_sentences", lambda *_: [])
    for spec in ("synth:yes,no", str(folder)):
        with pytest.raises(MilliwiseError, match=r"4 unknown words for train, 20 are needed.*--unknown FOLDER"):
            load_data(spec, clips_per_word=10)
    record(tmp_path / "other" / "kanske", 100, prefix="u")
    assert per_label(data := load_data(str(folder), unknown=[tmp_path / "other"]), data.test)["_unknown_"] > 5


def test_background_recordings_are_split_too(folder: Path, tmp_path: Path) -> None:
    background = folder / "_background_noise_"
    background.mkdir()
    ramp = np.linspace(0, 0.9, 50_000)
    soundfile.write(background / "fan.wav", ramp, 16000)
    data = load_data(str(folder))
    assert [len(recording) for recording in (*data.noise, *data.test_noise)] == [40_000, 10_000]
    assert data.noise[0].max() < data.test_noise[0].min()
    for number in range(10):
        record(tmp_path / "noise" / str(number), 1, takes=1)
    data = load_data(str(folder), noise=[tmp_path / "noise"])
    assert (len(data.noise), len(data.test_noise)) == (9, 2)
    record(tmp_path / "more", 1, takes=5)
    data = load_data(str(folder), noise=[tmp_path / "noise", tmp_path / "more"])
    assert len(data.noise) + len(data.test_noise) == 16
    same = load_data(str(folder), noise=[tmp_path / "noise", tmp_path / "more", tmp_path / "noise" / "3"])
    assert len(same.noise) + len(same.test_noise) == 16


def test_speech_commands_with_its_official_split(tones: None, tmp_path: Path) -> None:
    base = speech_commands_set(tmp_path)
    data = load_data(f"speech_commands:{tmp_path}")
    check_sound(data)
    assert len(data.labels) == 12 and [per_label(data, clips)["go"] for clips in parts(data)] == [6, 1, 1]
    assert "s7" in data.test.speaker and "s6" in data.validation.speaker and len(data.noise) == 2
    assert np.array_equal(load_data(f"speech_commands:{base}").test.audio, data.test.audio)


BAD = {
    "a word twice": ("synth:yes,no,Yes", "twice"),
    "an empty word": ("synth:yes,,no", "empty"),
    "a separator": ("synth:yes,../no", "separator"),
    "a backslash": ("synth:yes,a\\b", "separator"),
    "a control character": ("synth:yes,n\x1bo", "control"),
    "a reserved label": ("synth:yes,_unknown_", "reserved"),
    "no letters": ("synth:yes,!!!", "cannot say"),
    "an unknown language": ("synth:klingon:qapla,yes", "klingon"),
    "another script": ("synth:yes,привет", "привет"),
    "an unknown scheme": ("http://example.org/data", "there is no data"),
    "a missing folder": ("no/such/folder", "there is no data"),
    "nothing": ("", "there is no data"),
    "a long name": ("x" * 5000, "there is no data"),
    "a null": ("a\0b", "control"),
}


@pytest.mark.parametrize(("spec", "said"), BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_one_clear_line(spec: str, said: str) -> None:
    with pytest.raises(MilliwiseError, match=said) as caught:
        load_data(spec, clips_per_word=10)
    assert str(caught.value).isprintable() and ": " in str(caught.value)


def test_bad_folders_are_one_clear_line(folder: Path, tmp_path: Path) -> None:
    def refused(said: str, unknown: Sequence[Path] = (), noise: Sequence[Path] = ()) -> None:
        with pytest.raises(MilliwiseError, match=said) as caught:
            load_data(str(folder), unknown=unknown, noise=noise)
        assert str(caught.value).isprintable()

    refused("nowhere", unknown=[tmp_path / "nowhere"])
    (tmp_path / "empty").mkdir()
    refused("no folders", unknown=[tmp_path / "empty"])
    refused("no background", noise=[tmp_path / "empty"])
    (folder / "tom").mkdir()
    refused(r"tom holds no recordings")
    record(folder / "tom" / "deeper", 3)
    refused(r"tom holds no recordings")
    (folder / "tom" / "s1_0.wav").write_bytes(b"not audio")
    refused("'tom' has no recording left for")
    for number in range(5):
        (folder / "tom" / f"s{number}_0.wav").write_bytes(b"not audio")
    refused(r"tom/s\d_0.wav is not audio")
    (folder / "tom").rename(folder / "_silence_")
    refused("reserved")


def test_a_folder_with_one_word_is_enough(tmp_path: Path) -> None:
    record(tmp_path / "ja", 5)
    assert load_data(str(tmp_path)).labels == (*LABELS, "ja")


@pytest.mark.skipif(not (SHARED / "digits_8k").is_dir(), reason="needs the shared recordings")
def test_six_real_speakers_at_8_khz() -> None:
    data = load_data(str(SHARED / "digits_8k"), noise=[SHARED / "noise" / "train"])
    check_sound(data)
    assert [per_label(data, clips)["3"] for clips in parts(data)] == [100, 25, 25]


def test_words_of_a_folder_are_chosen_and_all_others_are_unknown(folder: Path) -> None:
    everything = load_data(str(folder))
    words = everything.labels[2:]
    chosen = load_data(str(folder), words=words[:1])
    assert chosen.labels == ("_silence_", "_unknown_", words[0])
    count = int((everything.train.label == 2).sum())
    assert (chosen.train.label == 2).sum() == count
    speakers = {name for name, label in zip(chosen.train.speaker, chosen.train.label, strict=True) if label == 1}
    assert speakers & {
        name for name, label in zip(everything.train.speaker, everything.train.label, strict=True) if label > 2
    }
    with pytest.raises(MilliwiseError, match="no recordings of 'nowhere'"):
        load_data(str(folder), words=["nowhere"])
    with pytest.raises(MilliwiseError, match="name the words there"):
        load_data("synth:yes,no", words=["yes"])

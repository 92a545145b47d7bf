"""Words a listener has to ignore: common English words, and words that nearly sound like its keywords."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from kws_demo.recordings import split_speakers
from kws_demo.synth import PARTS, pronunciations

_COMMON = """
about above across action after again against agree air all almost alone already also always among anger animal
answer any apple area arm ask autumn away baby back bad bag ball bank bath beach bean bear beautiful because
become bee before begin behind believe bell below best better between big bird birthday black blood blue board
boat body book borrow bottle bottom box boy bread break breakfast bridge bright bring brother brown build burn
bus business busy butter button cake call camera car card carry castle catch chair change cheap cheese child
church circle city class clean clear clever clock cloud coat coffee cold colour come cook corner cotton country
cousin cover cream cross cry cup dance danger dark daughter day dead decide deep desk different dinner doctor
dog door double dream dress drink drive dry early earth east easy egg empty engine enough evening every example
eye face factory family famous farm fast father feather feel field fight finger finish fire first fish floor
flower fly follow food foot forest forget friend front fruit full funny future game garden gentle girl give
glass gold good grass great green ground group guitar hair half hammer hand hard heart heavy help history
holiday home horse hospital hot hour house hundred hungry husband ice idea important island job jump keep kettle
key kitchen knife ladder lake language large laugh learn leather letter library life like listen little long
look lose lucky machine market matter measure meat memory middle milk mind minute mirror money month moon
morning mother mountain mouth music name narrow nature near never night noise nothing number ocean often old
only orange other over paper parent party people perhaps picture place plant plastic play please pocket poor
power pretty problem promise pull purple push quarter question quick quiet rabbit radio rain reason red remember
return ring river road room round salt same sand school sea second sell shadow sheep ship shirt shoe shop short
shoulder sister sleep slow small smile snow soap some song south speak spoon spring square station stone story
straight street strong sugar summer sun table tail teacher thank that their thing think thousand thunder ticket
tiger time tired today together tomorrow tooth towel town travel tree trouble turn umbrella uncle under use
valley very village visit voice wait walk wall warm wash watch water weather week welcome west wheel white wide
wife winter wish woman wonder wood word work world write wrong year yellow yesterday young bed cat close down
eight five four go happy left nine no off on one open right seven six start stop three two up wow yes zero
"""
COMMON_WORDS: tuple[str, ...] = tuple(_COMMON.split())
VOWELS = "aeiou"
CONSONANTS = "bdfgklmnprstvwz"
LOOK_ALIKES_EACH = 8  # of each keyword
LOOK_ALIKES = 0.15  # at most, of the unknown words that are said
HELD_OUT_SHARES = {"validation": 0.15, "test": 0.15}  # of the words: the other parts never hear them
SYLLABLES = ("a", "ed", "er", "ing", "ly", "o", "un", "be")


def look_alikes(word: str, count: int, rng: np.random.Generator) -> list[str]:
    """At most `count` different spellings one sound or syllable away from `word`: "stop" gives "step", "top"."""
    found: dict[str, None] = {}
    for _ in range(8 * count):
        candidate = _vary(word, rng)
        if candidate != word and sum(map(str.isalpha, candidate)) >= 2:
            found[candidate] = None
        if len(found) == count:
            break
    return list(found)


def unknown_words(keywords: Sequence[str], language: str, seed: int) -> dict[str, tuple[list[str], list[str]]]:
    """For each part, the common words and the look-alikes of the keywords to ignore in it.

    None sounds like a keyword ("know" sounds like "no") or like a word of another part, and espeak-ng can say them all.

    Raises:
        MilliwiseError: espeak-ng, which tells how they sound, does not know the language.
    """
    taken = {keyword.casefold() for keyword in keywords}
    rng = np.random.default_rng([seed, 5])
    near = [near for keyword in keywords for near in look_alikes(keyword.casefold(), LOOK_ALIKES_EACH, rng)]
    kinds = [list(COMMON_WORDS), list(dict.fromkeys(near))]
    sounds = iter(pronunciations([*keywords, *kinds[0], *kinds[1]], language))
    taken_sounds = {next(sounds) for _ in keywords} | {""}
    chosen: dict[str, tuple[list[str], list[str]]] = {part: ([], []) for part in PARTS}
    part_of: dict[str, str] = {}
    for kind, words in enumerate(kinds):
        sound_of = {word: sound for word in words if (sound := next(sounds).strip()) not in taken_sounds}
        new = {sound: {""} for sound in sound_of.values() if sound not in part_of}
        part_of |= split_speakers(new, HELD_OUT_SHARES, seed)
        for word, sound in sound_of.items():
            if word not in taken:
                chosen[part_of[sound]][kind].append(word)
    return chosen


def unknown_texts(common: Sequence[str], near: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` unknown words to say, at most 15 % of them look-alikes."""
    few = draw(near, int(LOOK_ALIKES * count), rng)
    return few + draw(common, count - len(few), rng)


def draw(words: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """`count` of the words in random order, each as often as any other, give or take one."""
    rounds = math.ceil(count / len(words)) if words else 0
    return [words[index] for _ in range(rounds) for index in rng.permutation(len(words))][:count]


def _vary(word: str, rng: np.random.Generator) -> str:
    """Change one vowel or consonant, or drop or add a syllable; words in other alphabets only lose or gain a part."""
    change = int(rng.integers(4))
    places = [place for place, letter in enumerate(word) if letter in (VOWELS if change == 0 else CONSONANTS)]
    if change < 2 and places:
        place = int(rng.choice(places))
        letters = VOWELS if change == 0 else CONSONANTS
        return word[:place] + str(rng.choice(list(letters))) + word[place + 1 :]
    if change == 2 or not word.isascii():
        syllables = re.findall(rf"[^{VOWELS}]*[{VOWELS}]+[^{VOWELS}]*$|[^{VOWELS}]*[{VOWELS}]+", word) or [word]
        if len(syllables) > 1:
            syllables.pop(int(rng.integers(len(syllables))))
            return "".join(syllables)
        return word[1:] if rng.random() < 0.5 else word[:-1]
    syllable = str(rng.choice(SYLLABLES))
    return syllable + word if rng.random() < 0.5 else word + syllable

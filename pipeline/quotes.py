"""Choose the lines that a trailer should say, with a small sentence model and no network.

A line is worth saying when it stands alone, says what is at stake, belongs to what this film is about, and is spoken
clearly. The lines are taken one after the other, best first, each new one unlike those taken (maximal marginal
relevance, Carbonell and Goldstein 1998) and from another part of the film, until the word budget is spent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipeline.cues import count_words
from pipeline.records import F32, F64, Analysis, Bool, Shots, Span
from pipeline.script import Lines, ScriptLine
from pipeline.settings import GuardSettings

if TYPE_CHECKING:
    from models.sentences import Sentences

MOST_EMBEDDED = 1200  # lines; of a longer film's the best by their text alone are looked at: seconds on one core
SPEECH_BANDS = slice(2, 6)  # of Analysis.sound: 250 to 4000 Hz
BACKGROUND_SECONDS = 6.0  # around a line in which the quiet is looked for
CLEAR_DB = 15.0  # of speech over background; more is no better
# What lines of trailers do: name the stakes, threaten, promise, doubt, reveal, joke. **choice**: no trailer's words are
# copied; a line near to any three of these is more of that kind than one that is near to none.
KINDS = (
    "They will kill us if they find us.",
    "We only have until midnight.",
    "I have been waiting for you for twenty years.",
    "There is no way out of here.",
    "Somebody in this room is lying.",
    "What happened to my daughter?",
    "You should never have opened it.",
    "I am not afraid of you anymore.",
    "Whatever it takes, I am going home.",
    "Everyone has a secret.",
    "One of us will not survive this.",
    "You don't know who you are dealing with.",
    "Promise me that you will come back.",
    "I can't do this without you.",
    "Nothing will ever be the same.",
    "It has to end tonight.",
    "She is the most dangerous woman in the country.",
    "You think this is a game?",
    "My whole life has been leading to this.",
    "I think I am in love with my best friend's sister.",
    "This is a terrible idea, and I am in.",
    "Some people would do anything for money.",
    "Long ago there was a kingdom without a king.",
    "Remember who you are.",
)
# a sentence that begins so leans on what was said before
LEANING = re.compile(
    r"(and|but|or|so|because|then|also|too|he|she|it|they|him|her|them|his|their|its|there)\b"
    r"|(this|that|these|those)(['’]\w+| (is|was|are|were|has|had|does|did|do|can|could|will|would|one|ones)\b)",
    re.IGNORECASE,
)
# words that say nothing by themselves, beside the usual stop words
SMALL_TALK = frozenset(
    re.findall(
        r"\w+",
        "yes no yeah yep nope okay ok oh ah hey hi hello right alright sorry thanks thank sure wow hmm um uh bye goodbye "
        "good morning night sir madam captain mister come wait stop look listen huh let lets just really know think "
        "want course thing things guys guy like got gonna going say said tell told",
    )
)
COARSE = re.compile(r"\b(fuck\w*|shit\w*|asshole\w*|cunt\w*|dick|bitch\w*|ass(es)?)\b", re.IGNORECASE)
CLOSED = re.compile(r"[.!?…。！？]['\"”’»)]*$")
FEWEST_WORDS, MOST_WORDS = 2, 22
IDEAL_WORDS = (4, 11)
# what these count beside a sentence's form; by hand, on three sets of subtitles
OF_KIND, OF_FILM, OF_CLEARNESS = 1.2, 0.4, 0.25
ALIKE_COST, CROWD_COST = 0.6, 0.15  # of what was said already, and of what stands near in the film
SAME_WORDS = 0.85  # cosine; the same thing said twice
LEAST_WORTH = 0.3  # silence says more than a line below this
FLOOR = 0.15  # small talk, whatever else there is
LEAST_SHARE = 0.5  # of the best line's worth; where all are poor, the better half is still told
CROWDED = 0.04  # of the film's length


def find_allowed(lines: Lines, shots: Shots, guards: GuardSettings) -> tuple[int, ...]:
    """Numbers of the lines that may be told: none spoken over the ending, the credits or the opening titles."""
    secret = find_secret(shots, guards)
    starts = np.array([span.start for span in secret])
    ends = np.array([span.end for span in secret])
    return tuple(
        number
        for number, line in enumerate(lines.lines)
        if not len(secret) or not ((starts < line.span.end) & (ends > line.span.start)).any()
    )


def find_secret(shots: Shots, guards: GuardSettings) -> list[Span]:
    """When nothing that is said may be told: in the ending, and as guarded over the credits and opening titles."""
    kept = {"ending"} | ({"credits", "opening"} if guards.credits else set())
    secret = []
    for span, flags in zip(shots.spans, shots.flags, strict=True):
        if flags & kept:
            secret.append(span)
        elif shots.secret is not None and span.start < shots.secret < span.end:
            secret.append(Span(shots.secret, span.end))
    return secret


def hide_ending(lines: Lines, guards: GuardSettings) -> tuple[int, ...]:
    """As find_allowed, where the film itself is not at hand: its story ends with the last line."""
    spans = [line.span for line in lines.lines]
    begin, end = min(span.start for span in spans), max(span.end for span in spans)
    secret = end - guards.ending * (end - begin)
    return tuple(number for number, span in enumerate(spans) if span.end <= secret)


def choose_quotes(
    lines: Lines,
    allowed: Sequence[int],
    words: int,
    sentences: Sentences,
    *,
    film: Span | None = None,
    clear: F64 | None = None,
) -> tuple[ScriptLine, ...]:
    """At most `words` words of the allowed lines, in the film's order. Empty where no line is worth saying.

    film: the whole of it, on the clock of the lines; none: from the first line to the last. clear (n,): of every line, see
    measure_clearness; none: not known.
    """
    told = [number for number in allowed if FEWEST_WORDS <= count_words(lines.lines[number].text) <= MOST_WORDS]
    if not told or words <= 0:
        return ()
    quality = np.array([judge_text(lines.lines[number].text) for number in told])
    if len(told) > MOST_EMBEDDED:
        best = np.sort(np.argsort(-quality, kind="stable")[:MOST_EMBEDDED])
        told, quality = [told[i] for i in best], quality[best]
    texts = [lines.lines[number].text for number in told]
    vectors, kinds = sentences.encode(texts), sentences.encode(KINDS)
    near = np.sort(vectors @ kinds.T, axis=1)[:, -3:].mean(axis=1)
    middle = vectors.mean(axis=0)
    central = vectors @ (middle / max(float(np.linalg.norm(middle)), 1e-9))
    film = film or Span(lines.lines[0].span.start, max(line.span.end for line in lines.lines))
    heard = np.full(len(told), 0.5) if clear is None else clear[told]
    worth = quality + OF_KIND * near + OF_FILM * central + OF_CLEARNESS * heard
    places = np.array([(lines.lines[n].span.start - film.start) / max(film.duration, 1e-9) for n in told])
    chosen = _choose_varied(worth, vectors, places, [count_words(t) for t in texts], words)
    return tuple(
        ScriptLine(told[i], texts[i], lines.lines[told[i]].span, round(float(value), 4))
        for i, value in sorted(chosen.items())
    )


def _choose_varied(worth: F64, vectors: F32, places: F64, lengths: Sequence[int], words: int) -> dict[int, float]:
    """Candidate -> what it was worth when it was taken. places: 0..1 along the film."""
    chosen: dict[int, float] = {}
    open_: Bool = np.ones(len(worth), bool)
    alike = np.zeros(len(worth))  # to the nearest that was taken
    crowd = np.zeros(len(worth))  # of those taken, near in the film
    left = words
    while True:
        value = worth - ALIKE_COST * alike - CROWD_COST * np.minimum(crowd, 2.0)
        affordable = open_ & (np.array(lengths) <= left) & (alike < SAME_WORDS)
        if not affordable.any():
            return chosen
        best = int(np.argmax(np.where(affordable, value, -np.inf)))
        if value[best] < max(FLOOR, min(LEAST_WORTH, LEAST_SHARE * max(chosen.values(), default=0.0))):
            return chosen
        chosen[best] = float(value[best])
        open_[best] = False
        left -= lengths[best]
        alike = np.maximum(alike, vectors @ vectors[best])
        crowd += np.exp(-(((places - places[best]) / CROWDED) ** 2))


def judge_text(text: str) -> float:
    """What a sentence is worth by its form alone, about -1..1: complete, self-contained, of a length to be quoted."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    words = [w.lower().replace("’", "'") for w in re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)]
    if not words:
        return -1.0
    worth = 0.0
    count = count_words(text)
    if count < IDEAL_WORDS[0]:
        worth -= 0.25 * (IDEAL_WORDS[0] - count)
    elif count > IDEAL_WORDS[1]:
        worth -= 0.05 * (count - IDEAL_WORDS[1])
    if not CLOSED.search(text):
        worth -= 0.5
    if text.rstrip().endswith(("...", "…", "-", "–", "—")):
        worth -= 0.4  # nobody knows how it ends
    if text.lstrip().startswith(("...", "…", "-")) or text.lstrip()[:1].islower():
        worth -= 0.5
    if LEANING.match(text.lstrip("'\"“‘ ")):
        worth -= 0.2
    told = [w for w in words if len(w) > 2 and w not in ENGLISH_STOP_WORDS and w not in SMALL_TALK and "'" not in w]
    worth += 0.4 * min(1.0, len(set(told)) / 3) - 0.2
    worth -= 0.15 * text.count(",") if text.count(",") > 1 else 0.0
    if COARSE.search(text):
        worth -= 0.5  # a trailer is for everybody
    return worth


def measure_clearness(spans: Sequence[Span], analysis: Analysis) -> F64:
    """(n,) 0..1: by how much each span's speech stands over the quiet around it, in parts of CLEAR_DB; 0.5 unknown."""
    sound, step = analysis.sound[:, SPEECH_BANDS], analysis.sound_step
    clear = np.full(len(spans), 0.5)
    if not len(sound):
        return clear
    level = 10 * np.log10((sound.astype(np.float64) ** 2).sum(axis=1) + 1e-10)
    for i, span in enumerate(spans):
        first, last = ((t - analysis.sound_start) / step for t in (span.start, span.end))
        reach = BACKGROUND_SECONDS / step
        spoken = level[max(0, int(first)) : max(0, int(np.ceil(last)))]
        around = level[max(0, int(first - reach)) : max(0, int(last + reach))]
        if len(spoken) and len(around):
            over = float(np.mean(spoken) - np.percentile(around, 10))
            clear[i] = min(1.0, max(0.0, over / CLEAR_DB))
    return clear

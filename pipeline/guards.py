"""Say what each shot is not fit for, and keep it out of the trailer: the one place that decides what may be shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set

import numpy as np

from pipeline.glances import Glances, find_zones
from pipeline.records import F32, F64, I64, Analysis, Bool, Film, Shots, Span
from pipeline.settings import GuardSettings
from pipeline.story import BLACK_DEVIATION, LETTERS_IN_STORY, find_lettering, is_black

# flag of a shot -> why it may not be shown
REASONS = {
    "black": "black",
    "blank": "one plain colour, or test bars",
    "static": "a still picture",
    "text": "lettering",
    "credits": "end credits or after them",
    "opening": "opening titles or before them",
    "ending": "the ending is kept secret",
    "blurred": "blurred throughout",
}
OF_CREDITS = frozenset({"credits", "opening", "text"})  # what guards.credits is about
WAIVED = frozenset({"blurred"})  # with the twins: what a film of few shots may show after all
ENOUGH = 12  # shots to choose from; with fewer, a trailer shows blurred ones sooner than end after a few seconds
TWIN_OF = "nearly the same picture as "  # followed by "shot N"

BLACK_SHARE = 0.3  # of a shot's pictures
STORY_SECONDS = 20.0  # s; what is shorter is a clip: it has no ending that anybody waits for
LEAST_BEFORE = (
    1.0  # s of a shot before the ending, of which a cut can be made: about the shortest that trailers hold one
)
LONGEST_HOLD = 1.0  # s that one picture may stand within a shot: a hole in the file, or a still
FROZEN_CHANGE, FROZEN_SHARE = (
    0.02,
    0.5,
)  # mean change of value below which a picture repeats the last; of a shot's pictures
# of the film's median, the sharpest parts of a shot's sharpest picture; a blur of 4 px at 256 rows gives 0.3 in both, the
# softest shots of Big Buck Bunny 0.43 and 0.30. Below FORM there is nothing that could be sharp: a sky, a wall, fog
BLURRED_SHARE, BLURRED_DETAIL, FORM = 0.38, 0.4, 0.15
TWIN_SECONDS = 4.0  # s; of two twins the longer is better up to here, which is more than most slots ask for


def exclude_shots(shots: Shots, guards: GuardSettings, *, strict: bool = True) -> dict[int, str]:
    """Shot -> why it may not be shown, in the film's order. Of shots with the same picture the best may be.

    strict: as asked; not strict: without what a film of few shots can do without, its twins and blurred shots. Credits, the
    ending and what shows nothing stay out in any case.
    """
    waived = frozenset() if guards.credits else OF_CREDITS
    if not strict:
        waived |= WAIVED
    excluded = {}
    for number, flags in enumerate(shots.flags):
        reasons = [reason for flag, reason in REASONS.items() if flag in flags - waived]
        if reasons:
            excluded[number] = ", ".join(reasons)
    if guards.twins and strict:
        excluded |= _exclude_twins(shots, excluded.keys())
    return dict(sorted(excluded.items()))


def keep_out(shots: Shots, guards: GuardSettings) -> dict[int, str]:
    """exclude_shots(), blurred shots let in where fewer than ENOUGH are left; twins stay out, or the gate refuses them."""
    strict = exclude_shots(shots, guards)
    if len(shots) - len(strict) >= ENOUGH:
        return strict
    excluded = exclude_shots(shots, guards, strict=False)
    return dict(sorted((excluded | (_exclude_twins(shots, excluded.keys()) if guards.twins else {})).items()))


def count_reasons(excluded: Mapping[int, str]) -> str:
    """How many shots are not shown for which reason: the first of each one's, which says the most."""
    first = [
        next((reason for reason in REASONS.values() if why.startswith(reason)), f"{TWIN_OF}another")
        for why in excluded.values()
    ]
    return "".join(f", {count} not shown ({reason})" for reason, count in Counter(first).most_common())


def _exclude_twins(shots: Shots, others: Set[int]) -> dict[int, str]:
    """All but the best of each group of twins, of those not left out already: the one that is long and moves."""
    groups: dict[int, list[int]] = defaultdict(list)
    for number, first in enumerate(shots.twins.tolist()):
        if number not in others:
            groups[first].append(number)
    excluded = {}
    for group in groups.values():
        best = max(group, key=lambda n: min(1.0, shots.shown[n].duration / TWIN_SECONDS) + float(shots.energy[n]))
        excluded.update({number: f"{TWIN_OF}shot {best}" for number in group if number != best})
    return excluded


def find_ending(film: Film, story: tuple[float, float], guards: GuardSettings) -> float | None:
    """From when on the ending is secret, s on the film's clock; None: nothing is. story: as find_story gives it."""
    begin, end = story
    if film.duration < STORY_SECONDS or guards.ending * (end - begin) <= 0:
        return None
    return end - guards.ending * (end - begin)


def find_straddling(spans: Sequence[Span], clear: Sequence[Span], secret: float | None) -> int | None:
    """The shot that goes on into the ending and may be shown until then; None where none does, or too little is left."""
    if secret is None:
        return None
    number = next((n for n, span in enumerate(spans) if span.start < secret < span.end), None)
    return number if number is not None and secret - clear[number].start >= LEAST_BEFORE else None


def measure_motion(analysis: Analysis, seen: I64) -> F32:
    """(n,) mean change of value from picture to picture within each shot, 0..255. seen (n, 2): as in flag_shots."""
    # the first row of a shot is the change across the cut, not motion within the shot
    inner = [analysis.scores[a + 1 : b, 2] for a, b in seen]
    return np.array([scores.mean() if len(scores) else 0.0 for scores in inner], np.float32)


def flag_shots(
    analysis: Analysis,
    spans: Sequence[Span],
    seen: I64,
    motion: F32,
    glances: Glances,
    guards: GuardSettings,
    story: tuple[float, float],
    secret: float | None,
) -> tuple[frozenset[str], ...]:
    """What each shot is not fit for, in words of REASONS.

    seen (n, 2): number of the first picture of each shot, and of the first one after what may be shown of it. story, secret:
    as find_story and find_ending give them.
    """
    opening, credits = story
    times = np.append(analysis.times, analysis.film.end)
    lettered = _find_lettered(analysis, spans, glances)
    blurred = find_blurred(glances.sharpness)
    hold = max(LONGEST_HOLD, 4 * float(np.median(np.diff(analysis.times))))
    flags = []
    for number, (span, (first, last)) in enumerate(zip(spans, seen, strict=True)):
        found = set()
        luma = analysis.luma[first:last]
        dark = luma[:, 0].mean() <= guards.black_luma and luma[:, 1].mean() <= 2 * BLACK_DEVIATION
        if dark or is_black(luma).mean() > BLACK_SHARE:
            found.add("black")
        elif glances.blank[number]:
            found.add("blank")
        elif blurred[number]:
            found.add("blurred")
        frozen = np.append(analysis.scores[first + 1 : last, 2] < FROZEN_CHANGE, False).mean() > FROZEN_SHARE
        if motion[number] < guards.static_motion or frozen or float(np.diff(times[first : last + 1]).max()) > hold:
            found.add("static")
        if lettered[number]:
            found.add("text")
        if span.start < opening:
            found.add("opening")
        if span.end > credits:
            found.add("credits")
        elif secret is not None and span.end > secret and last == np.searchsorted(analysis.times, span.end):
            found.add("ending")
        flags.append(frozenset(found))
    return tuple(flags)


def _find_lettered(analysis: Analysis, spans: Sequence[Span], glances: Glances) -> Bool:
    """(n,) the shots with lettering: in the opening any, in the story much, for foliage and fences look like a little."""
    until, _ = find_zones(analysis)
    lettered = find_lettering(glances)
    sure = lettered & ((glances.times < until) | glances.card | (glances.letters >= LETTERS_IN_STORY))
    shown = glances.times[sure]
    first, last = (np.searchsorted(shown, [getattr(span, edge) for span in spans]) for edge in ("start", "end"))
    return np.asarray(last > first, np.bool_)


def find_blurred(sharpness: F64) -> Bool:
    """(n,) the shots that are out of focus or smeared throughout, against the film's own sharpness (n, 3), see Glances.

    A soft old film loses nothing by it: what counts is how far a shot lies below the median of all.
    """
    known = sharpness[~np.isnan(sharpness[:, 0])]
    if not len(known):
        return np.zeros(len(sharpness), np.bool_)
    detail, share, form = (sharpness / np.maximum(np.median(known, axis=0), 1e-6)).T
    return np.asarray((share < BLURRED_SHARE) & (detail < BLURRED_DETAIL) & (form > FORM), np.bool_)


def find_bounds(shots: Shots, guards: GuardSettings) -> tuple[float, float]:
    """From when to when the film's story may be told, s on its clock: after the opening, until the ending or the credits.

    Where credits may be shown nothing bounds the end: they lie after the ending that may not be.
    """
    if not guards.credits:
        return shots.film.start, shots.film.end
    flagged = list(zip(shots.spans, shots.flags, strict=True))
    begin = max((span.end for span, flags in flagged if "opening" in flags), default=shots.film.start)
    end = min((span.start for span, flags in flagged if flags & {"ending", "credits"}), default=shots.film.end)
    end = end if shots.secret is None else min(end, shots.secret)
    return begin, max(begin, end)

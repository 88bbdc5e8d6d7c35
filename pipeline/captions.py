"""Say what each slot's shot shows, and how well every line of the script goes with it.

The paper has a vision-language network write a caption of each shot and compares it with the lines by a sentence model. Here
that is one way of three; the default needs no network that sees: it takes what is said around the shot for what it shows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np

from pipeline.analysis import read_samples
from pipeline.errors import InputError, MissingDependencyError
from pipeline.features import crop_bars, nearest_samples
from pipeline.records import F32, F64, U8, Analysis, Features, Line, Shots, Span
from pipeline.script import Captions, Lines, Script
from pipeline.settings import Captioner, NarrationSettings, Site, TrailerConfig

if TYPE_CHECKING:
    from models.captioners import CaptionNetwork
    from models.encoders import Encoder
    from models.sentences import Sentences

TEXT_ENCODERS = ("imagebind", "siglip2")  # trained beside text; the others know pictures alone

CLOSE_SECONDS = 2.0  # a line that near to a shot is spoken over it, or to the face in it
NEAR_SECONDS = 20.0  # a shot without words belongs to what is said this near
MOST_CHARACTERS = 500  # of a caption; the sentence model reads about a thousand, and people fewer
MOST_LINES = 4  # told of a shot; more would drown one another in a single vector

DARK_LUMA, BRIGHT_LUMA = 50.0, 140.0  # of 255
STILL_ENERGY, FAST_ENERGY = 1 / 3, 2 / 3  # ranks within the film
LOUD_DB = 6.0  # above the film's median shot, or below it: twice the level, or half
SILENCE_DB = -90.0
GREY_SATURATION = 0.15  # 0..1; below it a picture has no colour to speak of
LEAST_SHARE = 0.3  # of a picture's colour that a hue must have to be named
# where a hue ends on OpenCV's circle of 180
HUES = (
    (8, "red"),
    (22, "orange"),
    (33, "yellow"),
    (85, "green"),
    (130, "blue"),
    (150, "purple"),
    (170, "pink"),
    (180, "red"),
)
PLACES = (
    (0.15, "at the beginning of"),
    (0.4, "early in"),
    (0.6, "in the middle of"),
    (0.85, "late in"),
    (1.0, "at the end of"),
)

SPREAD = 3.0  # deviations of text against picture that count as a similarity of 1


def caption_slots(
    analysis: Analysis,
    shots: Shots,
    *,
    features: Features,
    lines: Lines,
    script: Script,
    chosen: Sequence[int],
    settings: NarrationSettings,
    sentences: Sentences,
    network: CaptionNetwork | None = None,
    encoder: Encoder | None = None,
    progress: Callable[[float], None] | None = None,
) -> Captions:
    """Captions (J) of the chosen shots, one a slot, and their similarity (N, J) with the script's lines.

    network: who writes captions, for the captioners smolvlm and minicpm; encoder: whoever made the features, for picture.
    Neither is asked where the script is empty. progress takes the share that is done. Raises InputError where the encoder
    reads no text.
    """
    texts = [line.text for line in script.lines]
    if not texts:
        described = describe_shots(analysis, shots, lines, chosen)
        return Captions(described, str(Captioner.embedded), np.zeros((0, len(chosen)), np.float32))
    match settings.captioner:
        case Captioner.embedded:
            captions = describe_shots(analysis, shots, lines, chosen)
            return Captions(captions, f"dialogue, {sentences.name}", compare(texts, captions, sentences))
        case Captioner.picture:
            if encoder is None:
                raise ValueError("the captioner picture needs the encoder")
            captions = describe_shots(analysis, shots, lines, chosen)  # for whoever reads the report
            return Captions(captions, encoder.identity.name, compare_pictures(texts, encoder, features, chosen))
        case Captioner.smolvlm | Captioner.minicpm:
            if network is None:
                raise ValueError(f"the captioner {settings.captioner} needs its network")
            captions = caption_with_network(analysis, shots, chosen, network, progress=progress)
            return Captions(captions, f"{network.name}, {sentences.name}", compare(texts, captions, sentences))


def check_captioner(config: TrailerConfig, site: Site) -> None:
    """Refuse, before any long work, a captioner that is absent here or does not fit the encoder. No network is loaded.

    Raises MissingDependencyError or InputError.
    """
    if not config.narration.enabled:
        return
    match config.narration.captioner:
        case Captioner.embedded:
            from models.sentences import load_sentences

            load_sentences("cpu")
        case Captioner.picture:
            _check_text_side(str(config.features.encoder), site)
        case Captioner.smolvlm | Captioner.minicpm:
            from models.captioners import load_captioner
            from models.sentences import load_sentences

            load_sentences("cpu")
            load_captioner(str(config.narration.captioner), site.weights_dir, "cpu")


def _check_text_side(encoder: str, site: Site) -> None:
    from models.known_weights import find_weights, state_of

    if encoder not in TEXT_ENCODERS:
        raise InputError(_refuse_encoder(encoder))
    if state_of(find_weights(encoder), site.weights_dir) != "present":
        raise MissingDependencyError(
            f"the weights of {encoder} are not all in {site.weights_dir}: `trailer weights fetch {encoder}`"
        )
    if encoder == "imagebind" and not all(importlib.util.find_spec(module) for module in ("ftfy", "regex")):
        raise MissingDependencyError(
            "the captioner picture has imagebind read text, by ftfy and regex: pip install 'trailer-pipeline[imagebind]'"
        )


def _refuse_encoder(encoder: str) -> str:
    return (
        f"the captioner picture compares text with pictures, and the encoder {encoder} reads no text: set features.encoder "
        f"to {' or '.join(TEXT_ENCODERS)}, or narration.captioner to embedded"
    )


def compare(texts: Sequence[str], captions: Sequence[str], sentences: Sentences) -> F32:
    """Cosine (N, J) of N texts with J captions, -1..1."""
    if not texts or not captions:
        return np.zeros((len(texts), len(captions)), np.float32)
    rows = sentences.encode([*texts, *captions])
    cosines: F32 = np.clip(rows[: len(texts)] @ rows[len(texts) :].T, -1, 1).astype(np.float32)
    return cosines


def compare_pictures(texts: Sequence[str], encoder: Encoder, features: Features, chosen: Sequence[int]) -> F32:
    """Similarity (N, J) of N texts with the pictures of J chosen shots, -1..1, by an encoder that knows both.

    Text and pictures lie apart in such a space, by an offset that all pairs share (Liang et al., arXiv 2203.02053): bare
    cosines are 0.0 to 0.15, and a wordy line is nearer to every picture than a short one. So each line is measured against
    its own mean over all shots of the film, which is the same as to centre the pictures; the lines are not centred among
    themselves: with one line nothing would be left. The scale is one for all, SPREAD deviations = 1, and not one a line:
    a line that fits every shot alike shall not decide anything. Raises InputError for an encoder that reads no text.
    """
    encode_text = getattr(encoder, "encode_text", None)
    if encode_text is None:
        raise InputError(_refuse_encoder(encoder.identity.name))
    if features.encoder != encoder.identity.name:
        raise ValueError(f"the features are of {features.encoder}, the encoder is {encoder.identity.name}")
    if not texts or not chosen:
        return np.zeros((len(texts), len(chosen)), np.float32)
    centred = features.vectors - features.vectors.mean(axis=0)
    against = np.asarray(encode_text(texts), np.float64) @ centred.T.astype(np.float64)  # (N, shots)
    spread = float(against.std())
    if spread < 1e-9:  # one shot, or shots that are all the same
        return np.zeros((len(texts), len(chosen)), np.float32)
    similarity: F32 = np.clip(against[:, list(chosen)] / (SPREAD * spread), -1, 1).astype(np.float32)
    return similarity


def caption_with_network(
    analysis: Analysis,
    shots: Shots,
    chosen: Sequence[int],
    network: CaptionNetwork,
    *,
    progress: Callable[[float], None] | None = None,
) -> tuple[str, ...]:
    """A sentence a chosen shot, of the sampled picture nearest to the middle of its clear part."""
    captions = []
    for count, number in enumerate(chosen, 1):
        picture = _pick_picture(analysis, shots.shown[number])
        captions += network.caption([np.ascontiguousarray(picture[:, :, ::-1])])
        if progress is not None:
            progress(count / len(chosen))
    return tuple(captions)


def _pick_picture(analysis: Analysis, span: Span) -> U8:
    """BGR (h, w, 3), without black bars."""
    (picture,) = read_samples(analysis, nearest_samples(analysis, span, [span.duration / 2]))
    return crop_bars(picture, analysis)


def describe_shots(analysis: Analysis, shots: Shots, lines: Lines, chosen: Sequence[int]) -> tuple[str, ...]:
    """A few sentences a chosen shot: what is said in it or near it, then what was measured of it, in words.

    The dialogue comes first and bare, since the sentences are compared with lines of the same dialogue: a line that is
    spoken over a shot, or near it, is then nearest to that shot, where picture and words belong together.
    """
    loudness = _measure_loudness(analysis, shots)
    captions = []
    for n in chosen:
        look = _describe(analysis, shots, n, float(loudness[n]))
        said = " ".join(line.text for line in find_dialogue(lines, shots.spans[n]))
        captions.append(f"{said[: MOST_CHARACTERS - len(look) - 1]} {look}".strip())
    return tuple(captions)


def find_dialogue(lines: Lines, span: Span) -> list[Line]:
    """What is said over a shot or within CLOSE_SECONDS of it, at most MOST_LINES, the nearest to its middle.

    Where that is nothing: the last line before it and the first after it, within NEAR_SECONDS. In the order of time.
    """
    middle = (span.start + span.end) / 2
    distances = [(_gap(line.span, span), abs((line.span.start + line.span.end) / 2 - middle)) for line in lines.lines]
    close = sorted((n for n, (gap, _) in enumerate(distances) if gap <= CLOSE_SECONDS), key=lambda n: distances[n])
    if not close:
        near = [n for n, (gap, _) in enumerate(distances) if gap <= NEAR_SECONDS]
        before = [n for n in near if lines.lines[n].span.end <= span.start]
        after = [n for n in near if lines.lines[n].span.start >= span.end]
        close = [min(side, key=lambda n: distances[n]) for side in (before, after) if side]
    return [lines.lines[n] for n in sorted(close[:MOST_LINES])]


def _gap(one: Span, other: Span) -> float:
    """Seconds between two spans; 0 where they meet."""
    return max(0.0, one.start - other.end, other.start - one.end)


def _measure_loudness(analysis: Analysis, shots: Shots) -> F64:
    """(n,): dB of each shot's sound above the film's median shot; 0 throughout for a silent film."""
    levels = np.full(len(shots), SILENCE_DB)
    if len(analysis.sound):
        power = (analysis.sound.astype(np.float64) ** 2).sum(axis=1)
        for n, span in enumerate(shots.spans):
            first, last = (round((at - analysis.sound_start) / analysis.sound_step) for at in (span.start, span.end))
            heard = power[max(0, first) : max(0, last)]
            if len(heard):
                levels[n] = max(SILENCE_DB, 10 * np.log10(heard.mean() + 1e-12))
    above: F64 = levels - np.median(levels)
    return above


def _describe(analysis: Analysis, shots: Shots, number: int, loudness: float) -> str:
    """One sentence: A dark, still, quiet scene in blue and orange, early in the film. loudness: dB above the median."""
    span, luma, energy = shots.spans[number], float(shots.luma[number]), float(shots.energy[number])
    looks = [
        "dark" if luma <= DARK_LUMA else "bright" if luma >= BRIGHT_LUMA else "",
        "still" if energy <= STILL_ENERGY else "fast" if energy >= FAST_ENERGY else "",
        "quiet" if loudness <= -LOUD_DB else "loud" if loudness >= LOUD_DB else "",
    ]
    film = shots.film
    at = ((span.start + span.end) / 2 - film.start) / film.duration
    place = next((words for end, words in PLACES if at <= end), PLACES[-1][1])
    colours = " and ".join(name_colours(_pick_picture(analysis, shots.shown[number])))
    kind = ", ".join(look for look in looks if look)
    return f"A {kind + ' ' if kind else ''}scene in {colours}, {place} the film."


def name_colours(picture: U8) -> list[str]:
    """The one or two colours that a BGR picture (h, w, 3) has most of; "grey" where it has none to speak of."""
    hue, saturation, value = (plane.astype(np.float64) for plane in cv2.split(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV)))
    weight = saturation * value / 255**2  # a dark or pale pixel shows little of its hue
    if weight.mean() < GREY_SATURATION * value.mean() / 255 or not weight.any():
        return ["grey"]
    bins = np.searchsorted([end for end, _ in HUES], hue.ravel(), side="right")
    shares: dict[str, float] = {}
    for (_, name), share in zip(
        HUES, np.bincount(bins, weight.ravel(), minlength=len(HUES)) / weight.sum(), strict=True
    ):
        shares[name] = shares.get(name, 0.0) + float(share)
    ranked = sorted(shares, key=lambda name: -shares[name])
    return [ranked[0], *(name for name in ranked[1:2] if shares[name] >= LEAST_SHARE)]

"""The steps of the trailer's voice: read the film's lines, choose some, describe the shots, place the lines.

They belong to steps.py: a stage and its artifact each.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.captions import caption_slots
from pipeline.choices import choose_encoder_device, name_detector, name_speech_model
from pipeline.cues import Cue
from pipeline.errors import ChatError
from pipeline.gpu import use_gpu
from pipeline.mix import SILENT_LINE_DB, level_db
from pipeline.narration import place_lines
from pipeline.quotes import choose_quotes, find_allowed, find_secret, measure_clearness
from pipeline.records import Analysis, Features, Film, Segments, Selection, Shots, Span
from pipeline.screenwriter import choose_with_model, describe_request, open_chat
from pipeline.script import Captions, Lines, Narration, Script
from pipeline.settings import Captioner, Chooser, GuardSettings, Site, TrailerConfig
from pipeline.sound import choose_sound, read_sound
from pipeline.steps import Progress, slots_of
from pipeline.subtitles import find_sources, read_lines
from pipeline.voice import refine_spans
from pipeline.voicefile import fingerprint_voice, read_voice
from pipeline.workdir import Artifact, Made, WorkDir

log = logging.getLogger("trailer")

# what place_lines reads of [narration]
PLACING = {"score", "gap_seconds", "peak_seconds", "spread_weight", "quiet_weight"}
LINES_VERSION, SCRIPT_VERSION, CAPTIONS_VERSION, NARRATION_VERSION = 2, 1, 1, 1


def find_lines(
    work: WorkDir, film: Film, config: TrailerConfig, site: Site, subtitles: Path | None, *, progress: Progress
) -> Made[Lines]:
    """What is said in the film: from its subtitles, else from its sound. subtitles: the file to read; none: look for one."""
    settings, heard = config.lines, config.sound.language
    sources = find_sources(film, settings, subtitles, heard=heard)
    model = settings.speech_model

    def recognise(film: Film) -> tuple[Cue, ...]:
        from models.device import choose_device
        from pipeline.speech import recognise_speech

        with use_gpu(choose_device(site.device)):
            return recognise_speech(
                film,
                model,
                settings.language,
                device=site.device,
                weights_dir=site.weights_dir,
                progress=progress,
                heard=heard,
            )

    inputs = {
        "film": film.fingerprint,
        "sources": [[source.title, source.language, source.fingerprint, source.named] for source in sources],
        "language": settings.language,
        "heard": heard,
        "others": []
        if sources
        else [s.title for s in find_sources(film, settings.model_copy(update={"language": ""}))],
        "speech": name_speech_model(settings, site),
    }
    return work.reuse_or_make(
        "lines",
        LINES_VERSION,
        inputs,
        Lines,
        lambda: read_lines(film, settings, sources, recognise=recognise if model else None, heard=heard),
    )


def write_script(
    work: WorkDir,
    film: Film,
    lines: Artifact[Lines],
    analysis: Artifact[Analysis],
    shots: Artifact[Shots],
    segments: Artifact[Segments],
    config: TrailerConfig,
    title: str,
    voice: Path | None,
    *,
    progress: Progress,
) -> Made[Script]:
    """The lines that the trailer says. voice: a file of recordings that are heard instead of the film's own voices."""
    del progress
    from models.sentences import load_sentences

    if voice is not None:
        return _read_script(work, lines, voice)
    told, seen, cut = lines.load(), analysis.load(), shots.load()
    allowed = find_allowed(told, cut, config.guards)
    slots = slots_of(seen, cut, segments.load(), config)[0]
    words = config.narration.words or round(
        config.narration.words_per_second * float(slots.edges[-1] / slots.frame_rate)
    )
    heard = choose_sound(film.audio, config.sound.language)
    inputs: dict[str, Any] = {
        "lines": lines.key,
        "shots": shots.key,
        "guards": config.guards.model_dump(),
        "words": words,
        "track": -1 if heard is None else heard.index,
        "detector": name_detector(config.lines),
    }

    if heard is None:
        nothing = Script((), "nobody", ("the film has no sound: none of its lines can be heard",))
        return work.reuse_or_make("script", SCRIPT_VERSION, inputs, Script, lambda: nothing)
    index = heard.index

    def finish(script: Script) -> Script:
        """With the ends of its lines moved onto what is said."""
        if not script.lines:
            return script
        limits = [find_limits(told, line.number, cut, config.guards) for line in script.lines]
        # the film as it lies now: it may have been analysed when it lay elsewhere
        spans = refine_spans(film, [line.span for line in script.lines], limits, config.lines, index)
        heard_lines = [replace(line, span=span) for line, span in zip(script.lines, spans, strict=True)]
        return leave_out_silent(replace(script, lines=tuple(heard_lines)), film, index)

    if config.narration.chooser is Chooser.llm:
        request = describe_request(told, title, words, allowed, config.llm)
        try:
            return work.reuse_or_make(
                "script",
                SCRIPT_VERSION,
                {**inputs, "request": request},
                Script,
                lambda: finish(choose_with_model(told, title, words, allowed, config.llm, open_chat(config.llm))),
            )
        except ChatError as error:
            warning = f"{error}; the lines were chosen without a language model"
            inputs["without"] = warning
    else:
        warning = ""
    encoder = load_sentences("cpu")

    def choose() -> Script:
        clear = measure_clearness([line.span for line in told.lines], seen)
        whole = Span(seen.film.start, seen.film.end)
        chosen = choose_quotes(told, allowed, words, encoder, film=whole, clear=clear)
        warnings = [warning] if warning else []
        if not chosen:
            warnings.append(f"none of the film's {len(told)} lines is fit for a trailer that may say {words} words")
        return finish(Script(chosen, f"embedded ({encoder.name})", tuple(warnings)))

    return work.reuse_or_make("script", SCRIPT_VERSION, {**inputs, "encoder": encoder.name}, Script, choose)


def _read_script(work: WorkDir, lines: Artifact[Lines], voice: Path) -> Made[Script]:
    """The script that a voice file is."""
    inputs = {"lines": lines.key, "voice": fingerprint_voice(voice), "folder": str(voice.parent.resolve())}
    return work.reuse_or_make(
        "script",
        SCRIPT_VERSION,
        inputs,
        Script,
        lambda: Script(read_voice(voice, lines.load()), f"voice file {voice.name}"),
    )


def find_limits(lines: Lines, number: int, shots: Shots, guards: GuardSettings) -> Span:
    """What the sound of a line may not leave: where the lines before and after it end and begin, and what may be told."""
    span = lines.lines[number].span
    before = max((line.span.end for line in lines.lines[:number]), default=shots.film.start)
    after = min((line.span.start for line in lines.lines[number + 1 :]), default=shots.film.end)
    for secret in find_secret(shots, guards):
        if secret.end <= span.start:
            before = max(before, secret.end)
        if secret.start >= span.end:
            after = min(after, secret.start)
    return Span(min(before, span.start), max(after, span.end))


def leave_out_silent(script: Script, film: Film, index: int) -> Script:
    """Without the lines at which the film is silent: a translated sign, a mute passage."""
    spans = [line.span for line in script.lines]
    kept, warnings = [], list(script.warnings)
    pieces = read_sound(film.path, spans, sample_rate=16000, channels=1, stream_index=index, speech=True)
    for line, piece in zip(script.lines, pieces, strict=True):
        if level_db(piece) < SILENT_LINE_DB:
            warnings.append(f"the line “{line.text}” was left out: the film is silent there")
        else:
            kept.append(line)
    return replace(script, lines=tuple(kept), warnings=tuple(warnings))


def caption(
    work: WorkDir,
    analysis: Artifact[Analysis],
    shots: Artifact[Shots],
    features: Artifact[Features],
    lines: Artifact[Lines],
    script: Artifact[Script],
    selection: Artifact[Selection],
    config: TrailerConfig,
    site: Site,
    *,
    progress: Progress,
) -> Made[Captions]:
    """What each slot's shot shows, and how well the lines of the script go with it."""
    from models.captioners import load_captioner
    from models.device import choose_device
    from models.encoders import load_encoder
    from models.sentences import load_sentences

    captioner = config.narration.captioner
    sentences = load_sentences("cpu")
    network = encoder = None
    weights, device = sentences.name, "cpu"
    if captioner in (Captioner.smolvlm, Captioner.minicpm):
        device = choose_device(site.device)
        network = load_captioner(str(captioner), site.weights_dir, device)
        weights = network.weights
    elif captioner is Captioner.picture:
        device = choose_encoder_device(config, site)
        encoder = load_encoder(config.features, site)
        weights = encoder.weights
    inputs = {
        "shots": shots.key,
        "features": features.key,
        "lines": lines.key,
        "script": script.key,
        "selection": selection.key,
        "captioner": [str(captioner), network.name if network is not None else ""],
        "sentences": sentences.name,
        "weights": weights,
    }

    def make() -> Captions:
        with use_gpu(device):
            return caption_slots(
                analysis.load(),
                shots.load(),
                features=features.load(),
                lines=lines.load(),
                script=script.load(),
                chosen=selection.load().shots,
                settings=config.narration,
                sentences=sentences,
                network=network,
                encoder=encoder,
                progress=progress,
            )

    return work.reuse_or_make("captions", CAPTIONS_VERSION, inputs, Captions, make)


def narrate(
    work: WorkDir,
    analysis: Artifact[Analysis],
    shots: Artifact[Shots],
    segments: Artifact[Segments],
    script: Artifact[Script],
    captions: Artifact[Captions],
    config: TrailerConfig,
    *,
    progress: Progress,
) -> Made[Narration]:
    """Where each line of the script starts."""
    del progress
    inputs = {
        "segments": segments.key,
        "shots": shots.key,
        "guards": config.guards.model_dump(),
        "edit": config.edit.model_dump(),
        "script": script.key,
        "captions": captions.key,
        "narration": config.narration.model_dump(mode="json", include=PLACING),
    }

    def make() -> Narration:
        grid = segments.load()
        slots = slots_of(analysis.load(), shots.load(), grid, config)[0]
        return place_lines(script.load(), captions.load(), slots, grid.peaks, config.narration)

    return work.reuse_or_make("narration", NARRATION_VERSION, inputs, Narration, make)

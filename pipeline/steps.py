"""One function per step of the work: a stage and its artifact. Read this first.

A step takes small things (records, artifacts of earlier steps, settings) and hands back `Made`: where its own artifact
lies, and whether it was there already. Its key is made of the keys of what it reads, the settings that it reads, and its
VERSION: raise that when the stage's result changes for the same inputs. The trailer's voice has its steps in
narration_steps.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline import __version__
from pipeline.analysis import Spread, Threads, analyse_film, count_cores
from pipeline.cards import clear_cards, find_font
from pipeline.choices import choose_encoder_device, choose_network, find_checkpoint, name_models, warn_of_licences
from pipeline.edit import choose_frame_rate, describe_slowed, lay_out, make_cards, usable_seconds
from pipeline.editfile import edit_to_json
from pipeline.errors import InputError, NoSolutionError
from pipeline.features import encode_shots
from pipeline.framing import choose_size, find_active, follow_action
from pipeline.gpu import use_gpu
from pipeline.guards import count_reasons, find_bounds, keep_out
from pipeline.languages import same_language
from pipeline.media import check_readable, find_ffmpeg, fingerprint_file
from pipeline.music import describe_loops, segment_music
from pipeline.quality import Measured, check_trailer
from pipeline.records import (
    F32,
    F64,
    Analysis,
    EditList,
    Features,
    Film,
    FilmReference,
    Music,
    Output,
    Segments,
    Selection,
    Shots,
    Track,
)
from pipeline.refine import BANNED, Refinement
from pipeline.render import RENDER_VERSION, render_trailer
from pipeline.script import Captions, Lines, Narration, Script
from pipeline.selection import group_looks, rank_slot, select_shots, weigh
from pipeline.settings import Site, TrailerConfig
from pipeline.shots import cut_shots
from pipeline.slots import FEWEST_SLOTS, SHARE_ASKED, SHARE_SHOWN, Slots, longest_trailer, plan_slots, say_too_few
from pipeline.sound import choose_sound, read_track
from pipeline.workdir import Artifact, Made, WorkDir, make_key

Progress = Callable[[float], None]

VERSION: Mapping[str, int] = {
    "analysis": 3,
    "shots": 7,
    "features": 2,
    "music": 3,
    "selection": 6,
    "edit": 8,
    "render": RENDER_VERSION,
    "quality": 2,
}
MUSIC_RATE = 22050  # Hz that the music is listened to at
SHORTEST_ROOM = 6.0  # s
SHORT_OF = 1.0  # s by which a trailer may be shorter than asked for before a word is said
LONGEST_TRACK = 900.0  # s of a track that are listened to
SHORTEST_TRAILER, LOOPED_TRAILER = 10.0, 30.0  # s; a jingle shorter than the one is looped to the other
LONGEST_TRAILER = 150.0  # s; studios' cap (field figures: mean 122.8 s), for a track that is longer


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered trailer in the work folder. name: file beside the record; size: bytes, to notice a damaged one."""

    name: str
    size: int


def analyse(
    work: WorkDir,
    film: Film,
    config: TrailerConfig,
    site: Site,
    spread: Spread | None = None,
    *,
    progress: Progress,
) -> Made[Analysis]:
    """One decode of the film. spread: who looks at the parts of a long one; none: threads of this process."""
    inputs = {"film": film.fingerprint, "network": choose_network(config.shots.detector, site)}

    with work.make_scratch("analysis") as scratch:  # until the record is written: it maps a file there

        def judge(file: Path, count: int, tell: Progress) -> F32:
            from models.device import choose_device
            from models.transnet import TransNet

            device = choose_device(site.device)
            with use_gpu(device):
                return TransNet(device).judge(file, count, tell)

        def make() -> Analysis:
            return analyse_film(
                film,
                scratch,
                spread=spread or Threads(site.workers or count_cores()),
                network=judge if inputs["network"] else None,
                progress=progress,
            )

        return work.reuse_or_make("analysis", VERSION["analysis"], inputs, Analysis, make)


def find_shots(
    work: WorkDir, analysis: Artifact[Analysis], config: TrailerConfig, *, progress: Progress
) -> Made[Shots]:
    """The film's shots and what each is not fit for."""
    del progress  # a second or two
    inputs = {"analysis": analysis.key, "shots": config.shots.model_dump(), "guards": config.guards.model_dump()}
    return work.reuse_or_make(
        "shots", VERSION["shots"], inputs, Shots, lambda: cut_shots(analysis.load(), config.shots, config.guards)
    )


def encode(
    work: WorkDir,
    analysis: Artifact[Analysis],
    shots: Artifact[Shots],
    config: TrailerConfig,
    site: Site,
    *,
    progress: Progress,
) -> Made[Features]:
    """A vector for every shot."""
    from models.encoders import load_encoder

    encoder = load_encoder(config.features, site)
    inputs = {
        "analysis": analysis.key,
        "shots": shots.key,
        "encoder": encoder.identity.name,
        "weights": encoder.weights,
    }

    def make() -> Features:
        with use_gpu(choose_encoder_device(config, site)):
            return encode_shots(analysis.load(), shots.load(), encoder, progress=progress)

    return work.reuse_or_make("features", VERSION["features"], inputs, Features, make)


def judge_shots(analysis: Analysis, shots: Shots, config: TrailerConfig) -> tuple[F64, dict[int, str], list[float]]:
    """The longest cut that each shot can give (n,), s; why some may not be shown; and what the others can give."""
    seconds = usable_seconds(shots, analysis.times, config.edit)
    excluded = keep_out(shots, config.guards)
    return seconds, excluded, [float(s) for number, s in enumerate(seconds) if number not in excluded]


def find_room(analysis: Analysis, shots: Shots, config: TrailerConfig) -> float:
    """Seconds of trailer that the film's usable shots are enough for.

    Raises NoSolutionError where there are so few that no music makes a trailer of them.
    """
    _, excluded, usable = judge_shots(analysis, shots, config)
    fitting = [seconds for seconds in usable if seconds > 0]
    if len(fitting) < FEWEST_SLOTS:
        raise NoSolutionError(f"{_count_shots(analysis, shots, excluded)}: {say_too_few(fitting)}")
    share = SHARE_SHOWN if config.length is None else SHARE_ASKED
    return max(SHORTEST_ROOM, longest_trailer(usable, share, config.music.mean_seconds, config.edit))


def segment(
    work: WorkDir, track: Track, config: TrailerConfig, room: float = np.inf, *, progress: Progress
) -> Made[Segments]:
    """The track cut into segments, one trailer slot each. room: seconds that the film's shots are enough for."""
    del progress
    inputs = {"track": track.fingerprint, "music": config.music.model_dump(), "length": config.length, "room": room}

    def make() -> Segments:
        samples = read_track(track.path, sample_rate=MUSIC_RATE, longest=LONGEST_TRACK)[:, 0]
        length = config.length
        if length is None and len(samples) > LONGEST_TRAILER * MUSIC_RATE:
            length = LONGEST_TRAILER
        if length is None and len(samples) < SHORTEST_TRAILER * MUSIC_RATE:
            length = LOOPED_TRAILER
        if room < (length or len(samples) / MUSIC_RATE):
            length = room
        return segment_music(track, samples, MUSIC_RATE, config.music, length=length)

    return work.reuse_or_make("music", VERSION["music"], inputs, Segments, make)


def slots_of(
    analysis: Analysis, shots: Shots, segments: Segments, config: TrailerConfig
) -> tuple[Slots, F64, dict[int, str]]:
    """The trailer's grid, the longest cut that each shot can give, and why some shots may not be shown. Pure and quick.

    Raises NoSolutionError, with what the film has, when fewer than three slots can be filled.
    """
    seconds, excluded, usable = judge_shots(analysis, shots, config)
    try:
        slots = plan_slots(segments, usable, choose_frame_rate(analysis.film), config.edit)
    except NoSolutionError as error:
        raise NoSolutionError(f"{_count_shots(analysis, shots, excluded)}: {error}") from error
    return slots, seconds, excluded


def _count_shots(analysis: Analysis, shots: Shots, excluded: Mapping[int, str]) -> str:
    count = f"{len(shots)} shot{'s' * (len(shots) != 1)}"
    return f"the film lasts {analysis.film.duration:.1f} s and has {count}{count_reasons(excluded)}"


def select(
    work: WorkDir,
    analysis: Artifact[Analysis],
    shots: Artifact[Shots],
    features: Artifact[Features],
    segments: Artifact[Segments],
    config: TrailerConfig,
    site: Site,
    refinement: Refinement | None = None,
    *,
    progress: Progress,
) -> Made[Selection]:
    """SSMP fills the slots. refinement: what a person keeps and bans."""
    del progress
    path = find_checkpoint(config)
    sha256 = hashlib.sha256(check_readable(path, "checkpoint").read_bytes()).hexdigest()  # without torch: it may be reused
    inputs = {
        "features": features.key,
        "segments": segments.key,
        "edit": config.edit.model_dump(),
        "guards": config.guards.model_dump(),
        "selection": config.selection.model_dump(mode="json"),
        "seed": config.seed,
        "model": sha256,
        **({"refinement": refinement.key} if refinement is not None else {}),
    }

    def make() -> Selection:
        from models.device import choose_device
        from models.ssmp.checkpoint import load_checkpoint
        from models.ssmp.model import predict_slots

        described = features.load()
        model = load_checkpoint(path, encoder=described.encoder).model
        cut, grid = shots.load(), segments.load()
        slots, seconds, excluded = slots_of(analysis.load(), cut, grid, config)
        if refinement is not None:
            check_grid(refinement, slots)
        device = choose_device(site.device)
        with use_gpu(device):
            return select_shots(
                predict_slots(model.to(device), described.vectors),
                cut,
                slots,
                seconds,
                excluded,
                config.selection,
                looks=group_looks(described.vectors),
                track=grid.track.fingerprint,
                model={"name": path.stem, "sha256": sha256},
                seed=config.seed,
                refinement=refinement,
            )

    return work.reuse_or_make("selection", VERSION["selection"], inputs, Selection, make)


def check_grid(refinement: Refinement, slots: Slots) -> None:
    """Raises InputError where what stays of a trailer does not stand in the music's slots as they are now."""
    for slot, cut in refinement.cuts.items():
        if slot >= len(slots) or (cut.start_frame, cut.frames) != (slots.starts[slot], slots.lengths[slot]):
            raise InputError(
                f"slot {slot} of the edit list is not where the music has it now (it was changed by hand, or made by "
                "another version, or with other settings): make the trailer again, and refine that"
            )


def score_slot(
    analysis: Artifact[Analysis],
    shots: Artifact[Shots],
    features: Artifact[Features],
    segments: Artifact[Segments],
    config: TrailerConfig,
    site: Site,
    chosen: Sequence[int],
    slot: int,
    *,
    banned: Sequence[int],
    most: int,
) -> tuple[tuple[int, float], ...]:
    """The best shots for a slot of a finished trailer, with probabilities. chosen (J,): the shots that it has."""
    from models.device import choose_device
    from models.ssmp.checkpoint import load_checkpoint
    from models.ssmp.model import predict_slots

    described, cut = features.load(), shots.load()
    slots, seconds, excluded = slots_of(analysis.load(), cut, segments.load(), config)
    if len(slots) != len(chosen):
        raise InputError(f"the edit list has {len(chosen)} slots, its music now gives {len(slots)}: make the trailer again")
    excluded |= dict.fromkeys(banned, BANNED)
    model = load_checkpoint(find_checkpoint(config), encoder=described.encoder).model
    device = choose_device(site.device)
    with use_gpu(device):
        predict = predict_slots(model.to(device), described.vectors)
        steered, fits = weigh(predict, cut, slots, seconds, excluded, config.selection)
        return rank_slot(steered, np.array(chosen, np.int64), slot, fits, excluded, most)


def make_edit(
    work: WorkDir,
    film: Film,
    track: Track,
    analysis: Artifact[Analysis],
    shots: Artifact[Shots],
    segments: Artifact[Segments],
    selection: Artifact[Selection],
    lines: Artifact[Lines] | None,
    script: Artifact[Script] | None,
    captions: Artifact[Captions] | None,
    narration: Artifact[Narration] | None,
    config: TrailerConfig,
    site: Site,
    title: str,
    refinement: Refinement | None = None,
    *,
    progress: Progress,
) -> Made[EditList]:
    """The whole plan. film and track: as they lie now; the artifacts may have been made when they lay elsewhere.

    lines, script, captions, narration: none where the trailer does not speak.
    """
    del progress
    models = name_models(config, site)
    inputs = {
        "selection": selection.key,
        "voice": [made.key for made in (lines, script, captions, narration) if made is not None],
        "models": models,
        "film": str(film.path),
        "track": str(track.path),
        "title": title,
        "config": config.model_dump(mode="json"),
        "version": __version__,
        **({"refinement": refinement.key} if refinement is not None else {}),
    }

    def make() -> EditList:
        seen, cut, grid, chosen = analysis.load(), shots.load(), segments.load(), selection.load()
        slots = slots_of(seen, cut, grid, config)[0]
        bars = find_active(seen)
        width, height = choose_size(seen.film, config.video, bars)
        told = lines.load() if lines else Lines(film.fingerprint, ())
        said = narration.load() if narration else Narration(())
        warnings = [*seen.warnings, *chosen.warnings, *told.warnings]
        voice = {"lines": told.source or "none found"} if lines else {}
        if script is not None:
            voice["chooser"] = script.load().chooser
            warnings += [*script.load().warnings, *said.warnings]
        placements = said.placements
        if refinement is not None and refinement.narration is not None:
            placements = refinement.narration
        shown = captions.load() if captions else None
        if shown is not None:
            voice["captioner"] = shown.captioner
        heard = choose_sound(film.audio, config.sound.language)
        if heard is None:
            warnings.append("the film has no sound: the trailer has music only")
        elif config.sound.language and not same_language(heard.language, config.sound.language):
            warnings.append(
                f"the film has no sound in {config.sound.language}: track {heard.index} ({heard.language}) is heard"
            )
        warnings += warn_of_licences(models)
        rate = slots.frame_rate
        cuts = lay_out(
            slots,
            chosen,
            cut,
            seen.times,
            config.edit,
            placements=placements,
            lines=told.lines,
            captions=shown.texts if shown else (),
            kept=refinement.cuts if refinement is not None else {},
        )
        # also where this shape leaves nothing out: the edit list may be rendered in another
        cuts = tuple(
            replace(one, focus=follow_action(seen, one.source, float(one.frames / rate), bars)) for one in cuts
        )
        warnings += describe_slowed(cuts) + describe_loops(grid)
        lasts = float(slots.frames / rate)
        if config.length is not None and lasts < config.length - SHORT_OF:
            warnings.append(f"{lasts:.1f} s and not {config.length:g} s: the film has too few shots that may be shown")
        cards, unlettered = clear_cards(make_cards(slots, title, config.edit), find_font(config.edit.font))
        warnings += unlettered
        fade = round(config.edit.fade_seconds * rate)
        return EditList(
            version=__version__,
            seed=config.seed,
            title=title,
            film=FilmReference(
                path=film.path,
                fingerprint=film.fingerprint,
                duration=seen.film.duration,
                frame_rate=film.frame_rate,
                width=film.width,
                height=film.height,
                start=seen.film.start,
                bars=bars,
                story=find_bounds(cut, config.guards),
            ),
            output=Output(width, height, rate, slots.frames, config.sound.loudness_lufs, fade, fade),
            cuts=cuts,
            cards=cards,
            narration=placements,
            music=Music(
                path=track.path,
                fingerprint=track.fingerprint,
                offset=grid.offset,
                segments=tuple(round(float(edge / rate), 6) for edge in slots.starts),
                beats=tuple(round(float(beat), 6) for beat in grid.beats if beat < float(slots.frames / rate)),
                accents=tuple(round(float(time), 6) for time in grid.accents if time < float(slots.frames / rate)),
                parts=grid.parts,
                fade_seconds=grid.fade_seconds,
            ),
            models={**models, **voice, "selector": chosen.model},
            config=config.model_dump(mode="json"),
            shots=cut.spans,
            warnings=tuple(warnings),
            banned=refinement.banned if refinement is not None else (),
        )

    return work.reuse_or_make("edit", VERSION["edit"], inputs, EditList, make)


def render(work: WorkDir, edit: Artifact[EditList], site: Site, *, progress: Progress) -> Made[Rendered]:
    """The file, in the work folder."""
    plan = edit.load()
    inputs = {"edit": hashlib.sha256(edit_to_json(plan).encode()).hexdigest()}
    voices = {placed.voice for placed in plan.narration if placed.voice is not None}
    if voices:  # the edit list knows these by name alone
        inputs["voices"] = make_key("voices", 1, {str(v): fingerprint_file(check_readable(v, "voice")) for v in voices})
    path = work.folder / f"trailer-{make_key('render', VERSION['render'], inputs)}.mp4"

    def make() -> Rendered:
        render_trailer(plan, path, work.folder / "clips", site, progress=progress)
        return Rendered(path.name, path.stat().st_size)

    return work.reuse_or_make(
        "render",
        VERSION["render"],
        inputs,
        Rendered,
        make,
        valid=lambda made: path.is_file() and path.stat().st_size == made.size,
    )


def check(
    work: WorkDir, edit: Artifact[EditList], rendered: Artifact[Rendered], site: Site, *, progress: Progress
) -> Made[Measured]:
    """The gate: the file measured against its plan."""
    inputs = {"render": rendered.key, "edit": edit.key}
    path = work.folder / rendered.load().name
    return work.reuse_or_make(
        "quality",
        VERSION["quality"],
        inputs,
        Measured,
        lambda: check_trailer(path, edit.load(), site, memory=work.folder / "compared", progress=progress),
    )


def mean_look(analysis: Analysis) -> tuple[float, float]:
    """The film's mean luma and mean change from picture to picture, 0..255: what chooses a bundled bed."""
    return float(np.mean(analysis.luma[:, 0])), float(np.mean(analysis.scores[:, 2]))


def ffmpeg_at(site: Site) -> Path:
    """The ffmpeg of this site, looked for before any long work."""
    return find_ffmpeg(site.ffmpeg)

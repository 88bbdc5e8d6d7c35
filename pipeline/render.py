"""Turn an edit list into a file: the clips joined without re-encoding, the sound laid under them once.

The jobs (argument lists) are built by pure functions; media.py runs them. clips.py makes the clips.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import ffmpeg
import numpy as np

from pipeline.cards import write_srt
from pipeline.clips import JOB_FACTOR, JOB_SECONDS, Clip, encode_clips, plan_clips, without_program
from pipeline.clips import RENDER_VERSION as RENDER_VERSION  # the step's key has it
from pipeline.encoders import choose_encoder
from pipeline.errors import InputError, MediaError
from pipeline.loudness import RATE, measure_loudness
from pipeline.media import check_readable, find_ffmpeg, fingerprint_file, probe_film, run_ffmpeg
from pipeline.mix import choose_fade, mix_sound
from pipeline.music_parts import join_parts
from pipeline.records import F32, Cut, EditList, Film, Span, Trailer
from pipeline.settings import Site, SoundSettings, Subtitles, TrailerConfig, parse_config
from pipeline.sound import choose_sound, read_lines, read_sound, read_track
from pipeline.workdir import finish_file, partial_path
from pipeline.writing import join_clips, switch_off_subtitles

log = logging.getLogger("trailer")

AUDIO_BITRATE = "256k"
MASTER_TRIES = 6  # of loudness and peak; each listens to what the last one made
LEAST_PER_GAIN = 0.3  # LU a dB of gain; a limiter that lets less through has nothing left to give
LOUDNESS_WITHIN = 0.3  # LU; half of what the contract allows
PEAK_HEADROOM = 0.5  # dB under the limit at first: AAC adds a little
LIMIT_ATTACK = 2  # ms in which the limiter closes
LOOK_AHEAD = LIMIT_ATTACK * 4 * RATE // 1000  # samples at four times the rate
SILENT_LUFS = -65.0  # a mix below this has nothing to bring to a level
ENCODING_SHARE = 0.8  # of a render's progress


def render_trailer(
    edit: EditList, out: Path, clips: Path, site: Site, *, progress: Callable[[float], None] | None = None
) -> Trailer:
    """Render an edit list to `out`. clips: folder in which encoded cuts are kept and looked up.

    Raises InputError when the film or the track is no longer the one that the edit list names, MediaError when ffmpeg
    fails or makes something else than asked, MissingDependencyError where it cannot encode what is asked for.
    """
    program = find_ffmpeg(site.ffmpeg)
    config = parse_config(edit.config)
    film = find_film(edit)
    for placed in edit.narration:
        if placed.voice is None and not film.start - 1 <= placed.span.start < placed.span.end <= film.end + 1:
            raise InputError(
                f"the edit list takes the line “{placed.text}” from {placed.span.start:.2f} to {placed.span.end:.2f} s: the "
                f"film lasts from {film.start:.2f} to {film.end:.2f} s"
            )
    if fingerprint_file(check_readable(edit.music.path, "track")) != edit.music.fingerprint:
        raise InputError(
            f"{edit.music.path} is not the track that the edit list was made from (its content has changed)"
        )
    encoder = choose_encoder(config.video, program, (edit.output.width, edit.output.height))
    log.info("the picture is encoded as %s", encoder.description)
    clips.mkdir(parents=True, exist_ok=True)
    planned = plan_clips(edit, film, config, encoder, clips)

    def tell(frames: int) -> None:
        if progress is not None:
            progress(ENCODING_SHARE * frames / edit.output.frames)

    encode_clips(planned, edit, film, encoder, program, progress=tell)
    _assemble(edit, film, planned, out, config, program, tag=encoder.tag)
    if progress is not None:
        progress(1.0)
    return Trailer(out, edit, float(edit.output.frames / edit.output.frame_rate))


def find_film(edit: EditList) -> Film:
    """The film that an edit list names. Raises InputError when it is gone or has become another."""
    film = probe_film(edit.film.path)
    if film.fingerprint != edit.film.fingerprint:
        raise InputError(f"{edit.film.path} is not the film that the edit list was made from (its content has changed)")
    return replace(film, start=edit.film.start, duration=edit.film.duration)


def _assemble(
    edit: EditList, film: Film, clips: Sequence[Clip], out: Path, config: TrailerConfig, program: Path, *, tag: str
) -> None:
    """Join the clips, lay the sound under them, and bring it to its loudness by listening to the result."""
    wave, joined = partial_path(out.with_suffix(".f32")), partial_path(out.with_suffix(".mp4"))
    partial, written = partial_path(out), partial_path(out.with_suffix(".srt"))
    sound = config.sound
    seconds = float(edit.output.frames / edit.output.frame_rate)
    patience = JOB_SECONDS + JOB_FACTOR * seconds
    try:
        try:
            frames = [clip.piece.frames for clip in clips]
            join_clips([clip.path for clip in clips], frames, edit.output.frame_rate, joined)
        except MediaError:
            for clip in clips:  # the next run encodes them anew
                clip.path.unlink(missing_ok=True)
            raise
        mixed = make_mix(edit, film, sound)
        wave.write_bytes(np.ascontiguousarray(mixed, dtype="<f4").tobytes())
        subtitles = None
        if config.narration.subtitles is Subtitles.soft and (text := write_srt(edit)):
            written.write_text(text, encoding="utf-8")
            subtitles = written
        measured = measure_loudness(program, ["-f", "f32le", "-ar", str(RATE), "-ac", "2", "-i", str(wave)], patience)
        gain, ceiling = edit.output.loudness_lufs - measured[0], sound.true_peak_dbtp - PEAK_HEADROOM
        if measured[0] < SILENT_LUFS:
            log.warning("the trailer is silent (%.1f LUFS): neither the music nor the film has sound", measured[0])
            gain = 0.0
        tries: list[tuple[float, float]] = []  # gain, and the loudness that came of it
        for _ in range(MASTER_TRIES):
            job = master_job(joined, wave, partial, gain, ceiling, edit, subtitles, tag=tag)
            run_ffmpeg(program, job, timeout=patience)
            loudness, peak = measure_loudness(program, ["-i", str(partial)], patience)
            if measured[0] < SILENT_LUFS or (
                abs(loudness - edit.output.loudness_lufs) <= LOUDNESS_WITHIN and peak <= sound.true_peak_dbtp
            ):
                break
            tries.append((gain, loudness))
            gain += (edit.output.loudness_lufs - loudness) / _loudness_per_gain(tries)
            ceiling -= max(0.0, peak - sound.true_peak_dbtp) + (0.1 if peak > sound.true_peak_dbtp else 0.0)
        else:
            log.warning("the trailer has %.1f LUFS and %.1f dBTP after %d tries", loudness, peak, MASTER_TRIES)
        if subtitles is not None:
            switch_off_subtitles(partial)
        finish_file(partial, out)
    finally:
        for path in (wave, joined, partial, written):
            path.unlink(missing_ok=True)


def _loudness_per_gain(tries: Sequence[tuple[float, float]]) -> float:
    """How many LU a dB of gain gave from the last try but one to the last: the harder the limiter works, the less."""
    if len(tries) < 2 or abs(tries[-1][0] - tries[-2][0]) < 0.05:
        return 1.0
    (gain, loudness), (last_gain, last_loudness) = tries[-2:]
    return min(1.0, max(LEAST_PER_GAIN, (last_loudness - loudness) / (last_gain - gain)))


def make_mix(edit: EditList, film: Film, sound: SoundSettings) -> F32:
    """The trailer's sound before mastering, (n, 2) at 48 kHz.

    Raises InputError for a voice file that is absent, and for a line that is to come from a film without sound.
    """
    seconds = float(edit.output.frames / edit.output.frame_rate)
    parts = edit.music.parts or (Span(edit.music.offset, edit.music.offset + seconds),)
    longest = max(part.end for part in parts) + 1.0
    track = read_track(edit.music.path, sample_rate=RATE, channels=2, longest=longest)
    music = join_parts(track, RATE, parts, round(seconds * RATE))
    lines = read_lines(edit.narration, film, sound.language, sample_rate=RATE, channels=2)
    return mix_sound(
        music,
        _read_pieces(edit.cuts, film, sound),
        edit.cuts,
        zip(edit.narration, lines, strict=True),
        edit.output.frame_rate,
        edit.output.frames,
        settings=sound,
        fade_seconds=choose_fade(edit.music, seconds, len(track) / RATE),
    )


def _read_pieces(cuts: Sequence[Cut], film: Film, sound: SoundSettings) -> Iterator[F32]:
    """The film's own sound of each cut, (k, 2) at 48 kHz; none where the cut is to have none, or the film has none."""
    chosen = choose_sound(film.audio, sound.language)
    sounding = [cut.source for cut in cuts if cut.sound and chosen is not None]
    index = chosen.index if chosen is not None else None
    read = read_sound(film.path, sounding, sample_rate=RATE, channels=2, stream_index=index)
    for cut in cuts:
        yield next(read) if cut.sound and chosen is not None else np.zeros((0, 2), np.float32)


def master_job(
    joined: Path,
    wave: Path,
    out: Path,
    gain_db: float,
    ceiling_dbtp: float,
    edit: EditList,
    subtitles: Path | None = None,
    *,
    tag: str = "",
) -> list[str]:
    """ffmpeg's arguments to lay the sound under the picture: gain, true-peak limit at four times the rate, AAC.

    subtitles: an SRT file that becomes a track which players switch on. tag: the picture's sample entry; "": as it is.
    """
    rough = ffmpeg.input(str(wave), format="f32le", ar=RATE, ac=2).audio
    sound = (
        rough.filter("aformat", sample_fmts="fltp", sample_rates=RATE, channel_layouts="stereo")
        .filter("volume", f"{gain_db:.3f}dB")
        .filter("aresample", 4 * RATE)
        # it looks ahead, and gives everything that much later (its option latency=1 is not in every ffmpeg)
        .filter("apad", pad_len=LOOK_AHEAD)
        .filter("alimiter", limit=f"{10 ** (ceiling_dbtp / 20):.6f}", attack=LIMIT_ATTACK, release=60, level="disabled")
        .filter("atrim", start_sample=LOOK_AHEAD)
        .filter("asetpts", "N/SR/TB")
        .filter("aresample", RATE)
    )
    streams = [ffmpeg.input(str(joined)).video, sound]
    options: dict[str, str] = {"tag:v": tag} if tag else {}
    if subtitles is not None:
        streams.append(ffmpeg.input(str(subtitles), format="srt")["s"])
        # the edit list does not say which language its lines are in
        options |= {"c:s": "mov_text", "metadata:s:s:0": "language=und", "disposition:s:0": "0"}
    job = ffmpeg.output(
        *streams,
        str(out),
        vcodec="copy",
        acodec="aac",
        movflags="+faststart",
        video_track_timescale=edit.output.frame_rate.numerator,
        map_metadata=-1,
        aac_coder="fast",  # twoloop starves the first frame: where a track starts in full swing it overshot by 3 dB
        **{"b:a": AUDIO_BITRATE, "metadata": f"title={edit.title}"},
        **options,
    )
    return ["-v", "warning", *without_program(job)]

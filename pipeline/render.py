"""Turn an edit list into a file: every cut encoded on its own, joined without re-encoding, the sound laid under it once.

The pictures of a cut are chosen here by timestamp and piped to ffmpeg raw, so that the clock of the edit list, of the
analysis and of the render is one. The jobs (argument lists) are built by pure functions; media.py runs them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import ffmpeg
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.cards import Subtitle, draw_card, draw_subtitle, subtitles_over, write_srt
from pipeline.decode import read_pictures
from pipeline.errors import InputError, MediaError
from pipeline.loudness import RATE, measure_loudness
from pipeline.media import check_readable, find_ffmpeg, fingerprint_file, probe_film, run_ffmpeg
from pipeline.mix import choose_fade, mix_sound
from pipeline.music_parts import join_parts
from pipeline.records import F32, Card, Cut, EditList, Film, Output, Span, Trailer
from pipeline.settings import Site, SoundSettings, Subtitles, TrailerConfig, VideoSettings, parse_config
from pipeline.sound import choose_sound, read_lines, read_sound, read_track
from pipeline.workdir import finish_file, partial_path
from pipeline.writing import join_clips, switch_off_subtitles

log = logging.getLogger("trailer")

RENDER_VERSION = 3  # of the clips: raise it when a clip shows something else for the same edit list
AUDIO_BITRATE = "256k"
MASTER_TRIES = 6  # of loudness and peak; each listens to what the last one made
LEAST_PER_GAIN = 0.3  # LU a dB of gain; a limiter that lets less through has nothing left to give
LOUDNESS_WITHIN = 0.3  # LU; half of what the contract allows
PEAK_HEADROOM = 0.5  # dB under the limit at first: AAC adds a little
LIMIT_ATTACK = 2  # ms in which the limiter closes
LOOK_AHEAD = LIMIT_ATTACK * 4 * RATE // 1000  # samples at four times the rate
SILENT_LUFS = -65.0  # a mix below this has nothing to bring to a level
# seconds a job may take: a fixed part, and so many times the length of what it makes
JOB_SECONDS, JOB_FACTOR = 60.0, 60.0
COLOUR_NAMES = {  # as the container numbers them (ITU-T H.273) -> as ffmpeg's options name them
    "primaries": {"1": "bt709", "5": "bt470bg", "6": "smpte170m", "9": "bt2020"},
    "transfer": {"1": "bt709", "6": "smpte170m", "14": "bt2020-10"},
    "matrix": {"1": "bt709", "5": "bt470bg", "6": "smpte170m", "9": "bt2020nc"},
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One encoded stretch of the trailer, kept under its key for the next render."""

    key: str
    frames: int


def render_trailer(
    edit: EditList, out: Path, clips: Path, site: Site, *, progress: Callable[[float], None] | None = None
) -> Trailer:
    """Render an edit list to `out`. clips: folder in which encoded cuts are kept and looked up.

    Raises InputError when the film or the track is no longer the one that the edit list names, MediaError when ffmpeg
    fails or makes something else than asked.
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
    clips.mkdir(parents=True, exist_ok=True)
    pieces = edit.pieces
    burned = config.narration.subtitles is Subtitles.burned
    said = [subtitles_over(piece, edit) if burned else () for piece in pieces]
    paths = [
        clips / f"{_clip_key(piece, over, film, edit.output, config.video)}.mp4"
        for piece, over in zip(pieces, said, strict=True)
    ]
    todo = [job for job in zip(pieces, said, paths, strict=True) if not job[2].exists()]
    done = edit.output.frames - sum(piece.frames for piece, _, _ in todo)
    # one thread an encode and one encode a core: nothing is lost to waiting, and the result is the same on any machine
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        jobs = {
            pool.submit(_encode_piece, piece, over, path, film, edit.output, config.video, program): piece
            for piece, over, path in todo
        }
        try:
            for job in as_completed(jobs):
                job.result()
                done += jobs[job].frames
                if progress is not None:
                    progress(0.8 * done / edit.output.frames)
        except BaseException:
            for job in jobs:
                job.cancel()
            raise
    _assemble(edit, film, paths, [piece.frames for piece in pieces], out, config, program)
    if progress is not None:
        progress(1.0)
    return Trailer(out, edit, float(edit.output.frames / edit.output.frame_rate))


def find_film(edit: EditList) -> Film:
    """The film that an edit list names. Raises InputError when it is gone or has become another."""
    film = probe_film(edit.film.path)
    if film.fingerprint != edit.film.fingerprint:
        raise InputError(f"{edit.film.path} is not the film that the edit list was made from (its content has changed)")
    return replace(film, start=edit.film.start, duration=edit.film.duration)


def _clip_key(piece: Cut | Card, said: Sequence[Subtitle], film: Film, output: Output, video: VideoSettings) -> str:
    shown = [film.fingerprint, piece.source.start] if isinstance(piece, Cut) else [piece.text]
    look = [output.width, output.height, str(output.frame_rate), video.crf, video.preset, film.matrix, film.primaries]
    over = [[subtitle.text, subtitle.start, subtitle.end] for subtitle in said]
    text = json.dumps([RENDER_VERSION, type(piece).__name__, shown, piece.frames, look, over])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _encode_piece(
    piece: Cut | Card,
    said: Sequence[Subtitle],
    path: Path,
    film: Film,
    output: Output,
    video: VideoSettings,
    program: Path,
) -> None:
    partial = partial_path(path)
    seconds = float(piece.frames / output.frame_rate)
    if isinstance(piece, Card):
        size, pixel_format = (output.width, output.height), "rgb24"
        chunks: Iterator[bytes] = draw_card(piece, output)
    else:
        times = [piece.source.start + float(k / output.frame_rate) for k in range(piece.frames)]
        size, pixel_format, chunks = _raw_pictures(film, times)
    try:
        with TemporaryDirectory() as folder:
            over = [
                (_write_subtitle(subtitle, output, Path(folder) / f"{number}.png"), subtitle)
                for number, subtitle in enumerate(said)
            ]
            drawn = isinstance(piece, Card)
            arguments = clip_job(partial, size, pixel_format, output, video, film, drawn=drawn, over=over)
            # where seeks fail a cut is decoded from the film's start, and ffmpeg waits for us
            reach = 0.5 * (piece.source.end - film.start) if isinstance(piece, Cut) else 0.0
            run_ffmpeg(program, arguments, chunks=chunks, timeout=JOB_SECONDS + JOB_FACTOR * seconds + reach)
        finish_file(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_subtitle(subtitle: Subtitle, output: Output, path: Path) -> Path:
    picture = draw_subtitle(subtitle.text, output.width, output.height)
    path.write_bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))[1].tobytes())
    return path


def clip_job(
    path: Path,
    size: tuple[int, int],
    pixel_format: str,
    output: Output,
    video: VideoSettings,
    film: Film,
    *,
    drawn: bool,
    over: Sequence[tuple[Path, Subtitle]] = (),
) -> list[str]:
    """ffmpeg's arguments for one clip: raw pictures on standard input, H.264 in MP4 out.

    drawn: a card, RGB and upright; else the film's own pictures. over: PNGs of the output's size that are laid over it,
    each while its subtitle is in view. All clips of a trailer carry the same tags, or they could not be joined.
    """
    stream = ffmpeg.input(
        "pipe:0",
        format="rawvideo",
        pix_fmt=pixel_format,
        video_size=size,
        framerate=str(output.frame_rate),
    )
    if not drawn:
        for _ in range(film.rotation // 90):
            stream = stream.filter("transpose", "cclock")
    tags = _colour_tags(film)
    if not drawn and "colorspace" in tags:
        # raw pictures arrive without a matrix: unsaid, ffmpeg would take BT.601 and convert what is BT.709 already
        stream = stream.filter("setparams", colorspace=tags["colorspace"])
    in_range = "pc" if drawn or film.full_range else "tv"
    stream = stream.filter(
        "scale", output.width, output.height, flags="lanczos+accurate_rnd", in_range=in_range, out_range="tv"
    )
    stream = stream.filter("setsar", "1").filter("format", "yuv420p").filter("setparams", range="tv", **tags)
    for picture, subtitle in over:
        # at the clip's rate, so that both have one clock; png_pipe reads no pattern in a name
        lettering = ffmpeg.input(str(picture), format="png_pipe", framerate=str(output.frame_rate))
        stream = stream.overlay(lettering, enable=f"between(n,{subtitle.start},{subtitle.end - 1})")
    job = stream.output(
        str(path),
        vcodec="libx264",
        crf=video.crf,
        preset=video.preset,
        threads=1,
        color_range="tv",
        video_track_timescale=output.frame_rate.numerator,  # a frame is exactly rate.denominator ticks
    )
    return ["-protocol_whitelist", "file,pipe", "-v", "warning", *_without_program(job)]


def _colour_tags(film: Film) -> dict[str, str]:
    named = {
        "color_primaries": COLOUR_NAMES["primaries"].get(film.primaries),
        "color_trc": COLOUR_NAMES["transfer"].get(film.transfer),
        "colorspace": COLOUR_NAMES["matrix"].get(film.matrix),
    }
    return {name: value for name, value in named.items() if value is not None}


def _without_program(job: object) -> list[str]:
    arguments: list[str] = ffmpeg.compile(job, overwrite_output=True)
    return arguments[1:]


def _raw_pictures(film: Film, times: list[float]) -> tuple[tuple[int, int], str, Iterator[bytes]]:
    """Size, raw format, and the pictures as bytes. 8-bit 4:2:0 passes as it is; all else becomes 8-bit 4:4:4."""
    straight = film.pixel_format in ("yuv420p", "yuvj420p") and film.width % 2 == film.height % 2 == 0
    size = (film.width, film.height)

    def chunks() -> Iterator[bytes]:
        reformatter = VideoReformatter()
        shown: VideoFrame | None = None
        data = b""
        for frame in read_pictures(film, times):
            if frame is not shown:
                shown = frame
                if not straight or (frame.width, frame.height) != size or frame.format.name != film.pixel_format:
                    frame = reformatter.reformat(frame, *size, "yuv420p" if straight else "yuv444p")
                data = frame.to_ndarray().tobytes()
            yield data

    return size, "yuv420p" if straight else "yuv444p", chunks()


def _assemble(
    edit: EditList, film: Film, clips: list[Path], frames: list[int], out: Path, config: TrailerConfig, program: Path
) -> None:
    """Join the clips, lay the sound under them, and bring it to its loudness by listening to the result."""
    wave, joined = partial_path(out.with_suffix(".f32")), partial_path(out.with_suffix(".mp4"))
    partial, written = partial_path(out), partial_path(out.with_suffix(".srt"))
    sound = config.sound
    seconds = float(edit.output.frames / edit.output.frame_rate)
    patience = JOB_SECONDS + JOB_FACTOR * seconds
    try:
        try:
            join_clips(clips, frames, edit.output.frame_rate, joined)
        except MediaError:
            for clip in clips:  # the next run encodes them anew
                clip.unlink(missing_ok=True)
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
            run_ffmpeg(program, master_job(joined, wave, partial, gain, ceiling, edit, subtitles), timeout=patience)
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
) -> list[str]:
    """ffmpeg's arguments to lay the sound under the picture: gain, true-peak limit at four times the rate, AAC.

    subtitles: an SRT file that becomes a track which players switch on.
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
    options: dict[str, str] = {}
    if subtitles is not None:
        streams.append(ffmpeg.input(str(subtitles), format="srt")["s"])
        # the edit list does not say which language its lines are in
        options = {"c:s": "mov_text", "metadata:s:s:0": "language=und", "disposition:s:0": "0"}
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
    return ["-v", "warning", *_without_program(job)]

"""Turn one piece of the trailer, a cut or a card, into an encoded clip that is kept for the next render.

The pictures are made here (pictures.py), with what is said laid over them, and piped to ffmpeg raw: it only encodes. So the
clock of the edit list, of the analysis and of the render is one, and the gate can make the same pictures again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import cv2
import ffmpeg
import numpy as np

from pipeline.cards import Subtitle, draw_card, draw_subtitle, find_font, subtitles_over
from pipeline.colours import Colours, choose_colours
from pipeline.encoders import Encoder
from pipeline.media import run_ffmpeg
from pipeline.pictures import fade_pictures, fade_weight, find_before, from_rgb, show_cut, split_planes
from pipeline.records import F32, U8, Card, Cut, EditList, Film, Output
from pipeline.settings import Codec, Subtitles, TrailerConfig, parse_config
from pipeline.workdir import finish_file, partial_path

RENDER_VERSION = 4  # of the clips: raise it when a clip shows something else for the same edit list
# seconds a job may take: a fixed part, and so many times the length of what it makes
JOB_SECONDS, JOB_FACTOR = 60.0, 60.0
POLL = 0.2  # s between two looks at what has ended
MEMORY = 1 << 30  # bytes that all jobs together may take; a run's whole bound is 1.5 GB
PROGRAM_BYTES = 40 << 20  # of an ffmpeg with nothing in it
# pictures of the output that an encoder's memory comes to; of 720p, medium, 48 frames: x264 161 MiB, x265 256, SVT-AV1 264
ENCODER_FRAMES = {Codec.h264: 90, Codec.hevc: 160, Codec.av1: 170}
DECODER_FRAMES = 20  # stored pictures: 16 that H.264 may refer to, and those under way


@dataclass(frozen=True, slots=True)
class Clip:
    """One encoded stretch of the trailer. path: where it is, or is to be; its name is a key of all that it shows."""

    path: Path
    piece: Cut | Card
    said: tuple[Subtitle, ...]


def plan_clips(edit: EditList, film: Film, config: TrailerConfig, encoder: Encoder, folder: Path) -> list[Clip]:
    """The clips of a trailer, in order, each at the place where it is kept."""
    burned = config.narration.subtitles is Subtitles.burned
    clips = []
    for piece in edit.pieces:
        said = subtitles_over(piece, edit) if burned else ()
        key = make_clip_key(piece, said, edit, film, encoder, font=config.edit.font)
        clips.append(Clip(folder / f"{key}.mp4", piece, said))
    return clips


def make_clip_key(
    piece: Cut | Card, said: Sequence[Subtitle], edit: EditList, film: Film, encoder: Encoder, *, font: str
) -> str:
    """A name for what a clip shows and how it is encoded: another one wherever a pixel could differ."""
    output = edit.output
    if isinstance(piece, Card):
        shown = [piece.frames, _fades(piece, edit), piece.text, piece.note, font]
    else:
        shown = describe_shown(piece, edit, film)
    over = [[subtitle.text, subtitle.start, subtitle.end, font] for subtitle in said]
    look = [output.width, output.height, str(output.frame_rate), repr(choose_colours(film)), repr(encoder)]
    text = json.dumps([RENDER_VERSION, type(piece).__name__, shown, look, over])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def describe_shown(cut: Cut, edit: EditList, film: Film) -> list[object]:
    """JSON values for what a cut shows, whatever the output's size and colours: others wherever a pixel could differ."""
    before = find_before(cut, edit) if cut.dissolve else None
    shown = [cut.frames, _fades(cut, edit), film.fingerprint, edit.film.bars, _describe(cut), cut.dissolve]
    return shown + ([_describe(before), before.frames] if before is not None else [])


def _fades(piece: Cut | Card, edit: EditList) -> list[float]:
    weights = [fade_weight(edit.output, piece.start_frame + frame) for frame in range(piece.frames)]
    return weights if min(weights) < 1 else []


def _describe(cut: Cut) -> list[object]:
    return [cut.source.start, cut.speed, cut.focus]


def encode_clips(
    clips: Sequence[Clip],
    edit: EditList,
    film: Film,
    encoder: Encoder,
    program: Path,
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Encode those clips that are not there yet, side by side as far as memory allows. progress: frames that are done.

    Raises MediaError when ffmpeg fails, InputError where the film cannot be decoded.
    """
    todo = list({clip.path: clip for clip in clips if not clip.path.exists()}.values())
    done = sum(clip.piece.frames for clip in clips) - sum(clip.piece.frames for clip in todo)
    stop = threading.Event()
    # one thread an encode and one encode a core: nothing is lost to waiting, and the result is the same on any machine
    with ThreadPoolExecutor(max_workers=count_jobs(film, edit.output, encoder.codec)) as pool:
        jobs = {pool.submit(encode_clip, clip, edit, film, encoder, program, stop): clip for clip in todo}
        waiting = set(jobs)
        try:
            while waiting:
                ended, waiting = wait(waiting, timeout=POLL, return_when=FIRST_COMPLETED)
                for job in ended:
                    job.result()
                    done += jobs[job].piece.frames
                if progress is not None:
                    progress(done)  # also where nothing has ended: it is here that a run hears that it is to stop
        except BaseException:
            stop.set()  # nobody waits for what is being encoded
            for job in jobs:
                job.cancel()
            raise


def count_jobs(film: Film, output: Output, codec: Codec) -> int:
    """How many clips may be encoded at once: as many as there are cores, and as fit into MEMORY."""
    deep = 2 if any(bits in film.pixel_format for bits in ("10", "12", "14", "16")) else 1
    colour = 3 if "444" in film.pixel_format or "gbr" in film.pixel_format else 2 if "422" in film.pixel_format else 1.5
    decoder = DECODER_FRAMES * film.width * film.height * colour * deep
    encoder = ENCODER_FRAMES[codec] * output.width * output.height * 1.5
    return max(1, min(os.cpu_count() or 1, int(MEMORY // (PROGRAM_BYTES + decoder + encoder))))


def encode_clip(
    clip: Clip, edit: EditList, film: Film, encoder: Encoder, program: Path, stop: threading.Event | None = None
) -> None:
    """Encode one clip; once stop is set, end soon and leave nothing.

    Raises MediaError when ffmpeg fails, InputError where the film cannot be decoded.
    """
    partial, piece, output = partial_path(clip.path), clip.piece, edit.output
    seconds = float(piece.frames / output.frame_rate)
    # where seeks fail a cut is decoded from the film's start, and ffmpeg waits for us
    reach = 0.5 * (piece.source.end - film.start) if isinstance(piece, Cut) else 0.0
    try:
        run_ffmpeg(
            program,
            clip_job(partial, output, encoder, choose_colours(film)),
            chunks=(picture.data for picture in _until(stop, make_pictures(clip, edit, film))),
            timeout=JOB_SECONDS + JOB_FACTOR * seconds + reach,
        )
        finish_file(partial, clip.path)
    finally:
        partial.unlink(missing_ok=True)


class _StoppedError(Exception):
    """Ends a clip that nobody waits for."""


def _until(stop: threading.Event | None, pictures: Iterator[U8]) -> Iterator[U8]:
    for picture in pictures:
        if stop is not None and stop.is_set():
            raise _StoppedError
        yield picture


def make_pictures(clip: Clip, edit: EditList, film: Film) -> Iterator[U8]:
    """A clip's pictures, I420 (height * 3 / 2, width), finished: with its lettering and the trailer's fades."""
    piece, output, colours = clip.piece, edit.output, choose_colours(film)
    font = find_font(parse_config(edit.config).edit.font)
    pictures: Iterator[U8]
    if isinstance(piece, Card):
        pictures = _convert_card(draw_card(piece, output, font), output, colours)
    else:
        pictures = show_cut(film, piece, edit, range(piece.frames), output)
    if clip.said:
        pictures = lay_subtitles(pictures, clip.said, output, colours, font)
    frames = range(piece.start_frame, piece.start_frame + piece.frames)
    return fade_pictures(pictures, frames, output)


def _convert_card(pictures: Iterable[bytes], output: Output, colours: Colours) -> Iterator[U8]:
    last: tuple[bytes, U8] | None = None
    for picture in pictures:
        if last is None or last[0] != picture:  # most of a card stands still
            rgb = np.frombuffer(picture, np.uint8).reshape(output.height, output.width, 3)
            last = (picture, from_rgb(rgb, colours))
        yield last[1]


def lay_subtitles(
    pictures: Iterable[U8], said: Sequence[Subtitle], output: Output, colours: Colours, font: Path
) -> Iterator[U8]:
    """Pictures, I420, with what is said drawn over those in which it is in view."""
    size = (output.width, output.height)
    drawn = [Lettering(draw_subtitle(subtitle.text, *size, font), colours) for subtitle in said]
    for number, picture in enumerate(pictures):
        for lettering, subtitle in zip(drawn, said, strict=True):
            if subtitle.start <= number < subtitle.end:
                picture = lettering.lay_over(picture)
        yield picture


class Lettering:
    """A picture with transparency, RGBA (h, w, 4), ready to be laid over I420 of the same even size."""

    def __init__(self, picture: U8, colours: Colours) -> None:
        height, width = picture.shape[:2]
        rows = np.flatnonzero(picture[..., 3].any(axis=1))
        # whole samples of colour, and nothing to do where it is transparent
        self._top = int(rows[0]) // 2 * 2 if len(rows) else 0
        self._bottom = int(rows[-1]) // 2 * 2 + 2 if len(rows) else 0
        self._size = (width, height)
        if not len(rows):
            return
        part = np.ascontiguousarray(picture[self._top : self._bottom])
        alpha: F32 = part[..., 3].astype(np.float32) / np.float32(255)
        halved = np.asarray(
            cv2.resize(alpha, (width // 2, part.shape[0] // 2), interpolation=cv2.INTER_AREA), np.float32
        )
        self._alphas = [alpha, halved, halved]
        drawn = from_rgb(np.ascontiguousarray(part[..., :3]), colours)
        self._planes = [plane.astype(np.float32) for plane in split_planes(drawn, (width, part.shape[0]))]

    def lay_over(self, picture: U8) -> U8:
        """A copy of the picture, I420 (h * 3 / 2, w), with the lettering on it."""
        picture = picture.copy()
        if self._bottom == 0:
            return picture
        for number, plane in enumerate(split_planes(picture, self._size)):
            rows = slice(self._top, self._bottom) if number == 0 else slice(self._top // 2, self._bottom // 2)
            under = plane[rows].astype(np.float32)
            plane[rows] = np.rint(under + (self._planes[number] - under) * self._alphas[number])
        return picture


def clip_job(path: Path, output: Output, encoder: Encoder, colours: Colours) -> list[str]:
    """ffmpeg's arguments for one clip: I420 pictures of the output's size on standard input, MP4 out.

    All clips of a trailer carry the same tags, or they could not be joined.
    """
    stream = ffmpeg.input(
        "pipe:0",
        format="rawvideo",
        pix_fmt="yuv420p",
        video_size=(output.width, output.height),
        framerate=str(output.frame_rate),
    )
    stream = stream.filter("setsar", "1").filter("setparams", range="tv", **colours.tags)
    for name, value in encoder.upload:
        stream = stream.filter(name, value) if value else stream.filter(name)
    tag = {"tag:v": encoder.tag} if encoder.tag else {}
    job = stream.output(
        str(path),
        vcodec=encoder.name,
        color_range="tv",
        video_track_timescale=output.frame_rate.numerator,  # a frame is exactly rate.denominator ticks
        **dict(encoder.options),
        **tag,
    )
    return ["-protocol_whitelist", "file,pipe", "-v", "warning", *encoder.setup, *without_program(job)]


def without_program(job: object) -> list[str]:
    """The arguments of an ffmpeg-python job."""
    arguments: list[str] = ffmpeg.compile(job, overwrite_output=True)
    return arguments[1:]

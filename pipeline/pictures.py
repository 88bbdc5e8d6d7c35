"""Turn a film's pictures into a trailer's: one chain for the render and for the gate that looks at what was rendered.

Decoded picture -> deinterlaced where it is flagged so -> cropped (black bars, the output's aspect) -> scaled to square
pixels, 8-bit 4:2:0, in the trailer's colours -> turned upright -> the moving window -> dissolve -> fade. One decoded picture
gives one picture, at the time that the film's container gives, and all of it happens in this process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
from av.error import BlockingIOError as NotYet
from av.error import EOFError as AtEnd
from av.filter import Graph
from av.filter.context import FilterContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from pipeline.colours import MATRIX_NUMBERS, Colours, choose_colours, write_table
from pipeline.decode import read_pictures
from pipeline.records import F32, F64, FOCUS_STEP, U8, Cut, EditList, Film, FilmReference, Output
from pipeline.shrink import view_plane

LIMITED_RANGE, FULL_RANGE = 1, 2  # AVCOL_RANGE_MPEG, AVCOL_RANGE_JPEG
SCALER = "lanczos+accurate_rnd"
STILL = 0.5  # px of the output; a window that moves less in all stands still
TAPS = 8  # of the filter that moves a window by parts of a pixel (Lanczos, four lobes)
BLACK_Y, GREY_C = 16, 128  # of limited range
SMALL = 180  # px; height at which pictures are compared unless another is named

Size = tuple[int, int]
Box = tuple[float, float, float, float]  # left, top, right, bottom, shares of a picture


@dataclass(frozen=True, slots=True)
class Framing:
    """What is cut out of each picture of a cut, and how large it becomes.

    box: of the picture as it is stored, shares. strip: (w, h) that the box is scaled to, as shown. offsets: (frames,) px
    from the strip's start to the window's, along the axis (0 down, 1 across) that it moves on.
    """

    box: Box
    strip: Size
    axis: int
    offsets: F64


def frame_cut(film: Film, reference: FilmReference, cut: Cut, output: Output, frames: int) -> Framing:
    """Find the windows of a cut's first `frames` trailer frames: the output's aspect, as large as fits amid the bars.

    Each is centred on the focus and clamped to the active picture. Where the aspects agree to within what rounding the
    output's size to even pixels costs, all of the active picture is shown.
    """
    left, top, right, bottom = reference.bars
    shown = (left, top, 1.0 - right, 1.0 - bottom)
    width, height = film.width * float(film.pixel_aspect), float(film.height)
    if film.rotation in (90, 270):
        width, height = height, width
    width, height = width * (shown[2] - shown[0]), height * (shown[3] - shown[1])
    wanted, active = output.width / output.height, width / height
    if abs(wanted / active - 1) <= 1 / output.width + 1 / output.height:
        return Framing(_store(shown, film), (output.width, output.height), 1, np.zeros(frames))
    axis = 1 if wanted < active else 0
    share = wanted / active if axis == 1 else active / wanted  # of the active picture, that the window takes
    length = output.width if axis == 1 else output.height
    starts = np.clip(_follow(cut, axis, frames, output.frame_rate) - share / 2, 0.0, 1.0 - share)
    scale = length / share  # px of the output over the whole active picture
    begin, end = float(starts.min()), float(starts.max()) + share
    if float(np.ptp(starts)) * scale < STILL:
        begin = float(starts[len(starts) // 2])
        end, strip, offsets = begin + share, length, np.zeros(frames)
    else:
        begin, end = max(0.0, begin - TAPS / scale), min(1.0, end + TAPS / scale)
        strip = max(length, _even((end - begin) * scale))
        offsets = np.clip((starts - begin) * strip / (end - begin), 0.0, strip - length)
    low, high = (shown[0], shown[2]) if axis == 1 else (shown[1], shown[3])
    begin, end = low + begin * (high - low), low + end * (high - low)
    box = (begin, shown[1], end, shown[3]) if axis == 1 else (shown[0], begin, shown[2], end)
    return Framing(
        _store(box, film), (strip, output.height) if axis == 1 else (output.width, strip), axis, np.asarray(offsets)
    )


def _follow(cut: Cut, axis: int, frames: int, rate: Fraction) -> F64:
    """(frames,) the focus along an axis, 0..1."""
    if not cut.focus:
        return np.full(frames, 0.5)
    points = [point[0] if axis == 1 else point[1] for point in cut.focus]
    times = np.arange(frames) / float(rate)
    return np.asarray(np.interp(times, FOCUS_STEP * np.arange(len(points)), points), np.float64)


def _store(box: Box, film: Film) -> Box:
    """A part of the shown picture as a part of the stored one, which is turned counter-clockwise to be shown."""
    for _ in range(film.rotation // 90):
        left, top, right, bottom = box
        box = (1.0 - bottom, left, 1.0 - top, right)
    return box


def _even(size: float) -> int:
    return max(2, round(size / 2) * 2)


class Chain:
    """Decoded pictures of one cut -> I420 of the output's size. Not for several threads at once.

    frames: trailer frames of the cut, those counted that a dissolve plays on.
    """

    def __init__(self, film: Film, reference: FilmReference, cut: Cut, output: Output, frames: int) -> None:
        self._film = film
        self._framing = frame_cut(film, reference, cut, output, frames)
        self._colours = choose_colours(film)
        self._size = (output.width, output.height)
        self._turns = film.rotation // 90
        self._graphs: dict[tuple[int, int, str, bool], Graph] = {}
        self._last: tuple[VideoFrame, list[U8]] | None = None

    def show(self, frame: VideoFrame, number: int) -> U8:
        """What trailer frame `number` of the cut shows of a decoded picture, (height * 3 / 2, width), I420.

        The array is the caller's own.
        """
        if self._last is None or self._last[0] is not frame:
            self._last = (frame, [np.rot90(plane, self._turns) for plane in self._scale(frame)])
        width, height = self._size
        shown = np.empty((height * 3 // 2, width), np.uint8)
        offset, axis = float(self._framing.offsets[number]), self._framing.axis
        for plane, target in zip(self._last[1], split_planes(shown, self._size), strict=True):
            part = offset if target.shape[1] == width else offset / 2
            cut_window(plane, target, part, axis)
        return shown

    def _scale(self, frame: VideoFrame) -> list[U8]:
        """Y, U and V of the strip, as the picture is stored."""
        full = is_full_range(frame, self._film)
        width, height = self._framing.strip[:: -1 if self._turns % 2 else 1]
        as_it_is = frame.format.name == "yuv420p" and not full and self._colours.source == self._colours.target
        if not (as_it_is and self._colours.curve is None and self._framing.box == (0, 0, 1, 1)) or (
            (frame.width, frame.height) != (width, height)
        ):
            key = (frame.width, frame.height, frame.format.name, full)
            if key not in self._graphs:
                self._graphs[key] = self._build(*key)
            frame.pts = 0
            self._graphs[key].vpush(frame)
            frame = self._graphs[key].vpull()
        return [np.asarray(view_plane(plane, np.uint8), np.uint8) for plane in frame.planes]

    def _build(self, width: int, height: int, pixel_format: str, full: bool) -> Graph:
        """Filters from pictures of one kind to the strip. Each is told what it gets: unsaid, swscale guesses BT.601."""
        colours, graph = self._colours, Graph()
        graph.threads = 1  # the cuts are many, and made side by side
        rgb = any(mark in pixel_format for mark in ("rgb", "bgr", "gbr", "pal8"))
        kind = "" if rgb else f":colorspace={MATRIX_NUMBERS[colours.source]}:range={'pc' if full else 'tv'}"
        source = f"video_size={width}x{height}:pix_fmt={pixel_format}:time_base=1/1000:pixel_aspect=1/1{kind}"
        nodes = [graph.add("buffer", source)]
        left, top, right, bottom = crop_pixels(self._framing.box, width, height, pixel_format)
        if (left, top, right, bottom) != (0, 0, width, height):
            nodes.append(graph.add("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1"))
        across, down = self._framing.strip[:: -1 if self._turns % 2 else 1]
        read = "" if rgb else f":in_color_matrix={colours.source}:in_range={'pc' if full else 'tv'}"
        write = f":out_color_matrix={colours.target}:out_range=tv"
        if colours.curve is not None:
            nodes.append(graph.add("scale", f"{across}:{down}:flags={SCALER}{read}"))
            nodes.append(graph.add("format", "gbrp16le"))
            with write_table(colours) as table:
                nodes.append(graph.add("lut3d", file=str(table), interp="tetrahedral"))
            nodes.append(graph.add("scale", f"flags={SCALER}{write}"))
        else:
            nodes.append(graph.add("scale", f"{across}:{down}:flags={SCALER}{read}{write}"))
        nodes += [graph.add("format", "yuv420p"), graph.add("buffersink")]
        return _link(graph, nodes)


def _link(graph: Graph, nodes: Sequence[FilterContext]) -> Graph:
    for node, following in pairwise(nodes):
        node.link_to(following)
    graph.configure()
    return graph


def is_full_range(frame: VideoFrame, film: Film) -> bool:
    """Whether 0 is black and 255 white: as the picture says, else as the film does, else as ffmpeg takes its format."""
    name = frame.format.name
    if name.startswith("yuvj") or int(frame.color_range) == FULL_RANGE:
        return True
    return int(frame.color_range) != LIMITED_RANGE and (film.full_range or name.startswith(("gray", "ya", "mono")))


def crop_pixels(box: Box, width: int, height: int, pixel_format: str) -> tuple[int, int, int, int]:
    """A box in pixels of a stored picture, left, top, right, bottom: inside it, on whole samples of colour."""
    edges = []
    for low, high, size in ((box[0], box[2], width), (box[1], box[3], height)):
        grid = 4 if "41" in pixel_format else 2  # 4:1:1 and 4:1:0; of all others two pixels are whole samples
        start = math.ceil(low * size / grid - 1e-6) * grid
        end = size if high > 1 - 1e-9 else math.floor(high * size / grid + 1e-6) * grid
        edges.append((min(start, size - 1), max(end, start + min(grid, size - start))))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def split_planes(picture: U8, size: Size) -> tuple[U8, U8, U8]:
    """Y, U and V of an I420 picture (h * 3 / 2, w), where they lie."""
    width, height = size
    chroma = picture[height:].reshape(-1)
    quarter = width * height // 4
    return (
        picture[:height],
        chroma[:quarter].reshape(height // 2, width // 2),
        chroma[quarter:].reshape(height // 2, width // 2),
    )


def cut_window(plane: U8, target: U8, offset: float, axis: int) -> None:
    """Write the window that begins `offset` px into a plane, along the axis, to the target.

    Whole pixels are copied; for parts of one a Lanczos filter moves the picture, or it would tremble as it pans.
    """
    length = target.shape[axis]
    whole = min(math.floor(offset + 1e-6), plane.shape[axis] - length)
    part = offset - whole
    if part < 1e-3:
        target[:] = plane[:, whole : whole + length] if axis == 1 else plane[whole : whole + length]
        return
    start = max(0, whole - TAPS)
    end = min(plane.shape[axis], whole + length + TAPS)
    kernel, one = _shift_kernel(part), np.ones(1, np.float32)
    piece = np.ascontiguousarray(plane[:, start:end] if axis == 1 else plane[start:end])
    across, down = (kernel, one) if axis == 1 else (one, kernel)
    anchor = (TAPS // 2 - 1, 0) if axis == 1 else (0, TAPS // 2 - 1)
    moved = cv2.sepFilter2D(piece, cv2.CV_8U, across, down, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    at = whole - start
    target[:] = moved[:, at : at + length] if axis == 1 else moved[at : at + length]


def _shift_kernel(part: float) -> F32:
    """(TAPS,) weights of the pixels around a place `part` of a pixel to the right of the one at TAPS / 2 - 1."""
    distance = np.arange(TAPS) - (TAPS // 2 - 1) - part
    weights = np.sinc(distance) * np.sinc(distance / (TAPS // 2))
    return np.asarray(weights / weights.sum(), np.float32)


# Interlaced film --------------------------------------------------------------------------------------------------


def deinterlace(pictures: Iterable[VideoFrame]) -> Iterator[VideoFrame]:
    """The pictures, those flagged as interlaced made whole from their first field, at the times that they had.

    bwdif, one picture for one; film without such pictures passes untouched.
    """
    graph: Graph | None = None
    kind: tuple[object, ...] = ()
    waiting: list[tuple[int | None, Fraction]] = []  # pictures that the filter holds back, for it looks ahead
    for picture in pictures:
        if graph is None and not picture.interlaced_frame:
            yield picture
            continue
        now = (picture.width, picture.height, picture.format.name, picture.colorspace, picture.color_range)
        if graph is not None and now != kind:
            yield from _drain(graph, waiting)
            graph = None
        if graph is None:
            graph, kind = _build_deinterlacer(picture), now
        assert picture.time_base is not None
        waiting.append((picture.pts, picture.time_base))
        picture.pts, picture.time_base = len(waiting), Fraction(1, 1000)
        graph.vpush(picture)
        yield from _pull(graph, waiting)
    if graph is not None:
        yield from _drain(graph, waiting)


def _build_deinterlacer(picture: VideoFrame) -> Graph:
    graph = Graph()
    graph.threads = 1
    kind = f":colorspace={int(picture.colorspace)}:range={int(picture.color_range)}"
    source = f"video_size={picture.width}x{picture.height}:pix_fmt={picture.format.name}:time_base=1/1000{kind}"
    filters = [("buffer", source), ("bwdif", "mode=send_frame:parity=auto:deint=interlaced"), ("buffersink", None)]
    return _link(graph, [graph.add(name, options) for name, options in filters])


def _pull(graph: Graph, waiting: list[tuple[int | None, Fraction]]) -> Iterator[VideoFrame]:
    while True:
        try:
            picture = graph.vpull()
        except (NotYet, AtEnd):
            return
        pts, time_base = waiting.pop(0)  # one comes out for each that went in, in turn
        picture.time_base, picture.pts = time_base, pts
        yield picture


def _drain(graph: Graph, waiting: list[tuple[int | None, Fraction]]) -> Iterator[VideoFrame]:
    graph.vpush(None)
    yield from _pull(graph, waiting)


# A cut, frame by frame --------------------------------------------------------------------------------------------


def show_cut(film: Film, cut: Cut, edit: EditList, frames: Sequence[int], output: Output) -> Iterator[U8]:
    """The film at a cut's frames (0: its first; increasing), I420 (height * 3 / 2, width) of the output.

    With the dissolve from the cut before it; without the trailer's fades and lettering.
    """
    own = _play(film, cut, edit, frames, output)
    dissolving = [frame for frame in frames if frame < cut.dissolve]
    before = find_before(cut, edit) if dissolving else None
    earlier: Iterator[U8] = iter(())
    if before is not None:
        earlier = _play(film, before, edit, [before.frames + frame for frame in dissolving], output)
    for frame, picture in zip(frames, own, strict=True):
        if before is not None and frame < cut.dissolve:
            weight = (frame + 1) / (cut.dissolve + 1)
            yield np.asarray(cv2.addWeighted(picture, weight, next(earlier), 1 - weight, 0), np.uint8)
        else:
            yield picture


def _play(film: Film, cut: Cut, edit: EditList, frames: Sequence[int], output: Output) -> Iterator[U8]:
    """The film's pictures at a cut's frames, also past its end, through the chain."""
    chain = Chain(film, edit.film, cut, output, max(cut.frames, frames[-1] + 1))
    times = [cut.source.start + float(frame * Fraction(cut.speed) / output.frame_rate) for frame in frames]
    for frame, picture in zip(frames, read_pictures(film, times, through=deinterlace), strict=True):
        yield chain.show(picture, frame)


def find_before(cut: Cut, edit: EditList) -> Cut | None:
    """The cut that ends where this one begins."""
    return next((other for other in edit.cuts if other.start_frame + other.frames == cut.start_frame), None)


def fade_weight(output: Output, frame: int) -> float:
    """How bright a trailer frame is, 0..1: the fades from black at its start and to black at its end."""
    weight = 1.0
    if frame < output.fade_in:
        weight = (frame + 1) / (output.fade_in + 1)
    if (left := output.frames - frame) <= output.fade_out:
        weight = min(weight, left / (output.fade_out + 1))
    return weight


def fade_pictures(pictures: Iterable[U8], frames: Iterable[int], output: Output) -> Iterator[U8]:
    """Pictures, I420, as the trailer's fades show them at these frames of the trailer."""
    black = make_black((output.width, output.height))
    for picture, frame in zip(pictures, frames, strict=True):
        light = fade_weight(output, frame)
        yield picture if light == 1 else np.asarray(cv2.addWeighted(picture, light, black, 1 - light, 0), np.uint8)


def make_black(size: Size) -> U8:
    """A black picture, I420 (h * 3 / 2, w)."""
    picture = np.full((size[1] * 3 // 2, size[0]), GREY_C, np.uint8)
    picture[: size[1]] = BLACK_Y
    return picture


def show_pictures(film: Film, cut: Cut, edit: EditList, frames: Sequence[int], *, height: int = SMALL) -> list[U8]:
    """What the trailer should show at the cut's frames (0: its first; increasing), RGB (h, w, 3), for comparing.

    In the output's aspect, `height` px tall (even; no taller than the output), by the same chain as the render. Lettering
    is not drawn. Raises InputError where the film cannot be decoded.
    """
    output = edit.output
    scale = min(1.0, height / output.height)
    small = replace(output, width=_even(output.width * scale), height=_even(output.height * scale))
    colours = choose_colours(film)
    shown = fade_pictures(show_cut(film, cut, edit, frames, small), [cut.start_frame + f for f in frames], small)
    return [to_rgb(picture, colours) for picture in shown]


def to_rgb(picture: U8, colours: Colours) -> U8:
    """I420 (h * 3 / 2, w) in the trailer's colours -> RGB (h, w, 3)."""
    frame = VideoFrame.from_ndarray(picture, format="yuv420p")
    frame.colorspace, frame.color_range = MATRIX_NUMBERS[colours.target], LIMITED_RANGE
    return np.asarray(VideoReformatter().reformat(frame, format="rgb24").to_ndarray(), np.uint8)


def from_rgb(picture: U8, colours: Colours) -> U8:
    """RGB (h, w, 3), even, -> I420 (h * 3 / 2, w) in the trailer's colours."""
    matrix = 1 if colours.target == "bt709" else 5  # as swscale counts them: 5 is BT.601
    frame = VideoReformatter().reformat(
        VideoFrame.from_ndarray(picture, format="rgb24"),
        format="yuv420p",
        dst_colorspace=matrix,
        dst_color_range=LIMITED_RANGE,
    )
    return np.asarray(frame.to_ndarray(), np.uint8)

"""Write a hand-off as OpenTimelineIO."""

from __future__ import annotations

from typing import Any

from pipeline.errors import MissingDependencyError
from pipeline.handoff import MARK, Handoff, Item, TrackPlan, tell_unmixed
from pipeline.handoff_media import Medium

COLOURS = {"beat": "GREEN", "line": "YELLOW"}


def write_otio(handoff: Handoff) -> tuple[str, list[str]]:
    """The file's text, and what it does not carry. Raises MissingDependencyError without OpenTimelineIO."""
    try:
        import opentimelineio as otio
    except ImportError as error:
        raise MissingDependencyError(
            "OpenTimelineIO is not installed: pip install 'trailer-pipeline[export]' (edl, fcpxml and fcp7 need nothing)"
        ) from error
    rate = float(handoff.rate)
    facts = {"made_by": MARK, "version": handoff.version, "edit": handoff.edit_name, **handoff.facts}
    timeline = otio.schema.Timeline(
        name=handoff.title,
        global_start_time=otio.opentime.RationalTime(handoff.start, rate),
        metadata={MARK: {**facts, "drop_frame": handoff.drop}},
    )
    for track in (handoff.picture, *handoff.sounds):
        timeline.tracks.append(_make_track(otio, track, rate))
    for mark in handoff.marks:
        place = otio.opentime.TimeRange(
            otio.opentime.RationalTime(mark.frame, rate), otio.opentime.RationalTime(0, rate)
        )
        timeline.tracks.markers.append(
            otio.schema.Marker(
                name=mark.name, marked_range=place, color=COLOURS[mark.kind], metadata={MARK: {"kind": mark.kind}}
            )
        )
    left = [f"{text} (as metadata only)" if "sound" not in text else text for text in tell_unmixed(handoff)]
    return timeline.to_json_string(indent=1) + "\n", left


def _make_track(otio: Any, plan: TrackPlan, rate: float) -> Any:
    kinds = otio.schema.TrackKind
    track = otio.schema.Track(name=plan.name, kind=kinds.Audio if plan.sound else kinds.Video)
    at = 0
    for item in plan.items:
        if item.start > at:
            track.append(otio.schema.Gap(duration=otio.opentime.RationalTime(item.start - at, rate)))
        if item.dissolve:
            track.append(_make_dissolve(otio, item, rate))
        track.append(_make_clip(otio, item, rate))
        at = item.end
    if plan.items and plan.items[-1].fade_out:
        track.append(
            otio.schema.Transition(
                name="fade out",
                transition_type=otio.schema.TransitionTypes.SMPTE_Dissolve,
                in_offset=otio.opentime.RationalTime(plan.items[-1].fade_out, rate),
                out_offset=otio.opentime.RationalTime(0, rate),
            )
        )
    return track


def _make_dissolve(otio: Any, item: Item, rate: float) -> Any:
    """It begins where the item does, as in the trailer: all of it lies after the cut."""
    return otio.schema.Transition(
        name="dissolve",
        transition_type=otio.schema.TransitionTypes.SMPTE_Dissolve,
        in_offset=otio.opentime.RationalTime(0, rate),
        out_offset=otio.opentime.RationalTime(item.dissolve, rate),
    )


def _make_clip(otio: Any, item: Item, rate: float) -> Any:
    time = otio.opentime.RationalTime
    duration = time(item.frames, rate)
    if item.medium is None:
        reference = otio.schema.GeneratorReference(
            name=item.name, generator_kind="title", parameters={"text": item.text, "note": item.note}
        )
        begin = time(0, rate)
    else:
        reference, begin = _make_reference(otio, item.medium), _find_begin(otio, item, item.medium)
    clip = otio.schema.Clip(
        name=item.name, media_reference=reference, source_range=otio.opentime.TimeRange(begin, duration)
    )
    facts = {**item.facts, **({"text": item.text, "note": item.note} if item.text else {})}
    if facts:
        clip.metadata[MARK] = facts
    if item.medium is not None:
        clip.metadata["cmx_3600"] = {"reel": item.medium.reel}
    if item.speed != 1:
        clip.effects.append(otio.schema.LinearTimeWarp(name="slowed down", time_scalar=item.speed))
    return clip


def _find_begin(otio: Any, item: Item, medium: Medium) -> Any:
    """Where in its file an item begins: a film's picture, a sound file's sample."""
    if medium.size is None:
        return otio.opentime.RationalTime(round(item.seconds * medium.sample_rate), medium.sample_rate)
    return otio.opentime.RationalTime(medium.first + item.source, float(medium.rate))


def _make_reference(otio: Any, medium: Medium) -> Any:
    """The whole file, so that an editor can draw a clip out."""
    if medium.size is None:
        whole = [
            otio.opentime.RationalTime(value, medium.sample_rate)
            for value in (0, round(medium.seconds * medium.sample_rate))
        ]
    else:
        whole = [otio.opentime.RationalTime(value, float(medium.rate)) for value in (medium.first, medium.frames)]
    reference = otio.schema.ExternalReference(target_url=medium.url, available_range=otio.opentime.TimeRange(*whole))
    reference.name = medium.path.name
    return reference

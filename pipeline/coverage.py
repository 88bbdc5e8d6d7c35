"""Say how a trailer's shots are spread over its film, beside how trailers do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.records import EditList

PARTS = (0.0, 0.10, 0.25, 0.50, 0.75, 0.945, 1.0)  # of the film's length
# Share of a trailer's shots from each part, mean over the films of the data set CMTD
PUBLISHED = (0.169, 0.190, 0.260, 0.198, 0.133, 0.049)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of the trailer's shots from each of PARTS. counts: how many those are. distance: 0..1 from PUBLISHED.

    The distance is half the sum of the differences: the share of the shots that would have to come from elsewhere.
    """

    counts: tuple[int, ...]
    shares: tuple[float, ...]
    distance: float


def measure_coverage(edit: EditList) -> Coverage:
    """Where a trailer's shots come from; each counts where its middle lies. Without any shot the shares are 0."""
    film = edit.film
    middles = [(cut.source.start + cut.source.end) / 2 for cut in edit.cuts]
    places = np.clip((np.array(middles) - film.start) / film.duration, 0.0, 1.0)
    counts = np.histogram(places, PARTS)[0]
    shares = counts / max(1, counts.sum())
    distance = float(np.abs(shares - PUBLISHED).sum() / 2)
    return Coverage(tuple(counts.tolist()), tuple(shares.tolist()), distance)

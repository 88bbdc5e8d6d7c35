"""Fill a trailer's slots with shots, round by round.

The self-corrective decoder of SSMP (arXiv 2512.04426, section 3 of the paper, Figure 6 of its supplement) and three to
compare it with. Pure numpy: the network is an argument. Slots and shots are counted from 0, rounds from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError, NoSolutionError

Predict = Callable[[NDArray[np.int64]], NDArray[np.floating]]
Decoder = Literal["self_corrective", "confidence", "greedy", "left_to_right"]

OPEN = -1  # in an assignment: this slot has no shot yet


@dataclass(frozen=True, slots=True)
class Generation:
    """A filled trailer and how it came about. J slots; every array has one entry a slot.

    shots (J,) int64: all different. confidence (J,) float64: the shot's probability when it was fixed, 1 for a pin.
    rounds: predictions made. forced: slots that were fixed without winning their draw.
    hidden_again (J,) int64: times a slot's draw was lost. revised (J,) int64: times its candidate changed.
    fixed_round (J,) int64: the round that fixed it, 0 for a pin.
    """

    shots: NDArray[np.int64]
    confidence: NDArray[np.float64]
    rounds: int
    forced: int
    hidden_again: NDArray[np.int64]
    revised: NDArray[np.int64]
    fixed_round: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Round:
    """What one round looked like when it ended, for whoever watches.

    number: from 1. assignment (J,) int64, -1 open. q (J,): what each slot's draw was compared with.
    candidates: slot -> (shot, probability), in the order of the visits.
    """

    number: int
    assignment: NDArray[np.int64]
    q: NDArray[np.float64]
    candidates: Mapping[int, tuple[int, float]]


def generate(
    predict: Predict,
    n_shots: int,
    n_slots: int,
    *,
    uniforms: NDArray[np.float64] | None,
    pins: Mapping[int, int] | None = None,
    bans: Collection[int] | None = None,
    fits: NDArray[np.bool_] | None = None,
    groups: Sequence[tuple[NDArray[np.int64], int]] = (),
    decoder: Decoder = "self_corrective",
    max_rounds: int = 32,
    confidence_rounds: int | None = None,
    order: Literal["confidence", "index"] = "confidence",
    renormalise: bool = True,
    finish: Literal["finish", "progress"] = "finish",
    watch: Callable[[Round], None] | None = None,
) -> Generation:
    """Choose one shot for each slot, no shot twice. Same arguments and same predictions, same result.

    predict: assignment (J,) int64, -1 open -> probabilities (J, I); called once a round.
    uniforms: (at least max_rounds, J), U[round, slot] in [0, 1); only the self-corrective decoder reads it.
    pins: slot -> shot, fixed before the first round and visible to the model; a pin beats a ban.
    bans: shots never used. fits: (J, I), True = the shot is long enough for the slot. A slot only ever gets a shot that
    fits it, and no choice is made that leaves the other open slots without a complete matching: the next best is taken.
    groups: ways to part the shots, each with (I,) the number of every shot's group, and how many shots a group may give; it
    gives more only where the slots could not all be filled otherwise.
    decoder: "self_corrective" each visited slot's best shot is kept with probability q, which grows by p every round;
    "confidence" fixes the most confident slots of each prediction, one a round or, with confidence_rounds = K, a K-th;
    "greedy" one prediction; "left_to_right" one slot a prediction, first to last.
    max_rounds: then one more prediction fills what is open, largest p first (ties: lowest slot, then lowest shot).
    order: in which a round visits the slots. renormalise (self-corrective only): p over the shots available at the
    start of the round, so that two slots that want one shot cannot wait for each other. finish: "progress" also fixes,
    in a round that fixed nothing, the visited slot with the largest q. (Reasons: docs/method.md section 4.)

    Raises NoSolutionError before any work where too few shots are left or no complete assignment exists, and InputError
    where pins or bans are out of range, two slots are pinned to one shot, or a pinned shot does not fit its slot.
    """
    if decoder not in get_args(Decoder):
        raise ValueError(f"unknown decoder {decoder!r}")
    if max_rounds < 0 or n_slots < 1 or (confidence_rounds is not None and confidence_rounds < 1):
        raise ValueError(f"cannot fill {n_slots} slots in {max_rounds} (or {confidence_rounds}) rounds")
    if decoder == "self_corrective" and (
        uniforms is None or uniforms.ndim != 2 or uniforms.shape[0] < max_rounds or uniforms.shape[1] != n_slots
    ):
        raise ValueError(f"uniforms must be (at least {max_rounds}, {n_slots})")
    allowed = _check(n_shots, n_slots, pins or {}, bans or (), fits)
    run = _Run(predict, allowed, pins or {}, order, renormalise and decoder == "self_corrective", watch)
    for parting, most in groups:
        run.bound_groups(parting, most)
    if decoder == "self_corrective":
        assert uniforms is not None
        run.correct(uniforms, max_rounds, progress=finish == "progress")
    elif decoder == "confidence":
        rounds = n_slots if confidence_rounds is None else confidence_rounds
        for left in range(rounds, 0, -1):
            if run.is_open.any():
                run.fix_most_confident(-(-int(run.is_open.sum()) // left))
    elif decoder == "left_to_right":
        for slot in range(n_slots):
            if run.is_open[slot]:
                run.fix_in_order([slot])
    elif order == "index" and run.is_open.any():
        run.fix_in_order([int(slot) for slot in np.flatnonzero(run.is_open)])
    if run.is_open.any():  # greedy by confidence, and what max_rounds left open
        run.fix_most_confident(int(run.is_open.sum()), forced=decoder == "self_corrective")
    return Generation(run.shots, run.confidence, run.rounds, run.forced, run.hidden_again, run.revised, run.fixed_round)


def _check(
    n_shots: int,
    n_slots: int,
    pins: Mapping[int, int],
    bans: Collection[int],
    fits: NDArray[np.bool_] | None,
) -> NDArray[np.bool_]:
    """Refuse what cannot be done. Returns allowed (J, I): True = the shot may go to that slot."""
    for slot, shot in pins.items():
        if not (0 <= slot < n_slots and 0 <= shot < n_shots):
            raise InputError(f"cannot pin slot {slot} to shot {shot}: there are {n_slots} slots and {n_shots} shots")
    for shot in sorted(bans):
        if not 0 <= shot < n_shots:
            raise InputError(f"cannot ban shot {shot}: the film has {n_shots} shots, counted from 0")
    by_shot: dict[int, int] = {}
    for slot, shot in sorted(pins.items()):
        if shot in by_shot:
            raise InputError(f"slots {by_shot[shot]} and {slot} are both pinned to shot {shot}")
        by_shot[shot] = slot
    if fits is not None and fits.shape != (n_slots, n_shots):
        raise ValueError(f"fits has shape {fits.shape}, expected {(n_slots, n_shots)}")
    allowed = np.ones((n_slots, n_shots), bool) if fits is None else np.array(fits, bool)
    for slot, shot in pins.items():
        if not allowed[slot, shot]:
            raise InputError(f"slot {slot} is pinned to shot {shot}, which is too short for it")
    allowed[:, sorted({*bans, *by_shot})] = False
    is_open = np.ones(n_slots, bool)
    is_open[list(pins)] = False
    n_open, n_free = int(is_open.sum()), n_shots - len({*bans, *by_shot})
    if n_open > n_free:
        raise NoSolutionError(
            f"{n_open} slots to fill, but only {n_free} of {n_shots} shots may be used: ban fewer or make it shorter"
        )
    if not _completable(allowed, is_open):
        short = np.flatnonzero(is_open & ~allowed.any(1))
        why = f"no shot is long enough for slot {short[0]}" if len(short) else "too few shots are long enough"
        raise NoSolutionError(f"no shot for each of the {n_open} open slots: {why}")
    return allowed


def _completable(allowed: NDArray[np.bool_], is_open: NDArray[np.bool_]) -> bool:
    """Whether each open slot can have a shot of its own: a count that suffices, else a maximum matching."""
    from scipy.sparse import csr_array  # a tenth of a second that few calls need
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rows = allowed[is_open]
    if len(rows) == 0 or int(rows.sum(1).min()) >= len(rows):  # Hall: whoever chooses last still has a shot
        return True
    if not rows.any(1).all():
        return False
    matched = maximum_bipartite_matching(csr_array(rows), perm_type="column")
    return bool((matched >= 0).all())


class _Run:
    """One generation under way: who has what, what is left, and the record of it."""

    def __init__(
        self,
        predict: Predict,
        allowed: NDArray[np.bool_],
        pins: Mapping[int, int],
        order: str,
        renormalise: bool,
        watch: Callable[[Round], None] | None,
    ) -> None:
        n_slots = len(allowed)
        self.predict, self.allowed = predict, allowed
        self.order, self.renormalise, self.watch = order, renormalise, watch
        self.shots = np.full(n_slots, OPEN, np.int64)
        self.confidence = np.zeros(n_slots)
        self.hidden_again, self.revised, self.fixed_round = (np.zeros(n_slots, np.int64) for _ in range(3))
        self.q = np.zeros(n_slots)
        self.rounds = self.forced = 0
        self.partings: list[
            tuple[NDArray[np.int64], NDArray[np.int64]]
        ] = []  # group of each shot; what each may still give
        for slot, shot in pins.items():
            self.shots[slot] = shot
            self.confidence[slot] = self.q[slot] = 1.0

    @property
    def is_open(self) -> NDArray[np.bool_]:
        still: NDArray[np.bool_] = self.shots == OPEN
        return still

    def correct(self, uniforms: NDArray[np.float64], max_rounds: int, *, progress: bool) -> None:
        """The self-corrective rounds: a candidate that loses its draw is hidden again, with better odds next time."""
        last: dict[int, int] = {}  # each slot's candidate of the round before
        while self.is_open.any() and self.rounds < max_rounds:
            p = self.look()
            visits = self.visits(p)
            candidates: dict[int, tuple[int, float]] = {}
            lost: list[int] = []
            for slot in visits:
                shot = self.best(slot, p[slot])
                candidates[slot] = (shot, float(p[slot, shot]))
                self.revised[slot] += last.get(slot, shot) != shot
                last[slot] = shot
                self.q[slot] = min(self.q[slot] + p[slot, shot], 1.0)
                if uniforms[self.rounds - 1, slot] < self.q[slot]:
                    self.fix(slot, shot, p[slot, shot])
                else:
                    lost.append(slot)
            if progress and len(lost) == len(visits):
                slot = max(lost, key=lambda slot: (self.q[slot], -slot))
                self.fix(slot, *candidates[slot])
                self.forced += 1
                lost.remove(slot)
            self.hidden_again[lost] += 1
            self.tell(candidates)

    def fix_most_confident(self, count: int, *, forced: bool = False) -> None:
        """One prediction; fix `count` slots, largest p first over all open slots and shots (ties: lowest slot)."""
        p = self.look()
        candidates: dict[int, tuple[int, float]] = {}
        while len(candidates) < count:
            scores = np.where(self.allowed & self.is_open[:, None], p, -1.0)
            slot = int(scores.max(axis=1).argmax())
            shot = self.best(slot, p[slot])
            if p[slot, shot] < scores[slot].max():
                continue  # its best was a dead end: now that this is known, another slot may come first
            candidates[slot] = (shot, float(p[slot, shot]))
            self.fix(slot, shot, p[slot, shot])
            self.forced += forced
        self.tell(candidates)

    def fix_in_order(self, slots: list[int]) -> None:
        """One prediction; fix these open slots, in this order, each to its best shot."""
        p = self.look()
        candidates: dict[int, tuple[int, float]] = {}
        for slot in slots:
            shot = self.best(slot, p[slot])
            candidates[slot] = (shot, float(p[slot, shot]))
            self.fix(slot, shot, p[slot, shot])
        self.tell(candidates)

    def look(self) -> NDArray[np.float64]:
        """One prediction (J, I), over the shots that each slot can still have if p is renormalised."""
        self.rounds += 1
        p = np.asarray(self.predict(self.shots.copy()), np.float64)
        if p.shape != self.allowed.shape or not np.isfinite(p).all() or (p < 0).any():
            raise ValueError(f"predict must return {self.allowed.shape} finite probabilities, got shape {p.shape}")
        if not self.renormalise:
            return p
        mass = np.where(self.allowed, p, 0.0).sum(axis=1, keepdims=True)
        return np.divide(p, mass, out=np.zeros_like(p), where=mass > 0) if self.is_open.any() else p

    def visits(self, p: NDArray[np.float64]) -> list[int]:
        """The open slots in the order of a round."""
        slots = np.flatnonzero(self.is_open)
        if self.order == "confidence":
            best = np.where(self.allowed, p, -1.0).max(axis=1)
            slots = slots[np.argsort(-best[slots], kind="stable")]
        return [int(slot) for slot in slots]

    def best(self, slot: int, p_I: NDArray[np.float64]) -> int:
        """The slot's best shot (ties: lowest) that leaves every other open slot a shot of its own."""
        others = self.is_open
        others[slot] = False
        while True:
            assert self.allowed[slot].any(), "a complete matching exists at all times"
            shot = int(np.where(self.allowed[slot], p_I, -1.0).argmax())
            rest = self.allowed.copy()
            rest[:, shot] = False
            if _completable(rest, others):
                return shot
            self.allowed[slot, shot] = False  # for good: what is fixed later only takes shots away

    def fix(self, slot: int, shot: int, p: float) -> None:
        self.shots[slot] = shot
        self.confidence[slot] = p
        self.fixed_round[slot] = self.rounds
        self.allowed[:, shot] = False
        for groups, left in self.partings:
            self.count(shot, groups, left)

    def bound_groups(self, groups: NDArray[np.int64], most: int) -> None:
        """From now on no group of this parting gives more than `most` shots; pins count."""
        if groups.shape != (self.allowed.shape[1],) or most < 1:
            raise ValueError(
                f"groups of shape {groups.shape} with {most}, expected {(self.allowed.shape[1],)} and 1 or more"
            )
        parting = np.unique(groups, return_inverse=True)[1], np.full(len(groups), most, np.int64)
        self.partings.append(parting)
        for shot in self.shots[self.shots != OPEN].tolist():
            self.count(shot, *parting)

    def count(self, shot: int, groups: NDArray[np.int64], left: NDArray[np.int64]) -> None:
        """Close a shot's group when it has given all that it may, if every open slot can still be filled."""
        left[groups[shot]] -= 1
        if left[groups[shot]] <= 0:
            rest = self.allowed & (groups != groups[shot])
            if _completable(rest, self.is_open):
                self.allowed = rest

    def tell(self, candidates: Mapping[int, tuple[int, float]]) -> None:
        if self.watch is not None:
            self.watch(Round(self.rounds, self.shots.copy(), self.q.copy(), candidates))

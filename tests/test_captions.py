"""What slots' shots are said to show: planted pictures, words and sounds, and what the lines of a script make of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from models.encoders import Identity
from models.sentences import load_sentences
from pipeline.captions import (
    SPREAD,
    caption_slots,
    caption_with_network,
    check_captioner,
    compare,
    compare_pictures,
    describe_shots,
    find_dialogue,
    name_colours,
)
from pipeline.errors import InputError, MissingDependencyError
from pipeline.records import F32, U8, Analysis, Features, Film, Line, Shots, Span
from pipeline.script import Lines, Script, ScriptLine
from pipeline.settings import Captioner, EncoderName, FeatureSettings, NarrationSettings, Site, TrailerConfig

ROOT = Path(__file__).resolve().parents[1]
START = 5.0  # s: the film's clock does not begin at 0
SHOT = 30.0  # s: shots so long that NEAR_SECONDS does not reach over one
COLOURS = {"red": (0, 0, 200), "green": (0, 180, 0), "blue": (200, 0, 0), "grey": (90, 90, 90)}  # BGR
SAID = (  # (shot, seconds into it, text)
    (0, 10.0, "Take the boat across the lake before the storm comes."),
    (1, 10.0, "The king is dead and his brother wears the crown."),
    (2, 10.0, "I baked this cake for your birthday."),
    (4, 10.0, "The rocket leaves the earth at midnight."),
    (5, 10.0, "My grandmother never spoke about the war."),
)
SHOTS = 6  # nobody speaks in shot 3


def film() -> Film:
    return Film(Path("f.mkv"), "f" * 8, START, SHOTS * SHOT, Fraction(24), 64, 36, 0)


def picture(colour: str) -> U8:
    shown = np.zeros((40, 64, 3), np.uint8)  # with bars: two rows above, two below
    shown[2:-2] = COLOURS[colour]
    return shown


def plant(colours: Sequence[str], *, volumes: Sequence[float] = ()) -> Analysis:
    """One picture every second; each shot has its colour but for its last second, which is grey."""
    times = START + np.arange(SHOTS * SHOT)
    jpegs = []
    for time in times:
        number, into = divmod(time - START, SHOT)
        jpegs.append(cv2.imencode(".jpg", picture(colours[int(number)] if into < SHOT - 1 else "grey"))[1])
    sound = np.repeat(np.array(volumes, np.float32), round(SHOT * 10))[:, None].repeat(2, axis=1)
    return Analysis(
        film=film(),
        times=times,
        scores=np.zeros((len(times), 3), np.float32),
        luma=np.zeros((len(times), 2), np.float32),
        focus=np.zeros((len(times), 3), np.float32),
        letterbox=np.array([0, 2 / 40, 0, 2 / 40], np.float32),
        sample_times=times,
        sample_bytes=np.concatenate(jpegs),
        sample_offsets=np.cumsum([0, *map(len, jpegs)]).astype(np.int64),
        sound=sound if len(volumes) else np.zeros((0, 2), np.float32),
        sound_start=START,
        sound_step=0.1,
        blends=np.zeros((0, 2)),
        transitions=np.zeros((0, 2), np.float32),
    )


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return plant(["red", "green", "blue", "grey", "red", "green"], volumes=[0.5, 0.001, 0.02, 0.02, 0.02, 0.02])


@pytest.fixture(scope="module")
def shots() -> Shots:
    spans = tuple(Span(START + n * SHOT, START + (n + 1) * SHOT) for n in range(SHOTS))
    energy = np.array([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], np.float32)
    luma = np.array([20, 90, 200, 90, 90, 90], np.float32)
    return Shots(film(), spans, (frozenset(),) * SHOTS, energy, luma)


def line(number: int, into: float, text: str, seconds: float = 2.0) -> Line:
    start = START + number * SHOT + into
    return Line(text, Span(start, start + seconds))


@pytest.fixture(scope="module")
def lines() -> Lines:
    return Lines("f" * 8, tuple(line(*said) for said in SAID))


def script_of(*texts: str) -> Script:
    return Script(tuple(ScriptLine(n, text, Span(0, 1), 1.0) for n, text in enumerate(texts)), "a test")


class Letters:
    """A sentence model of ten lines: how often each letter occurs."""

    name = "letters@1"

    def encode(self, texts: Sequence[str]) -> F32:
        rows = np.array([[text.lower().count(chr(97 + k)) for k in range(26)] for text in texts], np.float32) + 1e-3
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Painter:
    """A captioner of ten lines: it names the colour that it is shown, RGB."""

    name = "painter@1"
    weights = "0" * 64

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def caption(self, pictures: Sequence[U8]) -> list[str]:
        self.shapes += [shown.shape for shown in pictures]
        means = [shown.reshape(-1, 3).mean(axis=0) for shown in pictures]
        return [f"A {['red', 'green', 'blue'][int(mean.argmax())]} field." for mean in means]


class Pairs:
    """An encoder of ten lines that reads text: its vectors stand in a table."""

    identity = Identity("pairs@1", 3)

    def __init__(self, table: dict[str, Sequence[float]]) -> None:
        self.table = table

    def encode_text(self, texts: Sequence[str]) -> F32:
        return unit([self.table[text] for text in texts])


def unit(rows: Sequence[Sequence[float]]) -> F32:
    array = np.array(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_a_shot_is_described_by_its_words_and_its_looks(analysis: Analysis, shots: Shots, lines: Lines) -> None:
    assert describe_shots(analysis, shots, lines, [5, 0, 1, 2]) == (
        "My grandmother never spoke about the war. A fast scene in green, at the end of the film.",
        "Take the boat across the lake before the storm comes. "
        "A dark, still, loud scene in red, at the beginning of the film.",
        "The king is dead and his brother wears the crown. A still, quiet scene in green, early in the film.",
        "I baked this cake for your birthday. A bright scene in blue, in the middle of the film.",
    )


def test_a_shot_without_words_has_its_neighbours(analysis: Analysis, shots: Shots) -> None:
    lines = Lines(
        "f" * 8,
        (
            line(2, 5.0, "Too long ago."),
            line(2, 20.0, "Long ago."),
            line(2, 24.0, "Before."),
            line(4, 6.0, "After."),
            line(4, 9.0, "Later."),
        ),
    )
    assert [one.text for one in find_dialogue(lines, shots.spans[3])] == ["Before.", "After."]
    far = Lines("f" * 8, (line(2, 5.0, "Too long ago."), line(4, 26.0, "Too late.")))
    assert find_dialogue(far, shots.spans[3]) == []
    assert describe_shots(analysis, shots, far, [3]) == ("A scene in grey, in the middle of the film.",)
    assert find_dialogue(Lines("f" * 8, ()), shots.spans[3]) == []


def test_words_that_run_over_a_cut_belong_to_both_shots(shots: Shots) -> None:
    lines = Lines("f" * 8, (line(2, 29.0, "Over the cut.", 2.0), line(3, 20.0, "In it."), line(4, 1.0, "Just after.")))
    assert [one.text for one in find_dialogue(lines, shots.spans[3])] == ["Over the cut.", "In it.", "Just after."]
    assert [one.text for one in find_dialogue(lines, shots.spans[2])] == ["Over the cut."]


def test_a_talkative_shot_is_told_by_the_lines_around_its_middle(shots: Shots) -> None:
    lines = Lines("f" * 8, tuple(line(0, 1.0 + 2 * n, f"{n}", 1.0) for n in range(14)))
    assert [one.text for one in find_dialogue(lines, shots.spans[0])] == ["5", "6", "7", "8"]


def test_a_silent_film_is_neither_quiet_nor_loud(shots: Shots, lines: Lines) -> None:
    for volumes in ([], [0.1] * SHOTS, [0.0] * SHOTS):
        told = " ".join(describe_shots(plant(["red"] * SHOTS, volumes=volumes), shots, lines, range(SHOTS)))
        assert "quiet" not in told
        assert "loud" not in told


def test_colours_have_their_names() -> None:
    for name in COLOURS:
        assert name_colours(picture(name)) == [name]
    assert name_colours(np.zeros((4, 4, 3), np.uint8)) == ["grey"]
    half = picture("red")
    half[:, :30] = (255, 120, 0)
    assert name_colours(half) == ["blue", "red"] or name_colours(half) == ["red", "blue"]
    night = np.full((40, 64, 3), (40, 15, 5), np.uint8)
    assert name_colours(night) == ["blue"]  # dark, and still blue


def test_a_line_is_nearest_to_the_shot_in_which_it_is_spoken(analysis: Analysis, shots: Shots, lines: Lines) -> None:
    """With the sentence model itself. Shot 3 has no words, and is told by those before and after it, in shots 2 and 4."""
    chosen = [4, 2, 0, 3, 5, 1]
    texts = [said[2] for said in SAID]
    similarity = compare(texts, describe_shots(analysis, shots, lines, chosen), load_sentences("cpu"))
    assert similarity.shape == (5, 6)
    ranked = [[chosen[slot] for slot in row] for row in np.argsort(-similarity, axis=1)]
    assert [row[0] for row in ranked] == [said[0] for said in SAID]
    assert [ranked[n][1] for n in (2, 3)] == [3, 3]  # a line that misses its shot is best laid over the one beside it
    own, strangers = similarity.max(axis=1), np.sort(similarity, axis=1)[:, :-2].max(axis=1)
    assert own.min() > 0.6  # 0.71 to 0.84: the looks are told too, and take their part of the vector
    assert (own - strangers).min() > 0.3  # of a shot elsewhere; unrelated sentences are at 0 to 0.3
    new = compare(["She rows over the water."], describe_shots(analysis, shots, lines, chosen), load_sentences("cpu"))
    assert chosen[int(new.argmax())] == 0  # the boat, without a word in common


def test_cosines_stand_line_by_caption() -> None:
    similarity = compare(["aa", "b"], ["a", "b", "ab"], Letters())
    np.testing.assert_allclose(similarity, [[1, 0, 0.7071], [0, 1, 0.7071]], atol=5e-3)
    assert similarity.dtype == np.float32
    assert np.abs(compare(["a"], ["a"], Letters())).max() <= 1
    assert compare([], ["a"], Letters()).shape == (0, 1)
    assert compare(["a"], [], Letters()).shape == (1, 0)


def test_pictures_are_compared_without_the_gap_between_text_and_picture() -> None:
    """Pictures share a first dimension that says nothing, towards which `wordy` leans; texts share a last one."""
    shown = unit([[3, 1, 0, 0], [3, -1, 0, 0], [3, 0, 1, 0], [3, 0, -1, 0]])
    features = Features("f" * 8, "pairs@1", shown)
    encoder = Pairs({"first": [0, 0.3, 0, 1], "wordy": [1, 0, 0.3, 1], "vague": [0, 0.01, 0, 1]})
    chosen = [2, 0, 3]
    similarity = compare_pictures(["first", "wordy", "vague"], encoder, features, chosen)
    assert similarity.shape == (3, 3)
    assert similarity.argmax(axis=1).tolist()[:2] == [1, 0]
    assert np.abs(similarity).max() <= 1
    assert np.abs(similarity[2]).max() < 0.1 * np.abs(similarity[0]).max()  # what fits all alike decides nothing
    bare = encoder.encode_text(["wordy", "first"]) @ shown[chosen].T
    assert bare[0].min() > bare[1].max()  # bare cosines would prefer the wordy line in every slot
    alone = compare_pictures(["first"], encoder, features, chosen)
    assert alone.argmax() == 1
    # the scale: the deviation of all pairs of line and film shot is 1 / SPREAD
    everything = compare_pictures(["first", "wordy", "vague"], encoder, features, range(4))
    np.testing.assert_allclose(everything.std(), 1 / SPREAD, rtol=1e-4)


def test_what_tells_no_shots_apart_is_no_similarity() -> None:
    same = Features("f" * 8, "pairs@1", unit([[1, 0, 0]] * 3))
    assert not compare_pictures(["a"], Pairs({"a": [1, 0, 0]}), same, [0, 1]).any()
    assert compare_pictures([], Pairs({}), same, [0, 1]).shape == (0, 2)


def test_an_encoder_without_text_says_which_have_it(analysis: Analysis, shots: Shots, lines: Lines) -> None:
    from models.encoders.descriptor import Descriptor

    features = Features("f" * 8, "descriptor@1", unit([[1, 0]] * SHOTS))
    with pytest.raises(InputError, match=r"descriptor@1 reads no text: set features\.encoder to imagebind or siglip2"):
        caption_slots(
            analysis,
            shots,
            features=features,
            lines=lines,
            script=script_of("a"),
            chosen=[0],
            settings=NarrationSettings(captioner=Captioner.picture),
            sentences=Letters(),
            encoder=Descriptor(),
        )


def test_a_network_sees_the_middle_of_a_shot_without_bars_in_rgb(analysis: Analysis, shots: Shots) -> None:
    painter, shares = Painter(), list[float]()
    told = caption_with_network(analysis, shots, [2, 0, 1], painter, progress=shares.append)
    assert told == ("A blue field.", "A red field.", "A green field.")
    assert painter.shapes == [(36, 64, 3)] * 3
    assert shares == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]


def test_settings_choose_who_writes(analysis: Analysis, shots: Shots, lines: Lines) -> None:
    features = Features("f" * 8, "pairs@1", unit([[3, n == 0, n == 1] for n in range(SHOTS)]))
    encoder = Pairs({"red field": [-1, 1, 0], "green field": [-1, 0, 1]})
    script, chosen = script_of("red field", "green field"), [0, 1, 5]
    told = {
        captioner: caption_slots(
            analysis,
            shots,
            features=features,
            lines=lines,
            script=script,
            chosen=chosen,
            settings=NarrationSettings(captioner=captioner),
            sentences=Letters(),
            network=Painter(),
            encoder=encoder,
        )
        for captioner in Captioner
    }
    assert {captioner: captions.captioner for captioner, captions in told.items()} == {
        Captioner.embedded: "dialogue, letters@1",
        Captioner.picture: "pairs@1",
        Captioner.smolvlm: "painter@1, letters@1",
        Captioner.minicpm: "painter@1, letters@1",
    }
    described = describe_shots(analysis, shots, lines, chosen)
    assert told[Captioner.embedded].texts == told[Captioner.picture].texts == described
    assert told[Captioner.smolvlm].texts == ("A red field.", "A green field.", "A green field.")
    for captions in told.values():
        assert captions.similarity.shape == (2, 3)
    assert told[Captioner.picture].similarity.argmax(axis=1).tolist() == [0, 1]
    assert told[Captioner.smolvlm].similarity[1].argmax() in (1, 2)


def test_an_empty_script_asks_nobody(analysis: Analysis, shots: Shots, lines: Lines) -> None:
    captions = caption_slots(
        analysis,
        shots,
        features=Features("f" * 8, "pairs@1", unit([[1.0]] * SHOTS)),
        lines=lines,
        script=script_of(),
        chosen=[0, 1],
        settings=NarrationSettings(captioner=Captioner.minicpm),
        sentences=Letters(),
    )
    assert captions.similarity.shape == (0, 2)
    assert captions.captioner == "embedded"


def ask(captioner: Captioner, encoder: EncoderName = EncoderName.descriptor, *, enabled: bool = True) -> TrailerConfig:
    narration = NarrationSettings(captioner=captioner, enabled=enabled)
    return TrailerConfig(narration=narration, features=FeatureSettings(encoder=encoder))


def test_what_is_absent_is_refused_before_the_film_is_looked_at(site: Site) -> None:
    check_captioner(ask(Captioner.embedded), site)
    for captioner in (Captioner.smolvlm, Captioner.minicpm):
        with pytest.raises(MissingDependencyError, match=f"`trailer weights fetch {captioner}`"):
            check_captioner(ask(captioner), site)
        check_captioner(ask(captioner, enabled=False), site)
    for encoder in (EncoderName.descriptor, EncoderName.dinov3):
        with pytest.raises(InputError, match=f"the encoder {encoder} reads no text: .* imagebind or siglip2"):
            check_captioner(ask(Captioner.picture, encoder), site)
    for encoder in (EncoderName.imagebind, EncoderName.siglip2):
        with pytest.raises(MissingDependencyError, match=f"`trailer weights fetch {encoder}`"):
            check_captioner(ask(Captioner.picture, encoder), site)


def test_the_check_of_the_defaults_brings_no_network() -> None:
    code = (
        "import sys; from pathlib import Path; from pipeline.captions import check_captioner; "
        "from pipeline.settings import Site, TrailerConfig; "
        "check_captioner(TrailerConfig(), Site(weights_dir=Path('none'))); "
        "print([m for m in ('torch', 'transformers', 'sentence_transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"

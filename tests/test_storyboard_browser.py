"""The storyboard in a real browser: it plays, it says exactly what was clicked, and it reaches nothing."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from pipeline.editfile import edit_to_json, read_edit
from pipeline.media import fingerprint_file, probe_film
from pipeline.quality import check_trailer
from pipeline.records import U8, Card, EditList, Music, Placement, QualityReport, Span
from pipeline.refine import Request, parse_request, resolve
from pipeline.render import render_trailer
from pipeline.report import draw_report
from pipeline.settings import Site, load_config
from tests.conftest import absent
from tests.plans import plan_edit, take
from tests.synthetic import barcode_film, click_track

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.browser

RATE = Fraction(25)
SLOTS = [20, 20, 25, 15, 20]  # frames of each slot's cut, and of its shot
TITLE = "<script>alert(1)</script> & it's"
CSS = "css selector"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def small_picture(shade: int) -> U8:
    return np.asarray(cv2.imencode(".jpg", np.full((36, 64, 3), shade, np.uint8))[1], np.uint8).reshape(-1)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a trailer of five slots and a card, beside its file: shot n in slot n; runners-up 7 and 2 for slot 1."""
    folder = tmp_path_factory.mktemp("board")
    shots = [40] * 8
    film = probe_film(barcode_film(folder / "f.mp4", frame_rate=RATE, shots=shots, size=(160, 90)).path)
    track = folder / "m.wav"
    beats = click_track(track, bpm=120, seconds=8)
    edges = [sum(shots[:n]) / 25 for n in range(len(shots) + 1)]
    cuts = [take(film, edges[n] + 0.21, frames) for n, frames in enumerate(SLOTS)]
    settings = load_config(None, ["video.preset=ultrafast", "video.encoder=software"]).model_dump(mode="json")
    music = Music(track, fingerprint_file(track), 0.0, (0.0,), beats=tuple(beats.tolist()))
    plan = plan_edit(film, [*cuts, Card("END", 0, 20)], music=music, config=settings)
    spans = tuple(Span(a, b) for a, b in pairwise(edges))
    edit = replace(
        plan,
        title=TITLE,
        shots=spans,
        cuts=tuple(replace(cut, slot=n, shot=n, confidence=0.5) for n, cut in enumerate(plan.cuts)),
        narration=(Placement(0, TITLE, Span(1.0, 1.5), 2, 45, 0.5),),
        warnings=(TITLE,),
    )
    lay_page(folder, edit)
    return folder / "it's a trailer.report.html"


def lay_page(folder: Path, edit: EditList) -> None:
    """Render the edit list, measure it, and write its page beside it."""
    site = Site(work_dir=folder, device="cpu")
    silent = replace(edit, narration=())
    render_trailer(silent, folder / "it's a trailer.mp4", folder / "clips", site)
    measured = check_trailer(folder / "it's a trailer.mp4", silent, site)
    page = draw_report(
        edit,
        QualityReport(measured.report.checks),
        measured.thumbnails,
        "it's a trailer.mp4",
        {"7": TITLE},
        candidates={1: [(1, 0.5, None), (7, 0.2, small_picture(90)), (2, 0.1, None)]},
        remasked=(0, 1, 2, 3, 4),
        music=(0.2, 0.4, 0.9, 0.3),
    )
    (folder / "it's a trailer.report.html").write_text(page, encoding="utf-8")
    (folder / "it's a trailer.edit.json").write_text(edit_to_json(edit), encoding="utf-8")


@pytest.fixture
def plan(board: Path) -> EditList:
    """The edit list that the page is about."""
    return read_edit(board.with_name("it's a trailer.edit.json"))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    program, helper = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or helper is None:
        absent("browser", "no chromium with its chromedriver on the PATH")
    if importlib.util.find_spec("selenium") is None:
        absent("browser", "selenium is not installed (extra dev)")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = program
    folder = tmp_path_factory.mktemp("browser")
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(helper))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Chrome, board: Path) -> Iterator[Shown]:
    """The page, freshly loaded at a desktop's size. It is to ask for no file but its own, and to complain of nothing."""
    shown = Shown(browser)
    shown.resize(1280, 900)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(board.as_uri())
    yield shown
    assert shown.complaints() == []
    asked = shown.asked_for()
    assert board.as_uri() in asked
    for address in asked:
        assert address.startswith(("data:image/", "data:,", "blob:", board.parent.as_uri()))


class Shown:
    """A page in the browser, as a person meets it."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def resize(self, width: int, height: int, *, phone: bool = False, **media: str) -> None:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def find(self, selector: str) -> WebElement:
        return self.browser.find_element(CSS, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(CSS, selector)

    def click(self, selector: str) -> None:
        element = self.find(selector)
        self.browser.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
        element.click()

    def run(self, script: str, *given: Any) -> Any:
        return self.browser.execute_script(script, *given)

    def text(self, selector: str) -> str:
        """What an element holds, shown or not."""
        return str(self.find(selector).get_property("textContent"))

    @property
    def command(self) -> str:
        return self.text("#command")

    @property
    def edits(self) -> dict[str, Any]:
        edits = json.loads(self.text("#json"))
        assert isinstance(edits, dict)
        return edits

    def fill(self, selector: str, text: str) -> None:
        from selenium.webdriver.common.keys import Keys

        # over what is there, as a person does: to empty the field first would be a change of its own
        self.find(selector).send_keys(Keys.CONTROL, "a", Keys.NULL, text or Keys.DELETE, Keys.TAB)

    def complaints(self) -> list[str]:
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def asked_for(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def wait_until(holds: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


def edits(**changed: Any) -> dict[str, Any]:
    return {"schema": 1, "pins": {}, "keep": None, "bans": [], "swaps": [], "reseed": None, **changed}


def ask(page: Shown, plan: EditList) -> Request:
    """What `trailer refine` makes of the page's command: the same as of its JSON, and nothing that it refuses."""
    words = shlex.split(page.command)
    assert words[:3] == ["trailer", "refine", "it's a trailer.edit.json"]
    given = list(zip(words[3::2], words[4::2], strict=True))
    typed = parse_request(
        plan,
        pins=[value for name, value in given if name == "--pin"],
        keep=[value for name, value in given if name == "--keep"],
        bans=[value for name, value in given if name == "--ban"],
        swaps=[int(value) for name, value in given if name == "--swap"],
        reseed=next((int(value) for name, value in given if name == "--reseed"), None),
    )
    assert typed == Request.model_validate(page.edits)
    resolve(plan, typed)
    return typed


NAME = shlex.quote("it's a trailer.edit.json")
SECONDS = "return document.querySelector('video').currentTime"


def test_a_slot_s_picture_plays_the_trailer_from_there(page: Shown) -> None:
    wait_until(lambda: page.run("return document.querySelector('video').readyState") >= 2)
    assert page.run("return document.querySelector('video').duration") == pytest.approx(4.8, abs=0.1)
    assert not page.find(".absent").is_displayed()
    assert page.all("[aria-current]") == page.all(".playing") == []
    page.click("#slot-2 .play")
    begin = float(page.run(SECONDS))
    assert begin >= 1.6  # the first picture of slot 2
    wait_until(lambda: page.run(SECONDS) > begin + 0.2)
    page.run("document.querySelector('video').pause(); document.querySelector('video').currentTime = 2.65")
    wait_until(lambda: [e.get_attribute("data-slot") for e in page.all(".slot.playing")] == ["3"])
    assert [e.get_attribute("data-piece") for e in page.all(".piece[aria-current=true]")] == ["3"]
    assert [e.get_attribute("data-slot") for e in page.all(".links path.playing")] == ["3"]
    page.run("document.querySelector('video').currentTime = 4.5")
    wait_until(lambda: [e.get_attribute("data-piece") for e in page.all(".slot.playing")] == ["5"])  # the card
    widths = page.run("return [...document.querySelectorAll('.play img')].map(i => i.naturalWidth)")
    assert widths == [160] * 6
    assert page.run("return [...document.querySelectorAll('.piece img')].map(i => i.naturalWidth)") == [160] * 6


def test_the_command_and_the_json_say_exactly_what_was_clicked(page: Shown, plan: EditList) -> None:
    assert not page.find("#command").is_displayed()
    assert page.edits == edits()
    page.click("#slot-3 .pin")
    assert page.command == f"trailer refine {NAME} --pin 3=3"
    page.click("#slot-1 .ban")
    page.click("#slot-0 .ban")
    page.click("#slot-2 .swap")
    assert page.command == f"trailer refine {NAME} --pin 3=3 --ban 0 --ban 1 --swap 2"
    assert page.edits == edits(pins={"3": 3}, bans=[0, 1], swaps=[2])
    assert ask(page, plan) == Request(pins={3: 3}, bans=(0, 1), swaps=(2,))
    assert page.text("#count") == "4 changes"
    assert page.find("#slot-1 .state").text == "Banned: shot 1 is not used"
    assert page.find("#slot-2 .swap").get_attribute("aria-pressed") == "true"

    page.click("#slot-2 .pin")  # one thing a slot: it is pinned now, and no longer swapped
    assert page.edits == edits(pins={"2": 2, "3": 3}, bans=[0, 1])
    page.click("#slot-3 .ban")
    assert page.edits == edits(pins={"2": 2}, bans=[0, 1, 3])
    page.click("#slot-3 .swap")
    assert page.edits == edits(pins={"2": 2}, bans=[0, 1], swaps=[3])

    page.click("#slot-1 .others summary")
    assert [b.get_attribute("data-choose") for b in page.all("#slot-1 [data-choose]")] == ["7", "2"]
    assert page.run("return document.querySelector('[data-choose=\"7\"] img').naturalWidth") == 64
    page.click("#slot-1 [data-choose='7']")  # shot 1 stays banned
    assert page.edits == edits(pins={"1": 7, "2": 2}, bans=[0, 1], swaps=[3])
    assert page.find("#slot-1 .state").text == "Shot 7 comes here; shot 1 is banned"
    page.click("#slot-1 [data-choose='2']")  # it cannot be in slot 2 as well
    assert page.edits == edits(pins={"1": 2}, bans=[0, 1], swaps=[3])
    assert ask(page, plan).pins == {1: 2}
    page.click("#slot-1 [data-choose='2']")
    assert page.edits == edits(bans=[0, 1], swaps=[3])

    for before in (
        edits(pins={"1": 2}, bans=[0, 1], swaps=[3]),
        edits(pins={"1": 7, "2": 2}, bans=[0, 1], swaps=[3]),
        edits(pins={"2": 2}, bans=[0, 1], swaps=[3]),
    ):
        page.click("#undo")
        assert page.edits == before
    page.click("#reset")
    assert page.edits == edits()
    assert page.command == f"trailer refine {NAME}"
    assert not page.find("#count").is_displayed()
    page.click("#undo")
    assert page.edits == edits(pins={"2": 2}, bans=[0, 1], swaps=[3])
    while page.find("#undo").get_attribute("aria-disabled") == "false":
        page.click("#undo")
    assert page.edits == edits()


def test_everything_else_can_be_chosen_anew_but_for_what_is_kept(page: Shown, plan: EditList) -> None:
    page.click("#options > summary")
    page.click("#anew")
    assert page.command == f"trailer refine {NAME} --reseed 1"  # the seed after the trailer's own
    assert page.find("#slot-0 .state").text == "Chosen anew"
    page.fill("#seed", "77")
    page.fill("#keep", "4, 0-2")
    page.click("#slot-3 .pin")
    page.fill("#out", "new one's.mp4")
    out = shlex.quote("new one's.mp4")
    assert page.command == f"trailer refine {NAME} --pin 3=3 --keep 0-2,4 --reseed 77 --out {out}"
    assert shlex.split(page.command)[2:] == [
        "it's a trailer.edit.json",
        *("--pin", "3=3", "--keep", "0-2,4", "--reseed", "77", "--out", "new one's.mp4"),
    ]
    assert page.edits == edits(pins={"3": 3}, keep=[0, 1, 2, 4], reseed=77)
    ask(page, plan)
    page.click("#slot-4 .ban")  # what is kept and changed at once is changed: `refine` refuses both
    page.click("#slot-0 .swap")
    page.run("document.querySelector(\"#slot-1 [data-choose='2']\").click()")  # out of slot 2
    assert page.edits == edits(pins={"1": 2, "3": 3}, keep=None, bans=[4], swaps=[0], reseed=77)
    assert page.find("#slot-2 .state").text == "Shot 2 goes elsewhere: another comes here"
    ask(page, plan)
    for _ in range(3):
        page.click("#undo")
    assert page.edits == edits(pins={"3": 3}, keep=[0, 1, 2, 4], reseed=77)
    for wrong, said in (("2-9", "from 0 to 4"), ("3-1", "backwards"), ("a;b", "no slot"), ("-1", "no slot")):
        page.fill("#keep", wrong)
        assert said in page.find("#wrong").text
        assert page.find("#keep").get_attribute("aria-invalid") == "true"
        assert page.edits["keep"] == [0, 1, 2, 4]
    page.fill("#keep", "")
    assert page.find("#wrong").text == ""
    page.fill("#out", "film.mkv")
    assert ".mp4" in page.find("#wrong").text
    page.click("[name=rest][value=stay]")
    assert page.edits == edits(pins={"3": 3})


def test_the_command_is_copied_and_the_json_is_saved(page: Shown, tmp_path: Path) -> None:
    page.browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    page.click("#download")  # nothing to save yet
    page.click("#slot-4 .ban")
    page.click("#slot-2 .pin")
    page.click("#download")
    saved = tmp_path / "it's a trailer.edits.json"
    wait_until(saved.is_file)
    wait_until(lambda: saved.read_text().endswith("\n"))
    assert [path.name for path in tmp_path.iterdir()] == [saved.name]
    assert json.loads(saved.read_text()) == edits(pins={"2": 2}, bans=[4])
    told = page.find("#told").text
    assert f"trailer refine {NAME} --edits {shlex.quote(saved.name)}" in told
    page.browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    page.click("#copy")
    wait_until(lambda: "Copied" in page.find("#told").text)
    assert page.run("return navigator.clipboard.readText()") == f"trailer refine {NAME} --pin 2=2 --ban 4"


def test_file_names_of_any_kind_are_quoted_for_a_shell(browser: Chrome, board: Path, tmp_path: Path) -> None:
    source = board.read_text(encoding="utf-8")
    shown = Shown(browser)
    for name in (
        "plain_1.edit.json",
        "a\nb.edit.json",
        "$(rm -rf ~)`x`\\\"'!.edit.json",
        "-v.edit.json",
        "ü 🎬.edit.json",
        "''",
    ):
        copy = tmp_path / "copy.report.html"
        quoted = json.dumps(name).replace("<", "\\u003c")
        copy.write_text(source.replace(json.dumps("it's a trailer.edit.json"), quoted), encoding="utf-8")
        browser.get(copy.as_uri())
        shown.click("#slot-0 .pin")
        expected = f"./{name}" if name.startswith("-") else name
        assert shlex.split(shown.command) == ["trailer", "refine", expected, "--pin", "0=0"]
    browser.get_log("browser")  # the copy has no trailer beside it


def test_a_hostile_title_is_read_and_does_not_run(page: Shown) -> None:
    from selenium.common.exceptions import NoAlertPresentException

    with suppress(NoAlertPresentException):
        pytest.fail(f"it ran: {page.browser.switch_to.alert.text}")
    assert page.find("h1").text == TITLE
    assert page.browser.title == f"{TITLE}: storyboard"
    assert page.find(".warnings li").text == TITLE
    assert TITLE in page.find("#slot-2 .quote").text
    assert len(page.all("script")) == 2


def test_the_page_may_reach_nothing_even_if_it_tried(browser: Chrome, board: Path) -> None:
    asked: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        browser.get(board.as_uri())
        refused = browser.execute_async_script(
            """
            const [to, done] = arguments, refused = [];
            document.addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
            fetch(to + "/fetch").catch(() => {});
            new Image().src = to + "/image";
            const put = (tag, values) => document.body.append(Object.assign(document.createElement(tag), values));
            put("script", { src: to + "/script" });
            put("script", { textContent: "window.ran = true" });
            put("link", { rel: "stylesheet", href: to + "/style" });
            put("iframe", { src: to + "/frame" });
            put("video", { src: to + "/video" });
            document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.ran = true'>");
            setTimeout(() => done([refused, window.ran ?? false]), 1000);
            """,
            f"http://127.0.0.1:{server.server_port}",
        )
        assert refused[1] is False
        assert {"connect-src", "img-src", "script-src-elem", "style-src-elem", "frame-src", "media-src"} <= set(
            refused[0]
        )
        assert asked == []
    finally:
        server.shutdown()
        server.server_close()
        browser.get_log("browser")
        browser.get_log("performance")


def test_an_absent_trailer_is_said(browser: Chrome, board: Path, tmp_path: Path) -> None:
    shown = Shown(browser)
    browser.get(shutil.copy(board, tmp_path) and (tmp_path / board.name).as_uri())
    wait_until(lambda: shown.find(".absent").is_displayed())
    assert "it's a trailer.mp4 is not where this page looks for it" in shown.find(".absent").text
    shown.click("#slot-1 .play")
    shown.click("#slot-1 .swap")
    assert shown.edits == edits(swaps=[1])
    browser.get_log("browser")
    browser.get_log("performance")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 568), (844, 390), (768, 1024), (1280, 900)])
def test_no_window_scrolls_sideways_and_nothing_is_covered(page: Shown, width: int, height: int) -> None:
    page.resize(width, height, phone=width < 800)
    for details in page.all("details"):
        page.run("arguments[0].open = true", details)
    page.run("document.querySelector('#options').open = false")
    page.run("document.querySelector('#slot-1 .ban').click()")
    wide, window = page.run("return [document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= window <= width
    # what has the focus is in sight, not under what is fixed to the window's edges
    for selector in ("#slot-0 .play", "#slot-3 .swap", "#slot-4 .pin", "a[href='#slot-4']"):
        seen = page.run(
            """
            const element = document.querySelector(arguments[0]);
            document.documentElement.style.scrollBehavior = "auto";
            element.focus({ preventScroll: true });
            element.scrollIntoView({ block: "nearest" });
            const box = element.getBoundingClientRect();
            const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
            return element.contains(top) || top.contains(element);
            """,
            selector,
        )
        assert seen, selector


def test_the_keyboard_alone_does_it(page: Shown) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(page.browser).send_keys(*keys).perform()

    def go_to(selector: str, most: int = 80) -> None:
        for _ in range(most):
            if page.run("return document.activeElement.matches(arguments[0])", selector):
                outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"{selector} has the focus and does not show it"
                return
            press(Keys.TAB)
        pytest.fail(f"no way to {selector}")

    go_to(".skip a[href='#slots']")
    go_to(".piece")
    press(Keys.RIGHT, Keys.RIGHT, Keys.RIGHT, Keys.LEFT)
    assert page.run("return document.activeElement.dataset.piece") == "2"
    press(Keys.END)
    assert page.run("return document.activeElement.dataset.piece") == "5"
    press(Keys.HOME, Keys.RIGHT, Keys.ENTER)
    wait_until(lambda: page.run(SECONDS) > 0.8)
    go_to("#slot-0 .pin")
    press(Keys.SPACE)
    assert page.edits == edits(pins={"0": 0})
    go_to("#slot-1 .ban")
    press(Keys.ENTER)
    go_to("#slot-1 .others summary")
    press(Keys.ENTER)
    go_to("#slot-1 [data-choose='7']")
    press(Keys.ENTER)
    assert page.edits == edits(pins={"0": 0, "1": 7}, bans=[1])
    page.run("document.querySelector('.skip a').focus()")
    go_to(".skip a[href='#changes']")
    press(Keys.ENTER)
    go_to("#undo", 6)
    press(Keys.ENTER)
    assert page.edits == edits(pins={"0": 0}, bans=[1])
    go_to("#options > summary", 4)
    press(Keys.ENTER)
    go_to("[name=rest]", 3)
    press(Keys.DOWN)
    assert page.edits == edits(pins={"0": 0}, bans=[1], reseed=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_can_be_read(page: Shown, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 for every text on its ground, with each kind of change made."""
    page.resize(1280, 900, prefers_color_scheme=scheme)
    for details in page.all("details"):
        page.run("arguments[0].open = true", details)
    for selector in ("#slot-0 .pin", "#slot-1 .ban", "#slot-2 .swap", "#anew", "[data-choose='7']"):
        page.run("document.querySelector(arguments[0]).click()", selector)
    faint = page.run(
        """
        const light = (c) => c.map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
          .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
        const read = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
        const ground = (element) => {
          for (let e = element; e; e = e.parentElement) {
            const [r, g, b, a = 1] = read(getComputedStyle(e).backgroundColor);
            if (a > 0.5) return [r, g, b];
          }
          return [255, 255, 255];
        };
        const faint = [];
        const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        for (let node = walk.nextNode(); node; node = walk.nextNode()) {
          const element = node.parentElement;
          if (!node.data.trim() || ["SCRIPT", "NOSCRIPT"].includes(element.tagName) || !element.checkVisibility()) continue;
          const [a, b] = [light(read(getComputedStyle(element).color).slice(0, 3)), light(ground(element))];
          const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          if (contrast < 4.5) faint.push(`${element.tagName} ${element.className} ${node.data} ${contrast}`);
        }
        return faint;
        """
    )
    assert faint == []


def test_less_motion_is_honoured(page: Shown) -> None:
    page.resize(1280, 900, prefers_reduced_motion="reduce")
    assert page.run("return getComputedStyle(document.documentElement).scrollBehavior") == "auto"
    page.resize(1280, 900, prefers_reduced_motion="no-preference")
    assert page.run("return getComputedStyle(document.documentElement).scrollBehavior") == "smooth"

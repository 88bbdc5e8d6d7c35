"""Weights come whole or not at all: a server on this machine that does everything that servers do."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from models import download, known_weights
from models.known_weights import KNOWN, WeightFile, Weights, digest_of, known_digest, partial_of, state_of, write_digest
from models.weights import Fetched, fetch_weights
from pipeline.errors import InputError, MissingDependencyError
from tests.conftest import Command

BODY = bytes(range(256)) * 2000  # 512,000 bytes; any part of it tells where it was taken from
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = BODY[::-1]


@dataclass
class Server:
    """What to answer. Each entry of `faults` spoils one request: a status, or after how many bytes the line breaks."""

    body: bytes = BODY
    ranges: bool = True
    etag: str | None = '"one"'
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    faults: list[Callable[[BaseHTTPRequestHandler, bytes], bool]] = field(default_factory=list)
    delay: float = 0.0
    asked: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append({"path": handler.path, **dict(handler.headers.items())})
        time.sleep(self.delay)
        start, status = 0, 200
        wanted = handler.headers.get("Range")
        if self.ranges and wanted and handler.headers.get("If-Range") in (self.etag, None):
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
        if start >= len(self.body) > 0:
            self.send(handler, 416, {"Content-Range": f"bytes */{len(self.body)}"}, b"")
            return
        part = self.body[start:]
        if self.faults and self.faults.pop(0)(handler, part):
            return
        headers = {"Content-Length": str(len(part))} if self.length else {}
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body) if self.length else '*'}"
        self.send(handler, status, headers, part)

    def send(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        self.statuses.append(status)
        handler.send_response(status)
        for name, value in {**({"ETag": self.etag} if self.etag else {}), **self.headers, **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    def break_after(self, count: int) -> None:
        """The next answer promises everything and ends after that many bytes."""

        def fault(handler: BaseHTTPRequestHandler, part: bytes) -> bool:
            start = len(self.body) - len(part)
            headers = {"Content-Length": str(len(part))} if self.length else {"Transfer-Encoding": "chunked"}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
            chunk = part[:count] if self.length else b"%x\r\n%s\r\n" % (count, part[:count])
            self.send(handler, 206 if start else 200, headers, chunk)
            return True

        self.faults.append(fault)

    def refuse(self, status: int, headers: dict[str, str] | None = None) -> None:
        """The next answer is this status."""

        def fault(handler: BaseHTTPRequestHandler, part: bytes) -> bool:
            self.send(handler, status, {"Content-Length": "0", **(headers or {})}, b"")
            return True

        self.faults.append(fault)

    def hang(self, after: int, seconds: float) -> None:
        """The next answer stops for that long after so many bytes."""

        def fault(handler: BaseHTTPRequestHandler, part: bytes) -> bool:
            self.send(handler, 200, {"Content-Length": str(len(part))}, part[:after])
            handler.wfile.flush()
            time.sleep(seconds)
            return True

        self.faults.append(fault)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)  # the server is on this machine
    planned = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            planned.answer(self)

        def log_message(self, format: str, *values: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a client that has gone away is what some tests are about

    with Quiet(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        planned.url = f"http://127.0.0.1:{listening.server_port}"
        yield planned
        listening.shutdown()
        thread.join()


def weights_of(server: Server | None = None, **changes: Any) -> Weights:
    file = {"url": f"{server.url if server else 'https://example.invalid'}/net.bin", "path": "net/net.bin"}
    file |= {"size": len(BODY), "sha256": SHA256} | {k: v for k, v in changes.items() if k in ("size", "sha256", "url")}
    rest = {k: v for k, v in changes.items() if k not in file}
    return Weights("net", "a test", "MIT", (WeightFile(**file),), **rest)  # type: ignore[arg-type]


@dataclass
class Run:
    """Calls fetch_weights and keeps what it said."""

    folder: Path
    said: list[str] = field(default_factory=list)
    shares: list[tuple[str, float]] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)

    def __call__(self, weights: Weights, **more: Any) -> list[Fetched]:
        options: dict[str, Any] = {"patience": 5.0, "pause": self.pauses.append} | more
        return fetch_weights(
            weights, self.folder, say=self.said.append, progress=lambda n, s: self.shares.append((n, s)), **options
        )

    @property
    def target(self) -> Path:
        return self.folder / "net" / "net.bin"

    @property
    def left(self) -> list[str]:
        """What lies in the folder but locks."""
        return sorted(p.name for p in self.folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


@pytest.fixture
def fetch(tmp_path: Path) -> Run:
    return Run(tmp_path / "weights")


# what comes


def test_a_file_comes_whole_with_its_hash_beside_it(server: Server, fetch: Run) -> None:
    assert state_of(weights_of(server), fetch.folder) == "absent"
    (got,) = fetch(weights_of(server))
    assert fetch.target.read_bytes() == BODY
    assert got == Fetched(fetch.target, len(BODY), SHA256, "fetched", "table")
    assert digest_of(fetch.target).read_text() == f"{SHA256}  net.bin\n"
    assert fetch.left == ["net.bin", "net.bin.sha256"]
    assert fetch.shares[-1] == ("net check", 1.0)
    assert ("net", 1.0) in fetch.shares
    assert server.asked[0]["Accept-Encoding"] == "identity"
    assert state_of(weights_of(server), fetch.folder) == "present"


def test_what_is_there_is_checked_and_not_fetched_again(server: Server, fetch: Run) -> None:
    fetch(weights_of(server))
    (again,) = fetch(weights_of(server))
    assert (again.how, again.known, len(server.asked)) == ("there", "table", 1)


def test_a_broken_download_goes_on_where_it_stopped(server: Server, fetch: Run) -> None:
    server.break_after(200_000)
    server.break_after(100_000)
    fetch(weights_of(server))
    assert fetch.target.read_bytes() == BODY
    assert [asked.get("Range") for asked in server.asked] == [None, "bytes=200000-", "bytes=300000-"]
    assert server.asked[1]["If-Range"] == '"one"'
    assert fetch.pauses == [1.0, 2.0]
    assert "200000 bytes are here" in fetch.said[1]


def test_a_later_run_goes_on_too(server: Server, fetch: Run) -> None:
    for _ in range(download.TRIES):
        server.break_after(1000)
    with pytest.raises(MissingDependencyError, match="4000 bytes are kept, and the same command goes on from there"):
        fetch(weights_of(server))
    assert fetch.left == ["net.bin.partial", "net.bin.partial.json"]
    assert state_of(weights_of(server), fetch.folder) == "partly"
    fetch(weights_of(server))
    assert server.asked[-1]["Range"] == "bytes=4000-"
    assert fetch.target.read_bytes() == BODY


def test_an_interrupted_download_keeps_what_came(server: Server, fetch: Run) -> None:
    server.break_after(300_000)

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(weights_of(server), pause=interrupt)
    assert partial_of(fetch.target).read_bytes() == BODY[:300_000]
    assert not fetch.target.exists()
    fetch(weights_of(server))
    assert fetch.target.read_bytes() == BODY
    assert server.asked[-1]["Range"] == "bytes=300000-"


def test_a_remote_file_that_has_changed_is_fetched_anew(server: Server, fetch: Run) -> None:
    server.body = OTHER
    for _ in range(download.TRIES):
        server.break_after(1000)
    with pytest.raises(MissingDependencyError):
        fetch(weights_of(server))
    server.body, server.etag = BODY, '"two"'
    fetch(weights_of(server))
    assert fetch.target.read_bytes() == BODY
    assert server.statuses[-1] == 200


def test_a_server_that_resumes_another_file_all_the_same_is_not_believed(server: Server, fetch: Run) -> None:
    server.break_after(1000)

    def change(seconds: float) -> None:
        server.etag = '"two"'

    def careless(handler: BaseHTTPRequestHandler, part: bytes) -> bool:
        span = {"Content-Range": f"bytes 1000-{len(BODY) - 1}/{len(BODY)}", "Content-Length": str(len(BODY) - 1000)}
        server.send(handler, 206, span, OTHER[1000:])
        return True

    server.faults.append(careless)
    fetch(weights_of(server), pause=change)
    assert fetch.target.read_bytes() == BODY
    assert server.statuses == [200, 206, 200]


@pytest.mark.parametrize("validator", ["none", "weak"])
def test_without_a_validator_it_starts_anew(server: Server, fetch: Run, validator: str) -> None:
    server.etag = None if validator == "none" else 'W/"one"'
    server.break_after(1000)
    fetch(weights_of(server))
    assert fetch.target.read_bytes() == BODY
    assert "Range" not in server.asked[1]


def test_the_time_of_the_last_change_serves_as_validator(server: Server, fetch: Run) -> None:
    server.etag, stamp = None, "Wed, 21 Oct 2015 07:28:00 GMT"
    server.headers["Last-Modified"] = stamp
    server.break_after(1000)
    fetch(weights_of(server))
    assert server.asked[1]["If-Range"] == stamp
    assert fetch.target.read_bytes() == BODY


def test_a_server_that_knows_no_ranges_starts_from_the_beginning(server: Server, fetch: Run) -> None:
    server.ranges = False
    server.break_after(1000)
    fetch(weights_of(server))
    assert server.asked[1]["Range"] == "bytes=1000-"
    assert server.statuses == [200, 200]
    assert fetch.target.read_bytes() == BODY


def test_a_partial_that_is_whole_is_only_checked(server: Server, fetch: Run) -> None:
    fetch(weights_of(server))
    note = {"url": f"{server.url}/net.bin", "validator": '"one"', "size": len(BODY), "sha256": None}
    fetch.target.rename(partial_of(fetch.target))
    partial_of(fetch.target).with_name("net.bin.partial.json").write_text(json.dumps(note))
    fetch(weights_of(server))
    assert len(server.asked) == 1
    assert fetch.target.read_bytes() == BODY


@pytest.mark.parametrize("extra", [0, 7])
def test_a_range_past_the_end_is_told_from_a_shorter_file(server: Server, fetch: Run, extra: int) -> None:
    partial = partial_of(fetch.target)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(BODY + b"x" * extra)  # of unknown size: only the server can say that it is whole
    note = {"url": f"{server.url}/net.bin", "validator": '"one"', "size": None, "sha256": None}
    partial.with_name("net.bin.partial.json").write_text(json.dumps(note))
    fetch(weights_of(server))
    assert server.statuses == ([416] if not extra else [416, 200])
    assert fetch.target.read_bytes() == BODY


def test_damaged_notes_of_an_earlier_run_are_no_obstacle(server: Server, fetch: Run) -> None:
    partial = partial_of(fetch.target)
    partial.parent.mkdir(parents=True)
    for note in ('{"url"', "[]", '{"foreign": 1}'):
        partial.write_bytes(OTHER)
        partial.with_name("net.bin.partial.json").write_text(note)
        fetch(weights_of(server))
        assert fetch.target.read_bytes() == BODY
        fetch.target.unlink()


def test_passing_faults_are_tried_again(server: Server, fetch: Run) -> None:
    server.refuse(503, {"Retry-After": "7"})
    server.refuse(429)
    fetch(weights_of(server))
    assert fetch.target.read_bytes() == BODY
    assert fetch.pauses == [7.0, 2.0]


def test_a_server_that_stops_talking_is_asked_again(server: Server, fetch: Run) -> None:
    server.hang(5000, 1.0)
    fetch(weights_of(server), patience=0.3)
    assert fetch.target.read_bytes() == BODY
    assert server.asked[1]["Range"] == "bytes=5000-"
    assert "ReadTimeout" in fetch.said[1] or "timed out" in fetch.said[1]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 418])
def test_lasting_faults_are_not_tried_again(server: Server, fetch: Run, status: int) -> None:
    server.refuse(status)
    with pytest.raises(InputError, match=f"net.bin .*the server answers {status}"):
        fetch(weights_of(server))
    assert (len(server.asked), fetch.left) == (1, [])


# what must not come


def test_wrong_bytes_leave_nothing_and_name_both_hashes(server: Server, fetch: Run) -> None:
    server.body = OTHER
    with pytest.raises(InputError) as refused:
        fetch(weights_of(server))
    assert SHA256 in str(refused.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(refused.value)
    assert "\n" not in str(refused.value)
    assert fetch.left == []


def test_another_size_is_refused_before_it_is_fetched(server: Server, fetch: Run) -> None:
    server.body = BODY + b"x"
    with pytest.raises(InputError, match=f"{len(BODY) + 1} bytes, it must have {len(BODY)}; nothing was kept"):
        fetch(weights_of(server))
    assert fetch.left == []


def test_an_answer_without_a_length_that_ends_early_is_gone_on_with(server: Server, fetch: Run) -> None:
    server.length = False

    def stop(handler: BaseHTTPRequestHandler, part: bytes) -> bool:
        server.send(handler, 200, {}, part[:5000])
        return True

    server.faults.append(stop)
    fetch(weights_of(server))
    assert fetch.target.read_bytes() == BODY
    assert server.asked[1]["Range"] == "bytes=5000-"


def test_an_answer_without_end_does_not_fill_the_disk(server: Server, fetch: Run) -> None:
    server.length, server.body = False, BODY * 8
    with pytest.raises(MissingDependencyError, match=f"where {len(BODY)} were promised"):
        fetch(weights_of(server))
    assert fetch.left == []


def test_a_compressed_answer_is_refused(server: Server, fetch: Run) -> None:
    server.headers["Content-Encoding"] = "gzip"
    with pytest.raises(InputError, match="comes compressed"):
        fetch(weights_of(server))


def test_a_full_disk_is_seen_before_the_download(server: Server, fetch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": download.SPARE + len(BODY) - 1})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"GB free.*are needed \(TRAILER_WEIGHTS_DIR\)"):
        fetch(weights_of(server))
    assert server.asked == []
    with pytest.raises(InputError, match="GB free"):
        fetch(weights_of(server, size=None))  # seen when the server says the size
    assert not fetch.target.exists()


def test_what_lies_there_and_is_not_the_file_is_left_alone_and_refused(server: Server, fetch: Run) -> None:
    fetch.target.parent.mkdir(parents=True)
    for wrong, reason in ((BODY[:-1], "remove it and fetch"), (OTHER, f"it must be {SHA256}")):
        fetch.target.write_bytes(wrong)
        with pytest.raises(InputError, match=reason):
            fetch(weights_of(server))
        assert fetch.target.read_bytes() == wrong
    assert server.asked == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="TRAILER_WEIGHTS_DIR"):
        Run(tmp_path / "file" / "weights")(weights_of())


# trust


def test_what_nobody_knew_is_recorded_and_expected_later(server: Server, fetch: Run) -> None:
    unknown = weights_of(server, sha256=None, size=None)
    (got,) = fetch(unknown)
    assert (got.known, got.sha256) == ("first use", SHA256)
    assert any(SHA256 in line and "no SHA-256 was known" in line for line in fetch.said)
    assert fetch(unknown)[0].known == "recorded"
    fetch.target.write_bytes(OTHER)
    with pytest.raises(InputError, match="has changed since it was fetched"):
        fetch(unknown)
    fetch.target.unlink()
    server.body = OTHER
    with pytest.raises(InputError, match=r"it must be .*net.bin.sha256 says so"):
        fetch(unknown)


def test_the_hash_that_the_server_names_is_expected(server: Server, fetch: Run) -> None:
    server.headers["X-Linked-ETag"] = f'"{hashlib.sha256(OTHER).hexdigest()}"'
    with pytest.raises(InputError, match=hashlib.sha256(OTHER).hexdigest()):
        fetch(weights_of(server, sha256=None))
    server.headers["X-Linked-ETag"] = f'"{SHA256}"'
    assert fetch(weights_of(server, sha256=None))[0].known == "server"
    server.headers["X-Linked-ETag"] = f'"{"a" * 40}"'  # the git hash of a small file
    fetch.target.unlink()
    digest_of(fetch.target).unlink()
    assert fetch(weights_of(server, sha256=None))[0].known == "first use"


def test_a_recorded_hash_is_used_until_the_file_is_newer(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(BODY)
    assert known_digest(path) == SHA256
    assert digest_of(path).read_text().startswith(SHA256)
    write_digest(path, "f" * 64)
    assert known_digest(path) == "f" * 64  # believed, not computed
    path.write_bytes(BODY)
    os.utime(path, (2e9, 2e9))
    with pytest.raises(InputError, match="has changed"):
        known_digest(path)


# redirects and secrets


class Network(httpx.BaseTransport):
    """A network that is a table of answers, and remembers who was sent what."""

    def __init__(self, answers: dict[str, httpx.Response]) -> None:
        self.answers, self.asked = answers, []  # type: ignore[var-annotated]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.host, request.headers.get("Authorization")))
        return self.answers[str(request.url)]


def test_the_token_goes_to_hugging_face_alone(fetch: Run) -> None:
    start, middle = "https://huggingface.co/net.bin", "https://huggingface.co/api/net.bin"
    end = "https://cdn.example/net.bin?Signature=geheim"
    network = Network(
        {
            start: httpx.Response(302, headers={"Location": "/api/net.bin", "X-Linked-ETag": f'"{SHA256}"'}),
            middle: httpx.Response(302, headers={"Location": end}),
            end: httpx.Response(200, stream=httpx.ByteStream(BODY), headers={"ETag": '"one"'}),
        }
    )
    gated = weights_of(url=start, sha256=None, gated="https://huggingface.co/owner/net")
    (got,) = fetch(gated, token="hf_secret", transport=network)
    bearer = "Bearer hf_secret"
    assert network.asked == [("huggingface.co", bearer), ("huggingface.co", bearer), ("cdn.example", None)]
    assert got.known == "server"
    assert "secret" not in str(fetch.said)


def test_redirects_to_http_are_not_followed(server: Server, fetch: Run) -> None:
    server.refuse(302, {"Location": f"{server.url}/elsewhere"})
    with pytest.raises(InputError, match="only https is followed"):
        fetch(weights_of(server), token="hf_secret")
    assert "Authorization" not in server.asked[0]


def test_a_circle_of_redirects_ends(fetch: Run) -> None:
    here = "https://example.invalid/net.bin"
    with pytest.raises(InputError, match="more than 10 redirects"):
        fetch(weights_of(), transport=Network({here: httpx.Response(302, headers={"Location": here})}))


def test_gated_weights_say_what_is_missing(server: Server, fetch: Run) -> None:
    page = "https://huggingface.co/owner/net"
    with pytest.raises(InputError, match=f"accept its licence at {page}.*HF_TOKEN"):
        fetch(weights_of(server, gated=page))
    assert server.asked == []
    server.refuse(403)
    with pytest.raises(InputError, match=f"answers 403.*accept the licence at {page}") as refused:
        fetch(weights_of(server, gated=page), token="hf_secret")
    assert "secret" not in str(refused.value)


def test_a_token_that_is_none_is_refused_without_being_shown(fetch: Run) -> None:
    with pytest.raises(InputError) as refused:
        fetch(weights_of(), token="hf_sec\nret")
    assert "hf_sec" not in str(refused.value)


def test_a_token_is_for_gated_weights_only(fetch: Run) -> None:
    here = "https://huggingface.co/net.bin"
    network = Network({here: httpx.Response(200, stream=httpx.ByteStream(BODY))})
    fetch(weights_of(url=here), token="hf_run_out", transport=network)
    assert network.asked == [("huggingface.co", None)]


def test_passwords_in_a_mirrors_address_are_not_shown(
    server: Server, fetch: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    server.refuse(404)
    mirror = server.url.replace("http://", "http://me:geheim@")
    with pytest.raises(InputError) as refused:
        fetch(weights_of(), source=mirror)
    assert "geheim" not in str(refused.value) + str(fetch.said) + caplog.text
    assert "HTTP Request: GET" in caplog.text  # httpx has logged the address
    assert server.asked[0]["Authorization"].startswith("Basic ")


def test_a_commercial_restriction_is_said_in_one_line(server: Server, fetch: Run) -> None:
    fetch(weights_of(server, non_commercial=True))
    assert fetch.said == ["net: licence MIT: not for commercial use, nor is what is made with it"]


# other places


def test_a_mirror_takes_the_place_of_the_official_address(server: Server, fetch: Run) -> None:
    fetch(weights_of(), source=f"{server.url}/mirror/")
    assert server.asked[0]["path"] == "/mirror/net.bin"
    fetch.target.unlink()
    fetch(weights_of(), source=f"{server.url}/other/net.bin")
    assert server.asked[1]["path"] == "/other/net.bin"
    assert fetch.target.read_bytes() == BODY


def test_a_file_or_a_folder_takes_its_place_too(fetch: Run, tmp_path: Path) -> None:
    (tmp_path / "net.bin").write_bytes(BODY)
    for place in (tmp_path / "net.bin", tmp_path):
        (got,) = fetch(weights_of(), source=str(place))
        assert (got.how, fetch.target.read_bytes()) == ("copied", BODY)
        fetch.target.unlink()
    assert (tmp_path / "net.bin").read_bytes() == BODY
    (tmp_path / "net.bin").write_bytes(OTHER)
    with pytest.raises(InputError, match=f"net.bin from {tmp_path}.*Nothing was kept"):
        fetch(weights_of(), source=str(tmp_path))


def test_places_that_cannot_be_used_are_refused(fetch: Run, tmp_path: Path) -> None:
    for place, reason in (
        (str(tmp_path), f"no net.bin in {tmp_path}"),
        (str(tmp_path / "gone"), "no net.bin in"),
        ("ftp://example.invalid/x", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("http://[half", "not an address"),
        ("http://host:port/", "not an address"),
    ):
        with pytest.raises(InputError, match=reason):
            fetch(weights_of(), source=place)
    two = Weights("two", "", "MIT", (WeightFile("", "two/a"), WeightFile("", "two/b")))
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="2 files: --from takes the folder with a, b"):
        fetch(two, source=str(tmp_path / "a"))


def test_without_a_network_one_line_says_what_to_do(server: Server, fetch: Run) -> None:
    class Nowhere(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("Name or service not known")

    with pytest.raises(MissingDependencyError) as refused:
        fetch(weights_of(), transport=Nowhere())
    for part in ("cannot reach example.invalid", "https://example.invalid/net.bin", str(fetch.target), "fetch net"):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)
    assert fetch.pauses == []


def test_a_proxy_that_cannot_be_used_is_said(fetch: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "nonsense://proxy")
    with pytest.raises(MissingDependencyError, match="proxy"):
        fetch(weights_of())


# several at once, and conversion


def test_two_fetches_at_once_make_one_download(server: Server, fetch: Run) -> None:
    server.delay = 0.3
    results: list[Fetched] = []
    threads = [threading.Thread(target=lambda: results.extend(fetch(weights_of(server)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(result.how for result in results) == ["fetched", "there"]
    assert len(server.asked) == 1
    assert any("another run" in line for line in fetch.said)


def test_what_is_converted_replaces_what_was_fetched(server: Server, fetch: Run) -> None:
    def convert(source: Path, target: Path) -> str:
        target.write_bytes(source.read_bytes()[::-1])
        digest = hashlib.sha256(target.read_bytes()).hexdigest()
        write_digest(target, digest)
        return digest

    weights = weights_of(server, converted="net.safetensors")
    (got,) = fetch(weights, convert=convert)
    assert (got.how, got.sha256) == ("converted", hashlib.sha256(OTHER).hexdigest())
    assert fetch.left == ["net.safetensors", "net.safetensors.sha256"]
    assert "net.bin was removed" in fetch.said
    assert state_of(weights, fetch.folder) == "present"
    (again,) = fetch(weights, convert=convert)
    assert (again.how, again.known, len(server.asked)) == ("there", "recorded", 1)


def test_a_failed_conversion_keeps_what_was_fetched(server: Server, fetch: Run) -> None:
    def convert(source: Path, target: Path) -> str:
        raise InputError("not a checkpoint")

    weights = weights_of(server, converted="net.safetensors")
    with pytest.raises(InputError, match="not a checkpoint"):
        fetch(weights, convert=convert)
    assert state_of(weights, fetch.folder) == "partly"
    assert fetch.target.read_bytes() == BODY


# the commands


def test_the_table_is_whole() -> None:
    names = [weights.name for weights in KNOWN]
    assert names == ["imagebind", "siglip2", "dinov3", "smolvlm", "minicpm"]
    for weights in KNOWN:
        for file in weights.files:
            assert file.url.startswith("https://")
            assert "/main/" not in file.url  # a branch moves, and the hashes would be wrong
            assert (file.size is None) == (file.sha256 is None)
            assert file.sha256 is None or len(file.sha256) == 64
    for weights in KNOWN[:3]:
        assert all(file.sha256 for file in weights.files)
        assert weights.size is not None
    # of the captioners' files one hash is public; the rest is trusted on first use
    assert [file.path for weights in KNOWN[3:] for file in weights.files if file.sha256] == [
        "smolvlm/model.safetensors"
    ]


@pytest.fixture
def folder(tmp_path: Path, environment: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAILER_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "weights"


def test_list_says_what_is_here(trailer: Command, folder: Path) -> None:
    (folder / "siglip2").mkdir(parents=True)
    (folder / "siglip2" / "config.json").write_text("{}")
    (folder / "imagebind_huge.safetensors").write_bytes(BODY)
    write_digest(folder / "imagebind_huge.safetensors", SHA256)
    told = json.loads(trailer("weights", "list", "--json").out)
    assert told["weights_dir"] == str(folder)
    states = {one["name"]: (one["state"], one["sha256"]) for one in told["weights"]}
    absent = dict.fromkeys(("dinov3", "smolvlm", "minicpm"), ("absent", None))
    assert states == {"imagebind": ("present", SHA256), "siglip2": ("partly", None)} | absent
    drawn = trailer("weights", "list")
    assert drawn.code == 0
    assert SHA256[:12] in drawn.out
    assert "CC-BY-NC-SA-4.0 (non-commercial)" in drawn.out
    doctor = json.loads(trailer("doctor", "--json").out)
    assert doctor["weights"] == {"imagebind": "present", "siglip2": "partly"} | dict.fromkeys(
        ("dinov3", "smolvlm", "minicpm"), "absent"
    )


def test_fetch_from_a_mirror_by_command(
    trailer: Command, folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_weights, "KNOWN", (weights_of(),))
    answer = trailer("weights", "fetch", "net", "--from", server.url, "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["files"] == [
        {
            "path": str(folder / "net" / "net.bin"),
            "bytes": len(BODY),
            "sha256": SHA256,
            "how": "fetched",
            "checked": "table",
        }
    ]
    again = trailer("weights", "fetch", "net")
    assert (again.code, f"SHA-256 {SHA256} (as expected)" in again.out) == (0, True)


def test_what_cannot_be_fetched_ends_in_one_line(trailer: Command, folder: Path) -> None:
    unknown = trailer("weights", "fetch", "clip")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err == "error: no weights 'clip': there are imagebind, siglip2, dinov3, smolvlm, minicpm\n"
    gated = trailer("weights", "fetch", "dinov3")
    assert (gated.code, gated.err.count("\n")) == (2, 1)
    assert "HF_TOKEN" in gated.err
    bare = trailer("weights")
    assert bare.code == 2
    assert "fetch" in bare.out
    assert "trailer weights fetch siglip2 --from" in trailer("weights", "fetch", "--help").out

"""A language model's key reaches the model and nothing else, also where Prefect watches."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.editfile import read_edit
from pipeline.settings import load_config
from tests.flows.test_flows import read_run, run
from tests.synthetic import barcode_film

pytestmark = pytest.mark.flow

KEY = "sk-nobody-may-see-this-0123456789"
SAID = ("Somebody in this house is a thief.", "Nobody survives a winter up there.", "You have until midnight.")


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """A model that always chooses line 1, and who asked it: (address, Authorization headers)."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.headers.get("Authorization", ""))
            message = {"role": "assistant", "content": '{"lines": [{"line": 1, "reason": "stakes"}]}'}
            body = json.dumps({"id": "1", "object": "chat.completion", "choices": [{"index": 0, "message": message}]})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}/v1", seen
        listening.shutdown()
        thread.join()


@pytest.mark.usefixtures("prefect_server")
def test_the_key_is_nowhere_but_in_the_request(
    asked: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    film = tmp_path / "spoken.mp4"
    barcode_film(film, frame_rate=Fraction(25), shots=[75] * 12, size=(160, 90))
    rows = [f"{n + 1}\n00:00:{4 + 6 * n:02},000 --> 00:00:{6 + 6 * n:02},000\n{text}\n" for n, text in enumerate(SAID)]
    (tmp_path / "spoken.en.srt").write_text("\n".join(rows))
    monkeypatch.setenv("TRAILER_WORK_DIR", str(tmp_path / "work"))
    monkeypatch.setenv("TRAILER_LLM_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    settings = ["length=8", "edit.card_seconds=1", "video.preset=ultrafast", "narration.chooser=llm"]
    config = load_config(None, [*settings, f"llm.base_url={asked[0]}", "llm.model=fake", "narration.words=20"])
    state = run(film, config, out=tmp_path / "t.mp4")
    assert asked[1] == [f"Bearer {KEY}"]
    plan = read_edit(tmp_path / "t.edit.json")
    assert [placed.text for placed in plan.narration] == [SAID[1]]
    seen = read_run(state, tasks=12)
    assert [task.name.partition(":")[0] for task in seen.tasks][5:9] == ["lines", "script", "captions", "narration"]
    assert {"lines", "shots"} <= set(seen.shown)
    with get_client(sync_client=True) as client:
        logs = client.read_logs(log_filter=LogFilter(flow_run_id=LogFilterFlowRunId(any_=[seen.run.id])))
    told = [seen.run, *seen.tasks, *seen.shown.values(), *logs]
    assert not any(KEY in record.model_dump_json() for record in told)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not any(KEY.encode() in path.read_bytes() for path in files)
    assert KEY not in caplog.text

"""Ask a language model behind an OpenAI-compatible address: with weights.py the only module that touches the network.

What leaves the machine is the two texts of a question and the key, to the one address that is given: no redirect is
followed, and of what the environment holds for the openai package (OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID,
OPENAI_CUSTOM_HEADERS, ...) nothing is used. The key stands in one header, and in no message, log or exception.
"""

from __future__ import annotations

import html
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from pipeline.errors import ChatError, InputError, MissingDependencyError

if TYPE_CHECKING:
    import httpx2
    import openai

log = logging.getLogger("trailer")

LONGEST_PAUSE = 60.0  # s, though the server asks for more
CONNECT_SECONDS = 10.0  # an address where nothing answers is no slow model
MOST_BYTES = 8 << 20  # of one answer; the longest that a model writes is a hundredth of it
MOST_SHOWN = 300  # characters of a server's own words
FORMATS = ("json_schema", "json_object", "")  # tried in this order; "" is plain text
FORM_REFUSED = frozenset({400, 422, 501})  # how servers say that they do not know a parameter
# All that a request carries beside the key. The last is how the openai package marks that a body is to be left unread.
SENT = frozenset(
    {
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
        "x-stainless-raw-response",
    }
)


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why a request gave no answer. passing: another try may mend it. wait: seconds that the server asks for.

    form: the server may have meant the form of the request, and would take a simpler one.
    """

    reason: str
    passing: bool = True
    wait: float = 0.0
    form: bool = False


class Chat:
    """One model at one address.

    base_url: https://host/v1, without user, password or query. key: "" for servers that ask for none. key_place: where the
    user keeps the key, in words. timeout: seconds to the end of an answer. tries: most requests for one answer, those not
    counted in which a server only says that it does not know a form of request. sleep: waits that many seconds. clock:
    seconds that never go back.

    Raises InputError for an address or a key that cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key: str = "",
        key_place: str = "the key",
        timeout: float = 120.0,
        tries: int = 4,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_url = check_address(base_url)
        self.model = model
        self._key = _check_key(key.strip(), key_place)
        self._key_place = key_place
        self._timeout, self._tries = timeout, tries
        self._sleep, self._clock = sleep, clock
        self._formats = list(FORMATS)  # what the server has refused is not asked for again
        self._temperature = True

    def ask(self, system: str, user: str, schema: Mapping[str, Any], check: Callable[[str], str] | None = None) -> str:
        """What the model answers. Give it the word JSON and the form of the answer in the text: not all take a schema.

        check: says what is wrong with an answer, "" nothing; the model is asked again with that. It must not quote the
        answer, which could hold anything. Raises ChatError where no answer comes, or none that check likes, and
        MissingDependencyError where the openai package is absent.
        """
        said, failures = user, 0
        with self._open_client() as client:
            while True:
                outcome = self._request(client, system, said, schema)
                if isinstance(outcome, str):
                    wrong = check(outcome) if check else ""
                    if not wrong:
                        return outcome
                    said = f"{user}\n\nYour last answer could not be used: {wrong}. Answer again, with the JSON alone."
                    fault, pause = _Fault(f"gave no answer that can be used: {wrong}"), 0.0
                else:
                    fault = outcome
                    if fault.form and self._simplify(fault.reason):
                        continue
                    pause = min(LONGEST_PAUSE, max(fault.wait, 2.0**failures))
                failures += 1
                if not fault.passing or failures == self._tries:  # here, where no exception of the package hangs on
                    again = f" ({failures} requests)" if failures > 1 else ""
                    raise ChatError(f"{self.model} at {self.base_url} {fault.reason}{again}")
                log.info("%s %s; asking again in %.0f s", self.model, fault.reason, pause)
                if pause:
                    self._sleep(pause)

    def _open_client(self) -> openai.OpenAI:
        try:
            import httpx2
            import openai
        except ImportError as error:
            raise MissingDependencyError("openai is not installed: pip install 'trailer-pipeline[llm]'") from error
        timeout = openai.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout))
        try:
            http_client = openai.DefaultHttpxClient(
                timeout=timeout, follow_redirects=False, event_hooks={"request": [self._set_headers]}
            )
        except (ImportError, ValueError, OSError, httpx2.InvalidURL) as error:
            raise MissingDependencyError(
                f"the proxy or the certificates that the environment names cannot be used: {error}"
            ) from error
        try:
            return openai.OpenAI(  # "none": given nothing, it would look into the environment
                api_key="none", base_url=self.base_url, timeout=timeout, max_retries=0, http_client=http_client
            )
        except httpx2.InvalidURL as error:
            http_client.close()
            raise InputError(f"not an address: {self.base_url} (llm.base_url)") from error

    def _set_headers(self, request: httpx2.Request) -> None:
        """The last word on what is sent: the package takes further headers from the environment."""
        for name in list(request.headers):
            if name.lower() not in SENT:
                del request.headers[name]
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"

    def _request(self, client: openai.OpenAI, system: str, user: str, schema: Mapping[str, Any]) -> str | _Fault:
        """One request. The body is read here, as it comes: some servers send blank lines for as long as they are busy."""
        import httpx2
        import openai

        body, late = bytearray(), f"gave no whole answer in {self._timeout:g} s"
        deadline = self._clock() + self._timeout
        try:
            with client.chat.completions.with_streaming_response.create(
                model=self.model,
                messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
                extra_body=self._form(schema),
            ) as response:
                for block in response.iter_bytes():
                    body += block
                    if len(body) > MOST_BYTES:
                        return _Fault(f"answers with more than {MOST_BYTES} bytes")
                    if self._clock() > deadline:
                        return _Fault(late)
        except openai.APIStatusError as error:
            return self._judge_status(error)
        except (openai.APITimeoutError, httpx2.TimeoutException) as error:
            unreached = isinstance(error.__cause__, httpx2.ConnectTimeout)
            return _Fault("cannot be reached: nothing answers there" if unreached else late)
        except (openai.APIConnectionError, httpx2.RequestError) as error:
            return _Fault(f"cannot be reached: {self._clean(str(error.__cause__ or error))}")
        return self._read_completion(bytes(body))

    def _form(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """How the answer is asked for, in the most exact form that the server has not refused yet."""
        form: dict[str, Any] = {"temperature": 0} if self._temperature else {}
        if self._formats[0] == "json_schema":
            exact = {"name": "answer", "strict": True, "schema": dict(schema)}
            form["response_format"] = {"type": "json_schema", "json_schema": exact}
        elif self._formats[0]:
            form["response_format"] = {"type": self._formats[0]}
        return form

    def _simplify(self, reason: str) -> bool:
        """Ask for less from now on. False where there is nothing left to give up."""
        if self._temperature and "temperature" in reason.lower():  # reasoning models take none
            self._temperature = False
        elif len(self._formats) > 1:
            del self._formats[0]
        else:
            return False
        return True

    def _judge_status(self, error: openai.APIStatusError) -> _Fault:
        status, words = error.status_code, self._server_words(error.body)
        said = f" ({words})" if words else ""
        if status in (401, 403):
            advice = "refuses the key" if self._key else "asks for a key"
            return _Fault(f"{advice}: the server answers {status}{said}; see {self._key_place}", passing=False)
        if status == 404:
            return _Fault(f"is not there: the server answers 404{said}; see llm.base_url and llm.model", passing=False)
        if 300 <= status < 400:
            return _Fault(f"redirects elsewhere ({status}), which is not followed; see llm.base_url", passing=False)
        passing = status in (408, 429) or (status >= 500 and status != 501)
        wait = _read_wait(error.response.headers.get("Retry-After", "")) if passing else 0.0
        return _Fault(f"fails: the server answers {status}{said}", passing, wait, status in FORM_REFUSED)

    def _read_completion(self, body: bytes) -> str | _Fault:
        """The text of a completion: "" where it has none, the refusal where the model refuses."""
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            return _Fault("answers with something else than JSON; see llm.base_url")
        if isinstance(answer, dict) and answer.get("error") and not answer.get("choices"):  # some send it with a 200
            return _Fault(f"fails: {self._server_words(answer['error']) or 'the server says no more'}")
        try:
            message = answer["choices"][0]["message"]
            content = message.get("content") or message.get("refusal") or ""
            if isinstance(content, list):  # in parts, of which some are what the model thought
                content = "".join(part["text"] for part in content if part.get("type") == "text")
        except (TypeError, LookupError, AttributeError):
            return _Fault("answers with something else than a chat completion; see llm.base_url")
        return content if isinstance(content, str) else ""

    def _server_words(self, body: object) -> str:
        """What a server says of its failure, without the key, on one short line."""
        if isinstance(body, dict):
            body = next((body[name] for name in ("message", "detail", "error") if body.get(name)), body)
        return self._clean(body if isinstance(body, str) else json.dumps(body, ensure_ascii=False) if body else "")

    def _clean(self, text: str) -> str:
        """Before it is cut: half a key would be no key to the search."""
        if self._key:
            forms = {self._key, quote(self._key, safe=""), html.escape(self._key), json.dumps(self._key)[1:-1]}
            for form in sorted(forms, key=len, reverse=True):
                text = text.replace(form, "***")
        line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
        return line if len(line) <= MOST_SHOWN else line[:MOST_SHOWN] + "..."


def check_address(base_url: str) -> str:
    """The address without a slash at its end. Raises InputError for one that cannot be used or that holds a secret."""
    try:
        parts = urlsplit(base_url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not base_url.strip().isprintable() or " " in base_url.strip():
        raise InputError("llm.base_url is not an address: it looks like https://api.deepseek.com/v1")
    if "@" in base_url:  # nothing of it is shown: a slash in a password moves it out of where it belongs
        raise InputError(
            "llm.base_url must not hold a user or a password: put the key into the environment variable that "
            "llm.key_variable names"
        )
    if parts.query or parts.fragment:
        raise InputError(f"llm.base_url must end with its path: {parts.scheme}://{parts.netloc}{parts.path}")
    return parts.geturl().rstrip("/")


def _check_key(key: str, place: str) -> str:
    """Raises InputError for a key that no header can carry, and does not quote it."""
    bad = re.search(r"[^\x21-\x7e]", key)
    if bad:
        raise InputError(
            f"the key cannot be used ({place}): its character {bad.start() + 1} of {len(key)} is a line break, a blank or "
            "a sign outside ASCII; was more copied than the key?"
        )
    return key


def _read_wait(header: str) -> float:
    """Seconds that Retry-After asks for, as a number or as a date; 0 where it says nothing."""
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", header.strip()):
        return float(header)
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())

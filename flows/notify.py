"""Tell a person, by a web hook, what came of a pass over a library."""

from __future__ import annotations

import logging
from typing import Any

from pipeline.settings import Site

log = logging.getLogger("trailer")

PATIENCE = 10.0  # s


def notify(title: str, text: str, details: dict[str, Any], *, failed: bool) -> bool:
    """Post to TRAILER_NOTIFY_URL, where it is set; whether it was taken. What cannot be told never stops the work.

    failed: with TRAILER_NOTIFY_ON=failure nothing else is posted. The text stands under the names that Slack, Discord,
    Mattermost, Gotify and ntfy read.
    """
    site = Site()
    url = site.notify_url.get_secret_value()
    if not url or (site.notify_on == "failure" and not failed):
        return False
    import httpx

    line = f"{title}: {text}" if text else title
    body = {"title": title, "text": line, "content": line[:1900], "message": text or title, "failed": failed, **details}
    try:
        httpx.post(url, json=body, timeout=PATIENCE).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        # the address may hold a key: it is not written down
        log.warning("the notification could not be sent (%s)", type(error).__name__)
        return False
    return True

"""An OpenAI-compatible chat endpoint that describes pictures: vLLM, `transformers serve`, or a hosted one.

On urllib, not on huggingface_hub's InferenceClient: its time-out is for one read, so a server that drips
holds it for ever; it follows redirects with the key, quotes servers that repeat the key, and where no key is
set it sends the hub's token to whatever address is given.
"""

from __future__ import annotations

import base64
import email.utils
import http.client
import io
import json
import os
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from handi.core.errors import HandiError, InputError, ModelError
from handi.core.reading import parse_json
from handi.core.types import Picture

KEY_VARIABLE = "HANDI_ENRICH_KEY"
MAX_SIDE = 768  # px of the picture that is sent
MAX_TOKENS = 200
MAX_ANSWER = 2**22  # bytes
TRIES, FIRST_WAIT, LONGEST_WAIT = 6, 1.0, 60.0  # s; doubled after each try
PASSING = {408, 409, 425, 429}  # and every 5xx: worth another try


class Endpoint:
    """Asks `URL/chat/completions` about one picture at a time.

    The key is read from the environment variable HANDI_ENRICH_KEY, from nowhere else, and is in no message
    and no file, whatever the server sends back. A request that meets a passing failure (no connection,
    time-out, 429, 5xx, half an answer) is tried again after a doubling wait, or the wait that the server asks
    for.

    timeout: s that a request may take, from the connection to the last byte.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        timeout: float = 60.0,
        tries: int = TRIES,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is not an http address", where="--enrich")
        if parts.username or parts.password or parts.query:
            raise InputError(
                "the address holds a name, key or query",
                where="--enrich",
                hint=f"leave it out and set {KEY_VARIABLE}",
            )
        if not model:
            raise InputError("the endpoint's model is not named", where="--enrich-model")
        if timeout <= 0 or tries < 1:
            raise ValueError("timeout and tries must be above 0")
        base = url.rstrip("/")
        self.url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self.model = model
        self.name = f"{model} at {self.url.removesuffix('/chat/completions')}"
        self._timeout, self._tries, self._first_wait = timeout, tries, first_wait
        self._options: dict[str, Any] = {"max_tokens": MAX_TOKENS, "temperature": 0}

    def describe(self, picture: Picture, question: str) -> str:
        """The answer about a picture H×W×3 uint8.

        Raises: InputError for a question that the endpoint will not answer, ModelError for an endpoint that
        cannot be used.
        """
        content = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}},
            {"type": "text", "text": question},
        ]
        message = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        wait = self._first_wait
        for attempt in range(1, self._tries + 1):
            try:
                return self._post({**message, **self._options})
            except _Passing as passing:
                if attempt == self._tries:
                    raise ModelError(
                        f"gave no answer in {attempt} tries ({passing})",
                        where=self.url,
                        hint="see whether it is up, or use fewer workers",
                    ) from passing
                time.sleep(min(passing.wait if passing.wait is not None else wait, LONGEST_WAIT))
                wait *= 2
        raise AssertionError("unreachable")

    def _post(self, body: dict[str, Any]) -> str:
        """The text of the answer. Raises: _Passing, InputError, ModelError."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := _key():
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers, method="POST")
        with _Deadline(self._timeout) as deadline:
            return self._send(request, key, deadline)

    def _send(self, request: urllib.request.Request, key: str, deadline: _Deadline) -> str:
        """The text of the answer. Raises: _Passing, InputError, ModelError."""
        try:
            with deadline.opener().open(request, timeout=self._timeout) as response:
                return _answer(_hidden(_read(response, deadline), key))
        except urllib.error.HTTPError as error:
            with error:
                said = _message(error, key)
            if error.code in PASSING or error.code >= 500:
                raise _Passing(f"HTTP {error.code}: {said}", _asked_wait(error.headers)) from None
            if error.code == 400 and self._give_way(said):
                raise _Passing(f"HTTP 400: {said}", 0.0) from None
            if error.code in (401, 403):
                hint = f"put its key into the environment variable {KEY_VARIABLE}"
                raise ModelError(f"refuses the key ({said})", where=self.url, hint=hint) from None
            if error.code in (400, 413, 422):
                raise InputError(f"the endpoint refuses the question (HTTP {error.code}: {said})") from None
            raise ModelError(
                f"HTTP {error.code}: {said}",
                where=self.url,
                hint="check the address and the model's name",
            ) from None
        except HandiError:
            raise
        # URLError, time-outs, resets, half an answer, an encrypted connection that was cut. Not `from error`:
        # it may quote what the server has sent, the key among it.
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            what = _hidden(str(reason).encode(), key).decode() or type(reason).__name__
            raise _Passing("the answer takes too long" if deadline.passed else what, None) from None

    def _give_way(self, said: str) -> bool:
        """Do without an option that some hosted models refuse; whether there was one to do without."""
        if "max_tokens" in said and "max_tokens" in self._options:
            self._options["max_completion_tokens"] = self._options.pop("max_tokens")
            return True
        return "temperature" in said and self._options.pop("temperature", None) is not None


class _Passing(Exception):
    """A failure worth another try; `wait`: s that the server asks for."""

    def __init__(self, text: str, wait: float | None) -> None:
        super().__init__(text)
        self.wait = wait


def _key() -> str:
    """The key without the white space that files and shells leave around it; "" where there is none.

    Raises: ModelError for one that no header can hold.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not (key.isascii() and key.isprintable()):  # http.client would quote it in its error
        raise ModelError(
            "the key holds a line break or other characters that no key has",
            where=KEY_VARIABLE,
            hint="set it again",
        )
    return key


def _hidden(data: bytes, key: str) -> bytes:
    """What a server has sent, without the key: plain, in a URL, or in JSON."""
    for form in {key, urllib.parse.quote(key, safe=""), json.dumps(key)[1:-1]} - {""}:
        data = data.replace(form.encode(), "…".encode())
    return data


class _Deadline:
    """Cuts the connections of a request when its time is over, whatever it waits for then.

    urllib's own time-out is for one read: a server that drips, or repeats "100 Continue", would hold us.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._end

    def _cut(self) -> None:
        for connected in self._sockets:
            with suppress(OSError):  # closed in the meantime
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

    def opener(self) -> urllib.request.OpenerDirector:
        """Opens addresses through connections that this deadline cuts."""
        return urllib.request.build_opener(_NoRedirect, _Http(self), _Https(self))

    def watched(self, kind: Any) -> Any:
        """A class of connections, the same but for the deadline."""
        deadline = self

        class Connection(kind):
            def connect(self) -> None:
                super().connect()
                deadline._sockets.append(self.sock)
                if deadline.passed:
                    raise TimeoutError

        return Connection


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._kind = deadline.watched(http.client.HTTPConnection)

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._kind, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self._kind = deadline.watched(http.client.HTTPSConnection)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(self._kind, req, context=ssl.create_default_context())


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would take the key along to wherever a redirect points."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _data_url(picture: Picture) -> str:
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=92)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _read(response: Any, deadline: _Deadline) -> bytes:
    """The whole body."""
    parts: list[bytes] = []
    while part := response.read1(65536):
        parts.append(part)
        if sum(map(len, parts)) > MAX_ANSWER:
            raise _Passing("an answer that does not end", None)
    if deadline.passed:  # a body without a length seems to end where it is cut
        raise TimeoutError
    if response.length:  # of the announced bytes are left: it broke off
        raise http.client.IncompleteRead(b"".join(parts), response.length)
    return b"".join(parts)


def _answer(body: bytes) -> str:
    """The text of a chat completion. Raises: _Passing if it is not one, InputError for a refusal."""
    try:
        choice = parse_json(body, "the answer", checked=False)["choices"][0]
        content = choice["message"]["content"]
        if isinstance(content, list):  # parts
            content = "".join(part.get("text", "") for part in content)
        if content is not None and not isinstance(content, str):
            raise TypeError(type(content).__name__)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _Passing(f"not a chat completion: {body.decode(errors='replace')[:80]!r}", None) from error
    if not content or choice.get("finish_reason") == "content_filter":
        raise InputError(f"the endpoint gave no text ({choice.get('finish_reason')})")
    return content


def _message(error: urllib.error.HTTPError, key: str) -> str:
    """What the server says of a failure, in one short line without the key."""
    try:
        raw = error.read(65536)
    except (OSError, http.client.HTTPException, ValueError):
        raw = b""
    text = _hidden(raw, key).decode(errors="replace")
    try:
        told = parse_json(text, "the answer", checked=False)
        told = told.get("error", told.get("detail", told))
        text = str(told.get("message", told) if isinstance(told, dict) else told)
    except (ValueError, AttributeError):
        pass
    text = text if text.strip() else str(error.reason)
    return " ".join(_hidden(text.encode("utf-8", "replace"), key).decode().split())[:200]


def _asked_wait(headers: Any) -> float | None:
    """Seconds of a Retry-After header (a number, or a date)."""
    value = (headers.get("Retry-After") or "").strip() if headers else ""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return None

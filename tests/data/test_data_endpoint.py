"""The chat endpoint against a real HTTP server on this machine, which fails as servers do."""

from __future__ import annotations

import base64
import io
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from helpers.chat_server import ChatServer, completion
from PIL import Image

from handi.core.errors import InputError, ModelError
from handi.data.endpoint import KEY_VARIABLE, Endpoint

KEY = "sk-very-secret"
PICTURE = np.full((40, 60, 3), (200, 40, 10), np.uint8)


@pytest.fixture
def server(monkeypatch) -> Iterator[ChatServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    server = ChatServer()
    yield server
    server.close()


def ask(server: ChatServer, **options: Any) -> str:
    endpoint = Endpoint(server.url, "tiny", **{"first_wait": 0.01, "timeout": 5.0, **options})
    return endpoint.describe(PICTURE, "What is it?")


def test_the_request_holds_the_picture_the_question_and_the_key_of_the_environment(server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.says("The left hand holds the carrot.")
    assert ask(server) == "The left hand holds the carrot."
    (_, headers, body), *rest = server.asked
    assert not rest
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["path"] == "/v1/chat/completions"
    assert body["model"] == "tiny"
    assert body["temperature"] == 0
    image, text = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    kind, data = image["image_url"]["url"].split(",")
    assert kind == "data:image/jpeg;base64"
    sent = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    assert sent.shape == PICTURE.shape
    assert np.abs(sent.astype(int) - PICTURE).max() < 8


def test_without_a_key_none_is_sent_and_a_long_address_is_taken_as_it_is(server):
    server.says("Yes.")
    server.url += "/chat/completions"
    ask(server)
    assert "Authorization" not in server.asked[0][1]
    assert server.asked[0][2]["path"] == "/v1/chat/completions"


def test_passing_failures_are_tried_again(server):
    half = completion("lost")

    def breaks_off(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(half) + 50))
        handler.end_headers()
        handler.wfile.write(half)

    def hangs_up(handler: BaseHTTPRequestHandler) -> None:
        handler.connection.close()

    server.says((503, {"error": {"message": "loading"}}), breaks_off, (200, b"<html>"), hangs_up, "At last.")
    assert ask(server) == "At last."
    assert len(server.asked) == 5


def test_the_wait_that_the_server_asks_for_is_kept(server):
    server.says((429, {"error": "slow"}, {"Retry-After": "0.4"}), "Now.")
    assert ask(server) == "Now."
    assert server.asked[1][0] - server.asked[0][0] >= 0.4


def test_a_server_that_stays_down_is_an_error_that_names_it(server):
    server.says((500, {"error": {"message": "no GPU"}}))
    with pytest.raises(ModelError, match=r"127\.0\.0\.1.*no answer in 3 tries \(HTTP 500: no GPU\)"):
        ask(server, tries=3)
    assert len(server.asked) == 3
    server.http.server_close()
    closed = Endpoint(server.url, "tiny", tries=2, first_wait=0.01, timeout=1)
    with pytest.raises(ModelError, match="no answer in 2 tries"):
        closed.describe(PICTURE, "What?")


def head(handler: BaseHTTPRequestHandler, status: int = 200, length: int | None = 100) -> None:
    handler.send_response(status)
    if length is not None:
        handler.send_header("Content-Length", str(length))
    handler.end_headers()


def drip(handler: BaseHTTPRequestHandler, what: bytes) -> None:
    with suppress(OSError):  # the client has hung up, as it should
        for _ in range(600):
            handler.wfile.write(what)
            handler.wfile.flush()
            time.sleep(0.1)


SLOW = {
    "nothing": lambda handler: time.sleep(60),
    "no body": lambda handler: (head(handler), time.sleep(60)),
    "body": lambda handler: (head(handler), drip(handler, b" ")),
    "endless body": lambda handler: (head(handler, length=None), drip(handler, b" ")),
    "error body": lambda handler: (head(handler, 500), drip(handler, b"x")),
    "headers": lambda handler: drip(handler, b"HTTP/1.1 200 OK\r\n"[:1]),
    "continue": lambda handler: drip(handler, b"HTTP/1.1 100 Continue\r\n\r\n"),
}


@pytest.mark.parametrize("kind", SLOW)
def test_a_server_that_does_not_answer_in_time_is_left(server, kind):
    server.says(SLOW[kind])
    begin = time.monotonic()
    with pytest.raises(ModelError, match=r"no answer in 1 tries.*(timed out|too long|HTTP 500)"):
        ask(server, tries=1, timeout=0.3)
    assert time.monotonic() - begin < 30  # also on a machine under load; the server goes on for 60


@pytest.mark.parametrize("around", ["\r", "\n", " {} ", "\t{}\r\n"])
def test_white_space_around_the_key_is_no_part_of_it(server, monkeypatch, around):
    monkeypatch.setenv(KEY_VARIABLE, around.format(KEY) if "{" in around else KEY + around)
    server.says("Yes.")
    ask(server)
    assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("key", ["sk-\rvery-secret", "sk-very\nsecret", "sk-sécret", "sk-\x1bvery-secret"])
def test_a_key_that_no_header_holds_is_refused_unseen(server, monkeypatch, key):
    monkeypatch.setenv(KEY_VARIABLE, key)
    server.says("Yes.")
    with pytest.raises(ModelError, match=f"{KEY_VARIABLE}: the key holds") as refused:
        ask(server)
    assert "cret" not in "".join(traceback.format_exception(refused.value)).split("Traceback")[-1][-400:]
    assert not server.asked


def raw(data: str) -> Any:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(data.encode())
        handler.close_connection = True

    return send


@pytest.mark.parametrize(
    "step",
    [
        (500, {"error": {"message": "x" * 190 + KEY}}),  # where the message is cut
        (400, KEY.encode()),
        (404, {"detail": [KEY]}),
        (401, f"key%3A{quote(KEY + '/')}".encode()),
        (200, f"<html>{KEY}".encode()),
        (200, {"choices": [{"message": {"content": ""}, "finish_reason": KEY}]}),
        raw(f"{KEY}\r\n\r\n"),
        raw(f"HTTP/1.1 {KEY}\r\n\r\n"),
        raw(f"HTTP/1.1 500 {KEY}\r\nContent-Length: 0\r\n\r\n"),
        raw(f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n{KEY}\r\n"),
    ],
)
def test_the_key_is_never_shown_whatever_the_server_sends(server, monkeypatch, step):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.says(step)
    with pytest.raises((ModelError, InputError)) as failed:
        ask(server, tries=1)
    shown = "".join(traceback.format_exception(failed.value))
    assert KEY not in shown
    assert KEY[:9] not in str(failed.value)


def test_an_answer_that_repeats_the_key_is_kept_without_it(server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.says(f"The hand holds {KEY}.")
    assert ask(server) == "The hand holds …."


def test_a_refused_key_is_said_at_once_and_never_shown(server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.says((401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}))
    with pytest.raises(ModelError, match=f"refuses the key.*{KEY_VARIABLE}") as refused:
        ask(server)
    assert KEY not in str(refused.value)
    assert len(server.asked) == 1


def test_a_redirect_does_not_take_the_key_along(server, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    server.says((302, b"", {"Location": server.url + "/elsewhere"}))
    with pytest.raises(ModelError, match="HTTP 302"):
        ask(server)
    assert len(server.asked) == 1


def test_a_question_that_is_refused_concerns_that_question(server):
    server.says((400, {"error": {"message": "image too small"}}))
    with pytest.raises(InputError, match=r"refuses the question .*image too small"):
        ask(server)
    server.says((200, completion(None, "content_filter")))
    with pytest.raises(InputError, match=r"no text \(content_filter\)"):
        ask(server)
    server.says((404, {"error": {"message": "no model tiny"}}))
    with pytest.raises(ModelError, match="no model tiny"):
        ask(server)


def test_options_that_a_model_refuses_are_left_out(server):
    server.says(
        (400, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'."}}),
        (400, {"error": {"message": "'temperature' does not support 0"}}),
        (200, completion([{"type": "text", "text": "In "}, {"type": "text", "text": "parts."}])),
    )
    assert ask(server) == "In parts."
    last = server.asked[-1][2]
    assert "max_tokens" not in last
    assert "temperature" not in last
    assert last["max_completion_tokens"] > 0


@pytest.mark.parametrize(
    ("url", "model", "message"),
    [
        ("ftp://host/v1", "m", "not an http address"),
        ("http://name:secret@host/v1", "m", f"set {KEY_VARIABLE}"),
        ("https://host/v1?key=secret", "m", f"set {KEY_VARIABLE}"),
        ("https://host/v1", "", "model is not named"),
    ],
)
def test_addresses_that_cannot_be_are_refused(url, model, message):
    with pytest.raises(InputError, match=message) as refused:
        Endpoint(url, model)
    assert "secret" not in str(refused.value)

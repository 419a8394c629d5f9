"""A chat endpoint on this machine that answers by a script, as well or as badly as servers do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def completion(text: Any, reason: str = "stop") -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


class ChatServer:
    """Serves the scripted answers one by one, the last one for ever, and keeps what it was asked."""

    def __init__(self) -> None:
        self.script: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.asked: list[tuple[float, dict[str, str], dict[str, Any]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((time.monotonic(), dict(self.headers), {"path": self.path, **body}))
                step = server.script.pop(0) if len(server.script) > 1 else server.script[0]
                step(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def says(self, *steps: Any) -> None:
        """Texts, or (status, body[, headers]), or functions of the handler."""
        self.script = [step if callable(step) else reply(step) for step in steps]


def reply(step: Any) -> Callable[[BaseHTTPRequestHandler], None]:
    status, body, headers = (200, completion(step), {}) if isinstance(step, str) else (*step, {})[:3]
    body = body if isinstance(body, bytes) else json.dumps(body).encode()

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return send

# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server that speaks TensorFlow Serving's REST form and does what a test scripts."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

K = 2


def row(data: bytes) -> dict:
    """What a server answers for one image: its own text is the best class."""
    text = data.decode()
    return {
        "status": "ok",
        "top_classes": [text, "second"],
        "top_scores": [0.123456789, 0.1],
        "probabilities": [0.123456789] * K,
    }


def answered(body: bytes) -> dict:
    images = [base64.b64decode(item["b64"]) for item in json.loads(body)["instances"]]
    return {"predictions": [row(data) for data in images]}


class Fake:
    """`script(number, body)` → (code, body) or (code, body, headers), or None to hang up without a word.

    number: of the request, from 0.  A body is JSON where it is no bytes.
    """

    def __init__(self, script):
        self.script = script
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def listen(self, port: int = 0):
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with fake.lock:
                    number = len(fake.paths)
                    fake.paths.append(self.path)
                    fake.bodies.append(body)
                reply = fake.script(number, body)
                if reply is None:
                    self.close_connection = True
                    return
                code, content, *headers = reply
                content = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(code)
                for name, value in dict(*headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(OSError):  # the client may have gone
                    self.wfile.write(content)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1/models/demo"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def serving(script):
    """A context manager that gives (fake, address)."""

    @contextlib.contextmanager
    def started():
        fake = Fake(script)
        with fake.listen() as address:
            yield fake, address

    return started()

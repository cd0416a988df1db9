# SPDX-License-Identifier: Apache-2.0
"""A web page on this machine that classifies images dropped on it with a SavedModel.

The page sends the images themselves: the server takes no path, opens no file for a request, and keeps nothing.  A
random token in the page tells its requests from those of other pages; a foreign `Host`, as DNS rebinding brings it,
is refused.
"""

from __future__ import annotations

import http.server
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from pathlib import Path
from socket import socket

from inception_tf.data.labels import read_labels
from inception_tf.errors import UserError
from inception_tf.serving.demo_page import demo_page
from inception_tf.serving.loopback import HOST, listen
from inception_tf.serving.predict import PredictFunction, find_model, open_model

__all__ = ["serve_demo"]

UPLOAD_LIMIT = 256 * 2**20  # bytes; a BMP of 50 million pixels with alpha has 200 MB
IDLE_TIMEOUT_S = 30  # for the next bytes of a request
TOKEN = "X-Demo-Token"
HeatFunction = Callable[[bytes], bytes]


def serve_demo(
    saved_model: str | Path,
    *,
    port: int,
    top: int,
    ready: Callable[[str], None],
    run: str | None = None,
) -> None:
    """Serves the page at 127.0.0.1 until an exception, such as KeyboardInterrupt.

    Args:
        saved_model: saved_models/NAME, for its newest version, or saved_models/NAME/VERSION.
        port: The port, 0 for any that is free.
        top: How many of the best classes are shown.
        ready: Called with the page's address.
        run: The run or weights file that heat maps are computed with; None: the one that the export names, while it
            is unchanged; without it there are none.

    Raises:
        UserError: The port is taken, `saved_model` is no SavedModel, or `run` is no run.
    """
    folder = find_model(saved_model).resolve()
    heat = _heat_maps(folder, run)
    with listen(port, "--port") as listening:
        server = _Server(listening, folder, open_model(folder), top, heat)
        try:
            ready(f"http://{HOST}:{server.server_port}")
            server.serve_forever()
        finally:
            if server.working:
                # A computation cannot be stopped; nothing here has to be kept.
                sys.stdout.flush()
                os._exit(0)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # none is waited for at the end
    block_on_close = False

    def __init__(
        self,
        listening: socket,
        folder: Path,
        classify: PredictFunction,
        top: int,
        heat: HeatFunction | None,
    ) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_port = listening.getsockname()[1]
        self.classify, self.top, self.heat = classify, top, heat
        self.token = secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        name, about = folder.name, f"{len(read_labels(folder / 'assets' / 'labels.txt')):,} classes"
        if name.isdecimal():
            name, about = folder.parent.name, f"Version {name}, {about}"
        self.page = demo_page(name, about, self.token, heat is not None)
        self.computing = threading.Lock()  # one image at a time: each uses all cores

    @property
    def working(self) -> bool:
        return self.computing.locked()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away; the page says so where it is a failure."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_TIMEOUT_S
    server_version, sys_version = "inception-tf", ""

    def do_GET(self) -> None:
        if not self._is_known_host():
            return
        if self.path != "/":
            self._reply(HTTPStatus.NOT_FOUND, b"there is one page, /", "text/plain")
            return
        self._reply(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")

    def do_POST(self) -> None:
        # Before a byte of the content is read.
        if not self._is_known_host():
            return
        if not secrets.compare_digest(
            self.headers.get(TOKEN, "").encode(), self.server.token.encode()
        ):
            self._refuse(HTTPStatus.FORBIDDEN, "only images of the page are taken")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > UPLOAD_LIMIT:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"more than {UPLOAD_LIMIT:,} bytes")
            return
        data = self.rfile.read(int(length))
        if self.path == "/classify":
            with self.server.computing:
                ((status, best),) = self.server.classify([data], self.server.top)
            content = json.dumps({"status": status, "classes": best}).encode()
            self._reply(HTTPStatus.OK, content, "application/json")
        elif self.path == "/heat" and self.server.heat:
            try:
                with self.server.computing:
                    content = self.server.heat(data)
            except UserError as error:
                self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
                return
            self._reply(HTTPStatus.OK, content, "image/png")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "no such path")

    def _is_known_host(self) -> bool:
        if self.headers.get_all("Host", []) in [[host] for host in self.server.hosts]:
            return True
        self._refuse(HTTPStatus.BAD_REQUEST, "unknown host")
        return False

    def _refuse(self, code: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # its content was not read
        self._reply(code, json.dumps({"status": reason}).encode(), "application/json")

    def _reply(self, code: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; img-src blob:; connect-src 'self'; style-src 'unsafe-inline';"
            " script-src 'unsafe-inline'",
        )
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is printed for a request."""


def _heat_maps(folder: Path, run: str | None) -> HeatFunction | None:
    """A function of an encoded image that draws where the network sees its best class; TensorFlow is imported late.

    run: the run or weights file; None for the one that the export names, while it is unchanged.
    """
    from inception_tf.export.metadata import read_metadata

    exported = read_metadata(folder)
    if run is None:
        origin = exported.origin.find(folder) if exported and exported.origin else None
        if origin is None:
            return None
        run = origin.path
    source, network = run, exported.network if exported and not Path(run).is_dir() else None

    @cache
    def opened() -> HeatFunction:
        from inception_tf.classifiers import open_classifier
        from inception_tf.serving.explain import heat_of_image

        classifier = open_classifier(source, network)
        return lambda data: heat_of_image(classifier, data)

    return lambda data: opened()(data)

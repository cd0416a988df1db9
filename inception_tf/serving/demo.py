# SPDX-License-Identifier: Apache-2.0
"""A web page on this machine that classifies an image dropped on it with a SavedModel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from inception_tf.data.labels import read_labels
from inception_tf.data.skipped import OK
from inception_tf.errors import missing_package
from inception_tf.host.private_names import PrivateName, PrivateNames
from inception_tf.host.process_state import environment_variables
from inception_tf.serving.loopback import HOST, listen
from inception_tf.serving.predict import PredictFunction, find_model, open_model

if TYPE_CHECKING:
    import gradio

__all__ = ["serve_demo"]

SHUTDOWN_TIMEOUT_S = 1  # for open pages at the end; each keeps a connection
CSS = """
.gradio-container { width: 100%; max-width: 1000px !important; margin: auto !important; }
footer { display: none !important; }
#problem { background: #fef2f2; border-left: 4px solid #dc2626; padding: 1rem; }
#problem * { color: #7f1d1d; }
"""
GRADIO = PrivateNames(
    "gradio>=6.0,<7",
    (PrivateName("gradio.Image", "preprocess", "showing the model a file's own bytes"),),
)


def serve_demo(
    saved_model: str | Path, *, port: int, top: int, ready: Callable[[str], None]
) -> None:
    """Serves the page at 127.0.0.1 until SIGINT or SIGTERM, which the web server raises again when it has stopped.

    Args:
        saved_model: saved_models/NAME, for its newest version, or saved_models/NAME/VERSION.
        port: The port, 0 for any that is free.
        top: How many of the best classes are shown.
        ready: Called with the page's address.

    Raises:
        UserError: The port is taken, `saved_model` is no SavedModel, or gradio is not installed.
    """
    folder = find_model(saved_model).resolve()
    with (
        listen(port, "--port") as listening,
        tempfile.TemporaryDirectory() as uploads,
        # Gradio reads these when it is imported: where files go, and that it reports nothing.
        environment_variables(
            GRADIO_TEMP_DIR=uploads, GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1"
        ),
    ):
        try:
            import fastapi
            import gradio
            import uvicorn
        except ImportError as error:
            raise missing_package("demo", "gradio", "demo") from error

        app = gradio.mount_gradio_app(
            fastapi.FastAPI(),
            _page(folder, open_model(folder), top),
            path="/",
            server_name=HOST,
            footer_links=[],
            run_history=False,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=gradio.themes.Soft(font="sans-serif", font_mono="monospace"),
            css=CSS,
        )
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S)
        )
        ready(f"http://{HOST}:{listening.getsockname()[1]}")
        server.run([listening])


def _page(folder: Path, classify: PredictFunction, top: int) -> gradio.Blocks:
    """The page: an upload field, the best classes, and the reason where there are none."""
    import gradio

    name, about = folder.name, f"{len(read_labels(folder / 'assets' / 'labels.txt')):,} classes"
    if name.isdecimal():
        name, about = folder.parent.name, f"Version {name}, {about}"

    def show(path: str | None) -> tuple[gradio.Label, gradio.Markdown]:
        if path is None:
            return gradio.Label(None, visible=True), gradio.Markdown(visible=False)
        ((status, best),) = classify([Path(path).read_bytes()], top)
        if status == OK:
            return gradio.Label(_bars(best), visible=True), gradio.Markdown(visible=False)
        problem = gradio.Markdown(f"**This image cannot be read:** {status}", visible=True)
        return gradio.Label(None, visible=False), problem

    with gradio.Blocks(title=name, analytics_enabled=False) as page:
        gradio.Markdown(f"# {name}\n{about}")
        with gradio.Row():
            image = gradio.Image(
                type="filepath",
                sources=["upload"],
                buttons=[],
                height=360,
                label="Image",
                min_width=300,
                elem_id="image",
            )
            with gradio.Column(min_width=300):
                label = gradio.Label(num_top_classes=top, label=f"Top {top}", elem_id="label")
                problem = gradio.Markdown(visible=False, elem_id="problem")
        GRADIO.require("preprocess")
        # The model reads the uploaded file; Gradio would decode it before.
        image.preprocess = lambda file: file and file.path
        image.change(show, image, [label, problem], api_visibility="private")
    return page


def _bars(best: Iterable[tuple[str, float]]) -> dict[str, float]:
    """{class: score}; a second class of the same name gets a trailing space, which a page does not show."""
    bars: dict[str, float] = {}
    for name, score in best:
        while name in bars:
            name += " "
        bars[name] = score
    return bars

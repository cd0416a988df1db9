# SPDX-License-Identifier: Apache-2.0
"""A web page on this machine: drop an image on it and see what a SavedModel says of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from inception_tf.data.labels import read_labels
from inception_tf.data.skipped import OK
from inception_tf.errors import missing_package
from inception_tf.host.private_names import PrivateName, PrivateNames
from inception_tf.host.process_state import environment_variables
from inception_tf.serving.loopback import HOST, listen
from inception_tf.serving.predict import PredictFunction, find_model, open_model

__all__ = ["serve_demo"]

PATIENCE = 1  # seconds for open pages at the end; each keeps a connection
CSS = """
.gradio-container { width: 100%; max-width: 1000px !important; margin: auto !important; }
footer { display: none !important; }
#trouble { background: #fef2f2; border-left: 4px solid #dc2626; padding: 1rem; }
#trouble * { color: #7f1d1d; }
"""
GRADIO = PrivateNames(
    "gradio>=6.0,<7",
    (PrivateName("gradio.Image", "preprocess", "showing the model a file's own bytes"),),
)


def serve_demo(
    saved_model: str | Path, *, port: int, top: int, ready: Callable[[str], None]
) -> None:
    """Shows the page at 127.0.0.1:`port` until Ctrl-C.

    saved_model: saved_models/NAME, its newest version, or NAME/VERSION.  port: 0 for any that is
    free.  top: classes shown for each image.  ready: called with the page's address.
    Raises `UserError` where the port is taken or `saved_model` is none.
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
            uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=PATIENCE)
        )
        ready(f"http://{HOST}:{listening.getsockname()[1]}")
        server.run([listening])


def _page(folder: Path, ask: PredictFunction, top: int):
    """The page as Gradio's blocks: a place for the image, the best classes, and the reason where there are none."""
    import gradio

    name, about = folder.name, f"{len(read_labels(folder / 'assets' / 'labels.txt')):,} classes"
    if name.isdecimal():
        name, about = folder.parent.name, f"Version {name}, {about}"

    def answer(path: str | None):
        if path is None:
            return gradio.Label(None, visible=True), gradio.Markdown(visible=False)
        ((status, best),) = ask([Path(path).read_bytes()], top)
        if status == OK:
            return gradio.Label(_bars(best), visible=True), gradio.Markdown(visible=False)
        trouble = gradio.Markdown(f"**This image cannot be read:** {status}", visible=True)
        return gradio.Label(None, visible=False), trouble

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
                trouble = gradio.Markdown(visible=False, elem_id="trouble")
        GRADIO.require("preprocess")
        # The model reads the file as it came; Gradio would decode it before.
        image.preprocess = lambda file: file and file.path
        image.change(answer, image, [label, trouble], api_visibility="private")
    return page


def _bars(best) -> dict[str, float]:
    """{class: score}; where two classes have one name, with a space behind the second, which a page does not show."""
    bars: dict[str, float] = {}
    for name, score in best:
        while name in bars:
            name += " "
        bars[name] = score
    return bars

# SPDX-License-Identifier: Apache-2.0
"""Files of the Hugging Face Hub by address: `hf://owner/repository/file@revision`."""

from __future__ import annotations

import os
import re

from inception_tf.errors import UserError, missing_package

__all__ = ["HUB", "hub_repository", "local_file"]

HUB = "hf://"
ADDRESS = re.compile(r"hf://(?P<repository>[\w.-]+/[\w.-]+)/(?P<file>[^@]+)(@(?P<revision>[^@]+))?")


def hub_repository(path: str) -> str:
    """The repository that an address names.

    Args:
        path: A path or an address.

    Returns:
        Such as `timm/inception_v3.tf_in1k`; empty for a path.
    """
    match = ADDRESS.fullmatch(path)
    return match["repository"] if match else ""


def local_file(path: str | os.PathLike[str]) -> str:
    """The path of a weights file, which is downloaded first if it is an address of the Hub.

    huggingface_hub downloads it, once, into its own cache; it knows tokens, mirrors (`HF_ENDPOINT`) and
    `HF_HUB_OFFLINE`.

    Args:
        path: A path, or an address such as `hf://timm/inception_v3.tf_in1k/model.safetensors@main`; a
            revision is a branch, a tag or a commit, by default `main`.

    Returns:
        The path of the file.

    Raises:
        UserError: The address has another form, huggingface_hub is not installed, or the file cannot be
            downloaded.
    """
    path = os.fspath(path)
    if not path.startswith(HUB):
        return path
    match = ADDRESS.fullmatch(path)
    if not match or ".." in match["file"].split("/"):
        raise UserError(
            f"'{path}' is no address of a file; write hf://OWNER/REPOSITORY/FILE@REVISION"
        )
    try:
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ModuleNotFoundError as error:
        if error.name != "huggingface_hub":
            raise
        raise missing_package(f"'{path}'", "huggingface_hub", "hub") from error
    revision = match["revision"] or "main"
    endpoint = os.environ.get("HF_ENDPOINT", constants.ENDPOINT)
    page = f"{endpoint}/{match['repository']}/resolve/{revision}/{match['file']}"
    try:
        return hf_hub_download(
            match["repository"],
            match["file"],
            revision=revision,
            endpoint=endpoint,
            cache_dir=os.environ.get("HF_HUB_CACHE"),
        )
    except LocalEntryNotFoundError as error:
        raise UserError(
            f"cannot download {page}: no connection; download that file elsewhere, and give its path"
        ) from error
    except HfHubHTTPError as error:
        raise UserError(
            f"cannot download {page}: {_first_line(error)}; give the address of a file that you may read"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"cannot download {page}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

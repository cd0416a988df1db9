# SPDX-License-Identifier: Apache-2.0
"""Image files as a user names them: one by one, a folder of them, or a pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable

from inception_tf.data.formats import ENDINGS, is_image_name
from inception_tf.errors import UserError

__all__ = ["find_images"]


def find_images(names: Iterable[str]) -> list[str]:
    """Lists the image files that names stand for.

    Args:
        names: Paths of files, whatever they end in and whether they exist or not; of folders, for the images below
            them; or patterns with `*`, `?`, `[...]` and `**`.

    Returns:
        Paths, in the order of the names, those of a folder or a pattern sorted.

    Raises:
        UserError: A folder or a pattern has no image.
    """
    found: list[str] = []
    for name in names:
        if os.path.isdir(name):
            inside = sorted(
                os.path.join(folder, file)
                for folder, _, files in os.walk(name)
                for file in files
                if is_image_name(file) and not file.startswith(".")
            )
            if not inside:
                raise UserError(f"{name} has no images; they end in {', '.join(ENDINGS)}")
            found += inside
        elif glob.has_magic(name) and not os.path.exists(name):
            matching = sorted(p for p in glob.glob(name, recursive=True) if os.path.isfile(p))
            if not matching:
                raise UserError(f"no file matches {name}")
            found += matching
        else:
            found.append(name)
    return found

# SPDX-License-Identifier: Apache-2.0
"""For the site: the code under `Example:` of a docstring is shown as code.

Griffe calls `on_object` (https://mkdocstrings.github.io/griffe/guide/users/extending/).
"""

from __future__ import annotations

import re
import textwrap

import griffe

EXAMPLE = re.compile(r"^Example:\n\n?((?:[ ]{4}.*\n?|\n)+)", re.M)


class Examples(griffe.Extension):
    """Puts each example into a fenced block."""

    def on_object(self, *, obj, **arguments):
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(match: re.Match) -> str:
    code = textwrap.dedent(match[1]).strip()
    return f"**Example**\n\n```python\n{code}\n```\n"

# SPDX-License-Identifier: Apache-2.0
"""The project's pages as tests read them: code blocks, commands, links, headings."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAMES = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "benchmarks/*.md", "examples/*.md", "saved_models/*.md")
    for path in ROOT.glob(pattern)
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
INDENTED = re.compile(r"(?:(?<=\n\n)|\A)((?:    .*\n)(?:(?:    .*)?\n)*)")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+?)\s*$", re.M)
PROGRAM = "inception-tf"


@dataclass(frozen=True)
class Page:
    """A page: its path from the root, and its text."""

    name: str
    text: str

    @property
    def folder(self) -> Path:
        return (ROOT / self.name).parent

    @property
    def prose(self) -> str:
        """The text without its blocks of code."""
        return INDENTED.sub("", FENCE.sub("", self.text))

    def blocks(self, *languages: str) -> list[str]:
        """Fenced blocks of these languages."""
        return [code for language, code in FENCE.findall(self.text) if language in languages]

    def shell_lines(self) -> list[str]:
        """Lines of blocks that a reader types: fenced for a shell, or indented."""
        shell = [code.replace("\\\n", " ") for code in self.blocks("bash", "sh", "shell", "yaml")]
        shell += [
            re.sub(r"^ {4}", "", block, flags=re.M)
            for block in INDENTED.findall(FENCE.sub("", self.text))
        ]
        return [line.strip() for block in shell for line in block.splitlines()]

    def spans(self) -> list[str]:
        """Inline code, a bar of a table without its escape."""
        return [span.replace("\\|", "|") for span in INLINE.findall(FENCE.sub("", self.text))]

    def links(self) -> list[str]:
        """Targets of links and pictures."""
        return LINK.findall(FENCE.sub("", self.text))

    def anchors(self) -> set[str]:
        """What a link into the page may name, as GitHub spells it."""
        text = FENCE.sub("", self.text)
        plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in HEADING.findall(text)]
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain}

    def calls(self) -> list[list[str]]:
        """The words of every call of the program, without what stands before it and comments."""
        found = []
        for line in [*self.shell_lines(), *self.spans()]:
            at = re.search(rf"(?:^|[\s/]){PROGRAM} (?=[a-z])", line)
            if not at or line.startswith(("warning", "inception-tf:")):
                continue
            call = re.split(r"\s#|\s{2,}(?=[a-z])|\s[|>&]\s?|'$", line[at.end() :])[0]
            try:
                found.append(shlex.split(call))
            except ValueError:  # a quote that the split has cut
                found.append(call.split())
        return found


def page(name: str) -> Page:
    """Reads one."""
    return Page(name, (ROOT / name).read_text("utf-8"))


def all_pages() -> list[Page]:
    """Reads all."""
    return [page(name) for name in NAMES]

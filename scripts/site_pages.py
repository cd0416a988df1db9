# SPDX-License-Identifier: Apache-2.0
"""Pages of the site that are not written in docs/: those of other folders, and those generated from the code.

MkDocs calls `on_config`, `on_files` and `on_page_markdown` (https://www.mkdocs.org/user-guide/configuration/#hooks).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import posixpath
import re
from pathlib import Path

import click
from mkdocs.structure.files import File

import inception_tf
from inception_tf.cli import COMMANDS, PROGRAM
from inception_tf.config import MEANING, UNIT, Config
from inception_tf.training.recipes import list_recipes, network_of, notes_of, read_recipe

ROOT = Path(__file__).parents[1]
# File of the project → page.
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "examples/README.md": "examples.md",
}
PAPERS, EXPERIMENTS = "Reproduce the papers", "docs/experiments"
LINK = re.compile(r"(?<!\!)\[((?:[^\[\]]|`[^`]*`)*)\]\(([^)\s]+)\)")


def on_config(config):
    """Adds the pages of docs/experiments/, by their titles, behind the others on the papers."""
    [guides] = [section["Guides"] for section in config.nav if "Guides" in section]
    [papers] = [section[PAPERS] for section in guides if PAPERS in section]
    papers += [
        str(path.relative_to(ROOT / "docs")) for path in sorted((ROOT / EXPERIMENTS).glob("*.md"))
    ]
    return config


def on_files(files, config):
    """Adds the pages."""
    pages = {page: (ROOT / file).read_text("utf-8") for file, page in ELSEWHERE.items()}
    pages["index.md"] = _inside(pages["index.md"])
    pages |= {
        "reference/python.md": python_page(),
        "reference/commands.md": commands_page(),
        "reference/settings.md": settings_page(),
        "reference/errors.md": errors_page(),
    }
    for page, text in pages.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown, page, config, files):
    """Points links between files of the project to their pages; what is no page stays as text."""
    origin = {page: file for file, page in ELSEWHERE.items()}
    source = origin.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if source.startswith("docs/reference/"):
        return markdown

    def pointed(match):
        text, address = match.groups()
        path, _, anchor = address.partition("#")
        if ":" in path or not path:
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        target = ELSEWHERE.get(file, file.removeprefix("docs/"))
        if files.get_file_from_path(target) is None:
            return text
        target = posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")
        return f"[{text}]({target}{'#' * bool(anchor)}{anchor})"

    return LINK.sub(pointed, markdown)


def _inside(text: str) -> str:
    """README's pictures as the site sees them."""
    return text.replace("](docs/", "](").replace('src="docs/', 'src="')


def python_page() -> str:
    """What `inception_tf` lists, from the docstrings."""
    blocks = ["# Python", "`import inception_tf` gives these names; what is not listed may change."]
    for name in inception_tf.__all__:
        module = inception_tf._MODULES.get(name, "inception_tf.applications")
        blocks.append(f"::: {module}.{name}")
    return "\n\n".join(blocks)


def commands_page() -> str:
    """Every command with its options, from click."""
    blocks = [
        "# Commands",
        "`inception-tf COMMAND --help` prints the same; `python -m inception_tf` is another name of the program.",
    ]
    for name in sorted(COMMANDS):
        module = importlib.import_module(f"inception_tf.cli.{name.replace('-', '_')}")
        blocks += _command(module.command, f"{PROGRAM} {name}", "##")
    return "\n\n".join(blocks)


def _command(command: click.Command, called: str, level: str) -> list[str]:
    """A command's heading, help, usage and options, and those of its own commands."""
    context = click.Context(command, info_name=called)
    blocks = [f"{level} {called}"]
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        typed = paragraph.startswith("\b")  # click prints such lines as they are
        blocks.append(f"```bash\n{paragraph[1:].strip()}\n```" if typed else paragraph)
    if isinstance(command, click.Group):
        for name, one in sorted(command.commands.items()):
            blocks += _command(one, f"{called} {name}", f"{level}#")
        return blocks
    pieces = [piece.lstrip("*") for piece in command.collect_usage_pieces(context)]
    blocks.append(f"`{called} {' '.join(pieces)}`")
    rows = [one.get_help_record(context) for one in command.get_params(context)]
    lines = ["| option | what |", "| --- | --- |"]
    lines += [
        f"| `{_cell(option)}` | {_cell(what)} |" for option, what in filter(None, rows) if what
    ]
    return [*blocks, "\n".join(lines)]


def settings_page() -> str:
    """The recipes, and every key with its default, unit and meaning."""
    lines = [
        "# Recipes and their keys",
        "",
        "`inception-tf recipes NAME` prints a recipe's values; `--set KEY=VALUE` of `train` changes one.",
        "",
        "## Keys",
        "",
        "| key | default | unit | meaning |",
        "| --- | --- | --- | --- |",
    ]
    defaults = read_recipe("default").flat()
    for key, field in Config.settings().items():
        value, unit, meaning = defaults[key], field.metadata[UNIT], field.metadata[MEANING]
        lines.append(f"| `{key}` | `{_yaml(value)}` | {_cell(unit)} | {_cell(meaning)} |")
    lines += ["", "The default is that of the recipe `default`.", "", "## Recipes", ""]
    for name in list_recipes():
        values = read_recipe(name).flat()
        changed = [
            f"{key}: {_yaml(value)}" for key, value in values.items() if value != defaults[key]
        ]
        lines += [f"### `{name}`", "", notes_of(name).strip(), ""]
        lines += [f"Network: `{network_of(name)}`.", ""] if network_of(name) else []
        if changed:
            lines += ["Where it differs from `default`:", "", "```yaml", *changed, "```", ""]
    return "\n".join(lines)


def errors_page() -> str:
    """Every sentence that a user's mistake ends in, from the code that raises it."""
    lines = [
        "# Error messages",
        "",
        "A mistake ends in one of these sentences on stderr, with exit code 2; `--debug` shows the traceback.",
        "`…` stands for a name or a number.  Search the page for the part of your message that no name is in.",
        "",
    ]
    package = ROOT / "inception_tf"
    for folder in sorted({path.relative_to(package).parts[0] for path in package.rglob("*.py")}):
        here = package / folder
        found = [
            sentence
            for path in (sorted(here.rglob("*.py")) if here.is_dir() else [here])
            for sentence in sentences(path)
        ]
        if found:
            lines += [f"## `{folder.removesuffix('.py')}`", ""]
            lines += [f"- `` {sentence} ``" for sentence in dict.fromkeys(found)] + [""]
    return "\n".join(lines)


def sentences(path: Path) -> list[str]:
    """The texts of a module's `UserError`s, each value in them as an ellipsis."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "UserError" and node.args:
            text = " ".join(_text(node.args[0]).split())
            if re.search(r"\w{3}", text):
                found.append(text)
    return found


def _text(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(map(_text, values))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
    return "…"


def _yaml(value: object) -> str:
    import yaml

    return _cell(yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0])


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|")

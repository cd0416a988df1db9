# SPDX-License-Identifier: Apache-2.0
"""The pages against the program: commands and options exist, links lead somewhere, examples run, tables hold."""

from __future__ import annotations

import ast
import configparser
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil

import click
import forked
import pages
import pytest

import inception_tf
from inception_tf.arch import counting
from inception_tf.cli import COMMANDS, Commands
from inception_tf.models import find_network
from inception_tf.training.recipes import list_recipes, network_of, read_recipe
from inception_tf.weights.registry import RELEASES

LINES, QUICK_START = 150, 10
PROGRAM = Commands("inception-tf")
# Of other programs, in inline code.
OTHERS_OPTIONS = {
    *("--no-deps", "--no-index", "--find-links"),  # pip
    *("--model_config_file", "--model_config_file_poll_wait_seconds", "--rest_api_port"),
    *("--opt_out", "--allow_version_labels_for_unavailable_models"),
    *("--pretrained", "--num-classes", "--lr", "--img-size", "--checkpoint", "--data-dir"),  # timm
    *("--train-split", "--val-split", "--patience-epochs", "--model-ema", "--model-ema-decay"),
    *("--runner", "--flink_master", "--job_endpoint", "--environment_type", "--environment_config"),
}
WORDS = re.compile(r"(?<![\w-])(--[a-z][\w-]+)")


@pytest.fixture(scope="module")
def readme():
    return pages.page("README.md")


HISTORY = "CHANGELOG.md"  # names what was, too


def everywhere(get):
    """(page, what `get` finds in it) of all pages that tell what is."""
    return [
        (one.name, found) for one in pages.all_pages() if one.name != HISTORY for found in get(one)
    ]


def command_of(words):
    """The click command that a call names, and the words after its name; None where the call is no command's."""
    if words[0] not in COMMANDS:
        return None, words
    command, rest = PROGRAM.get_command(None, words[0]), words[1:]
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        # `benchmark forward|forward-backward` names several with the same options, `experiment NAME` all.
        any_of = min(command.commands) if rest[0].isupper() else rest[0].split("|")[0]
        command, rest = command.commands.get(any_of), rest[1:]
    return command, rest


def options_of(command):
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


def test_readme_is_short_and_has_the_two_commands_and_three_quick_starts(readme):
    assert len(readme.text.splitlines()) <= LINES
    before_quick_starts = readme.text.partition("## Quick starts")[0]
    assert "    scripts/run " in before_quick_starts
    assert "    scripts/test " in before_quick_starts
    starts = readme.blocks("bash")
    assert len(starts) == 3
    assert all(len(start.splitlines()) <= QUICK_START for start in starts)


def test_every_command_stands_in_the_pages_and_every_command_there_exists():
    named = {words[0] for _, words in everywhere(pages.Page.calls)}
    assert named == set(COMMANDS)


def test_every_option_of_a_command_in_the_pages_exists():
    for name, words in everywhere(pages.Page.calls):
        command, rest = command_of(words)
        assert command is not None, (name, words)
        own = rest[: rest.index("--")] if "--" in rest else rest
        for word in own:
            option, _, value = word.partition("=")
            if option.startswith("--") and option != "--help":
                assert option in options_of(command), (name, words)
        for option, value in itertools.pairwise(own):
            for one in command.params:
                if option in one.opts and isinstance(one.type, click.Choice) and value.islower():
                    chosen = value.split("|")
                    assert set(chosen) <= set(one.type.choices), (name, words)


def test_every_option_that_is_named_alone_is_one_of_some_command():
    known = OTHERS_OPTIONS | {"--help", "--debug", "--version", "--all"}
    for name in COMMANDS:
        command = PROGRAM.get_command(None, name)
        for one in [command, *getattr(command, "commands", {}).values()]:
            known |= options_of(one)
    scripts = [*pages.ROOT.glob("benchmarks/**/*.py"), *pages.ROOT.glob("examples/*.py")]
    scripts += [*pages.ROOT.glob("tests/**/*.py"), *pages.ROOT.glob("inception_tf/**/*.py")]
    known |= {
        word for path in scripts for word in re.findall(r'["/](--[a-z][\w-]+)', path.read_text())
    }
    told = [
        (name, word) for name, span in everywhere(pages.Page.spans) for word in WORDS.findall(span)
    ]
    assert not [(name, word) for name, word in told if word not in known and not _of_timm(name)]


def _of_timm(name):
    return name == "docs/photographs.md"  # compares with other trainers' words


def test_every_setting_that_the_pages_name_exists():
    recipe = read_recipe("default")
    keys = set(recipe.flat())
    lines = everywhere(lambda page: [*page.spans(), *page.shell_lines()])
    for name, line in lines:
        for setting in re.findall(r"--set ('[^']+'|[^\s,;]+)", line):
            key, _, value = setting.strip("'.").partition("=")
            if value and key in keys:
                recipe.override([f"{key}={value}"])
            else:  # switches of `convert`, and placeholders
                assert not key.islower() or "." not in key, (name, line)
    sections = "|".join(sorted({key.partition(".")[0] for key in keys}))
    for name, span in everywhere(pages.Page.spans):
        for key in re.findall(rf"(?<![\w./-])((?:{sections})\.[a-z]\w+)(?=[=:]|$)", span):
            if key.endswith(
                (".keras", ".json", ".py", ".yaml", ".config", ".csv", ".md", ".fit", ".npz")
            ):
                continue
            if key.startswith("model.") and key not in keys:  # a method of a Keras model
                continue
            assert key in keys, (name, span)


def test_every_link_leads_to_a_file_and_to_a_heading():
    for name, link in everywhere(pages.Page.links):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        page = pages.page(name)
        target = (page.folder / path).resolve() if path else pages.ROOT / name
        if name.startswith("docs/") and path.startswith("reference/"):
            continue  # made by scripts/site_pages.py; scripts/docs checks these links
        assert target.exists(), (name, link)
        if anchor and target.suffix == ".md":
            reached = pages.page(str(target.relative_to(pages.ROOT)))
            assert anchor in reached.anchors(), (name, link)


def test_every_picture_says_what_it_shows():
    for page in pages.all_pages():
        for words in re.findall(r"!\[([^\]]*)\]\(", page.text):
            assert words, page.name


def test_every_file_of_the_project_that_the_pages_name_exists():
    folders = "tests|docs|examples|benchmarks|scripts|inception_tf"
    for name, span in everywhere(pages.Page.spans):
        for path in re.findall(
            rf"(?<![\w./~-])((?:{folders})/[\w./-]+\.(?:py|md|yaml|npz|png))", span
        ):
            assert (pages.ROOT / path).exists(), (name, span)


def test_every_test_that_the_pages_name_exists():
    source = "".join(path.read_text("utf-8") for path in pages.ROOT.glob("tests/**/*.py"))
    tests = set(re.findall(r"^def (test_\w+)", source, re.M))
    files = {path.stem for path in pages.ROOT.glob("tests/**/test_*.py")}
    for name, span in everywhere(pages.Page.spans):
        for word in re.findall(r"\btest_\w+[a-z0-9]\b(?!\.\.|_)", span):
            assert word in tests | files, (name, span)


def test_every_python_name_of_this_package_in_the_pages_exists():
    dotted = r"\binception_tf((?:\.[A-Za-z_]\w*)+)"
    for page in pages.all_pages():
        if page.name == HISTORY:
            continue
        code = [*page.blocks("python"), *page.spans()]
        for line in code:
            for tail in re.findall(dotted, line):
                if not tail.endswith((".py", ".egg", ".weights")):
                    assert defined(tail[1:].split(".")), (page.name, tail)
        for block in page.blocks("python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("inception_tf"):
                    for alias in node.names:
                        path = [*str(node.module).split("."), alias.name][1:]
                        assert defined(path), (page.name, alias.name)


def defined(path):
    """Whether `inception_tf.` and these names is a module, or something that one defines."""
    module = pages.ROOT / "inception_tf"
    for place, part in enumerate(path):
        if (module / part).is_dir():
            module /= part
            continue
        if (module / f"{part}.py").is_file():
            module = module / f"{part}.py"
            continue
        file = module if module.suffix == ".py" else module / "__init__.py"
        return bool(re.search(rf"\b{part}\b", file.read_text("utf-8"))) and place >= len(path) - 2
    return True


def test_blocks_that_are_to_be_typed_into_python_compile():
    for page in pages.all_pages():
        for block in page.blocks("python"):
            compile(block, page.name, "exec")


def printed_by(page, number, **instead):
    """The Python example of that number, and what it prints with other numbers of epochs, say, than those printed."""
    example = pages.page(page).blocks("python")[number]
    changed = example
    for name, value in instead.items():
        changed, count = re.subn(rf"\b{name}=\d+", f"{name}={value}", changed)
        assert count == 1
    result = forked.run(["-c", changed], optimizers=False)
    assert result.returncode == 0, result.stderr
    return example, result.stdout


@pytest.mark.slow
def test_the_first_python_example_is_ten_lines_and_runs_as_printed():
    example, printed = printed_by("docs/get-started.md", 0, epochs=1)  # its four are a minute
    assert len(example.strip().splitlines()) <= 10
    assert "val_accuracy" in printed
    assert "(None, 2, 2, 1024)" in printed


@pytest.mark.slow
def test_the_quick_starts_run_as_printed(readme, test_data, tmp_path):
    """On forty photographs of two flowers, by a short network, with random weights in place of those of ImageNet."""
    photos = sorted((test_data / "flowers12" / "train").iterdir())[:2]
    for folder in photos:
        (tmp_path / "photos" / folder.name).mkdir(parents=True)
        for image in sorted(folder.iterdir())[:20]:
            shutil.copy(image, tmp_path / "photos" / folder.name)
    shutil.copy(
        next((test_data / "flowers12" / "test" / photos[0].name).iterdir()), tmp_path / "new.jpg"
    )
    cache = tmp_path / "cache"
    weights = "import inception_tf, short_networks; short_networks.shorten_all();"
    weights += "from inception_tf.weights.registry import find_release, release_folder;"
    weights += "folder = release_folder(find_release('inception_v3', 'imagenet')); folder.mkdir(parents=True);"
    weights += "inception_tf.InceptionV3().save_weights(folder / 'inception_v3.weights.h5')"
    variables = os.environ | {
        "PYTHONPATH": f"{pages.ROOT}{os.pathsep}{pages.ROOT / 'tests'}",
        "KERAS_HOME": str(cache),
    }

    def run(*words):
        child = forked.run(words, env=variables, cwd=tmp_path, optimizers=False)
        assert child.returncode == 0, (words, child.stderr)
        return child.stdout

    def run_line(line, *more):
        program, *words = shlex.split(line, comments=True)
        assert program == "inception-tf"
        return run(pages.ROOT / "tests" / "with_short_networks.py", *words, *more)

    run("-c", weights)
    tune, serve, time = readme.blocks("bash")
    tune = tune.replace("--epochs 10", "--epochs 5 --size 150")  # its ten at 299 are minutes
    for line in (tune + serve).strip().splitlines():
        run_line(line)
    # Two steps: its hundred are four minutes of one core.
    [line] = time.strip().splitlines()
    timed = run_line(line, "--steps", "2")
    assert (tmp_path / "mistakes.png").exists()
    assert (tmp_path / "heat" / "new.png").exists()
    assert re.search(r"Forward across 2 steps, [\d.]+ \+/- [\d.]+ sec / batch", timed)


@pytest.mark.slow
def test_the_indented_lines_of_keras_run(tmp_path):
    """Auxiliary classifiers with a loss and targets for each, as the page has them."""
    text = pages.page("docs/get-started.md").text
    [block] = [one for one in pages.INDENTED.findall(text) if "loss_weights" in one]
    before = "import inception_tf, numpy as np\n"
    before += "model = inception_tf.InceptionV3(classes=3, input_shape=(75, 75, 3), aux_logits=True, width_multiplier=0.1)\n"
    before += "images, one_hot_labels = np.zeros((4, 75, 75, 3)), np.eye(4, 3)\n"
    program = before + re.sub(r"^ {4}", "", block, flags=re.M)
    result = forked.run(["-c", program], optimizers=False)
    assert result.returncode == 0, result.stderr


def test_the_parts_of_train_can_be_used_as_printed():
    example, printed = printed_by("docs/training.md", 0)
    assert printed.strip() == example.splitlines()[-1].split("# ")[1]


def test_every_recipe_stands_in_its_page_with_its_network():
    text = pages.page("docs/training.md").text
    table = text.split("| recipe | what | network |")[1].split("\n\n")[0]
    told = {}
    for row in table.splitlines()[2:]:
        names, _, network = row.strip("| ").split(" | ")
        told |= dict.fromkeys(re.findall(r"`([^`]+)`", names), network.strip("`"))
    assert told == {name: network_of(name) or "any" for name in list_recipes()}


@pytest.mark.parametrize("name", inception_tf.list_models())
def test_the_table_of_networks_holds(readme, name):
    [row] = re.findall(rf"^\| `{name}` \|.*$", readme.text, re.M)
    costs = counting.layer_costs(find_network(name))
    assert f"{counting.total(costs, 'params'):,}" in row
    assert f"{counting.total(costs, 'multiply_adds') / 1e9:.2f} G" in row
    assert f"| {find_network(name).size} |" in row
    assert find_network(name).accuracy.split(" (")[0] in row
    releases = [release.name for release in RELEASES if release.network == name]
    assert re.findall(r"`([^`]+)`", row)[1:] == releases


def test_every_figure_beside_others_is_one_of_the_measured_tables(readme):
    measured = pages.page("docs/performance.md").text
    measured = measured.split("### Inception V3, batch 32")[1].split("\n###")[0]
    table = readme.text.split("## Beside others")[1].split("\n\n")[2]
    for row in table.splitlines()[2:]:
        assert row.removesuffix(" |") in measured, row


def test_the_tables_of_the_card_are_those_of_the_command(readme, monkeypatch):
    """`docs/results/h200.json` is the two commands' `accelerator.json`, with neither each step's time nor what was not run."""
    monkeypatch.syspath_prepend(str(pages.ROOT / "benchmarks"))
    from accelerator_parts.page import RENDER

    text = pages.page("docs/performance.md").text.split("### On an NVIDIA H200")[1]
    text = text.split("\n### ")[0]
    runs = json.loads((pages.ROOT / "docs/results/h200.json").read_text("utf-8"))["runs"]
    lines = set()
    for run in runs:
        assert run["command"] in re.sub(r" \\\n +", " ", text)
        assert run["device"] == "NVIDIA H200"
        assert "driver 580.159.04" in run["about"]
        for name, part in run["parts"].items():
            lines |= {line for line in RENDER[name](part["results"]) if line.startswith("|")}
    assert {line for line in text.splitlines() if line.startswith("|")} == lines
    [seconds] = re.findall(r"it takes ([\d.]+) s\]", readme.text)
    [report] = runs[0]["parts"]["report"]["results"]
    assert float(seconds) == round(report["timing"]["mean"], 4)


def test_the_errors_of_the_ensembles_are_those_of_the_experiment():
    found = json.loads((pages.ROOT / "docs/results/ensemble.json").read_text("utf-8"))
    text = pages.page("docs/ensemble.md").text
    assert found["command"] in text
    rows = text.split("| models | crops | ensembles |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == len(found["errors"]) == 12
    for row, error in zip(rows, found["errors"], strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        told = [float(part) for cell in cells[3:] for part in cell.split(" ± ")]
        expected = [error[f"top{k}_{what}"] for k in (1, 5) for what in ("error", "spread")]
        assert cells[:3] == [str(error[key]) for key in ("models", "crops", "ensembles")]
        assert told == pytest.approx([100 * x for x in expected if x], abs=0.006)


def test_the_table_of_the_variants_is_that_of_the_experiment():
    found = json.loads((pages.ROOT / "docs/results/bn-variants.json").read_text("utf-8"))
    text = pages.page("docs/bn-variants.md").text
    assert found["command"] in re.sub(r" \\\n +", " ", text)
    rows = text.split("| variant | learning rate |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(rows) == len(found["figure3"]) == 7
    for row, one in zip(rows, found["figure3"], strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        fewer = one["times_fewer_steps"]
        assert cells[0] == f"`{one['variant']}`"
        assert float(cells[1]) == one["learning_rate"]
        assert cells[2:4] == [
            str(one["steps_to_baseline_best"] or "–"),
            f"{fewer:.1f}" if fewer else "–",
        ]
        assert float(cells[4].rstrip(" %")) == pytest.approx(100 * one["best_accuracy"], abs=0.051)
        assert cells[5:7] == [str(one["best_step"]), one["outcome"]]


def test_fid_of_full_rank_and_in_lower_precisions_is_that_of_its_file():
    found = json.loads((pages.ROOT / "docs/results/fid-2048.json").read_text("utf-8"))
    text = pages.page("docs/fid.md").text
    exact, *lower = found["here"]
    tool = found["torch-fidelity"]["frechet_inception_distance"]
    assert f"| FID | {exact['fid']:.7f} | {tool:.7f} | {abs(exact['fid'] / tool - 1):.1e} |" in text
    for one in lower:
        error = one["precision_error"]
        told = abs(error["fid"] - error["fid_float32"]) / one["fid"]
        off = 100 * (one["fid"] / exact["fid"] - 1)
        assert f"{one['precision']} | {one['fid']:.5f} | {off:.1f} % | {told:.0%}" in text.replace(
            " % |\n", "% |\n"
        )


def test_the_figures_of_the_picture_are_those_of_its_run(readme):
    run = json.loads((pages.ROOT / "docs/results/flowers.json").read_text("utf-8"))
    assert {"command", "date", "environment", "machine"} < set(run)
    [told] = re.findall(
        r"epochs on (\d+) photographs .*: ([\d.]+) % of (\d+) others, in (\d+) min", readme.text
    )
    assert len(run["val_top1"]) == 5
    assert told == (
        str(run["images"]["train"] // run["classes"]),
        f"{100 * run['val_top1'][-1]:.1f}",
        str(run["images"]["test"] if "test" in run["images"] else run["images"]["validation"]),
        f"{run['seconds'] / 60:.0f}",
    )


def test_the_extras_of_the_install_table_are_those_of_the_package(readme):
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(pages.ROOT / "setup.cfg", "utf-8")
    extras = set(setup["options.extras_require"]) - {
        "dev",
        "docs",
        "kserve",
    }  # for this project's work
    table = readme.text.split("| extra | adds |")[1].split("\n\n")[0]
    assert (
        set(re.findall(r"`([^`]+)`", "".join(row.split(" | ")[0] for row in table.splitlines())))
        == extras
    )
    versions = [setup["metadata"]["classifiers"], "".join(pages.page("CITATION.cff").text)]
    assert "3.13" in versions[0]
    assert f"version: {inception_tf.__version__}\n" in versions[1]


def test_counts_of_damages_are_those_of_their_pages(readme):
    damages = pages.page("docs/verify.md").text.split("## Damages")[1]
    rows = len(re.findall(r"^\| (?!damage|---)", damages, re.M))
    assert f"{rows} damages of an export" in readme.text
    hostile = pages.page("docs/hostile-files.md").text
    rows = len(re.findall(r"^\| (?!format|---)[^|]+\|[^|]+\|[^|]+\|$", hostile, re.M))
    told = int(re.search(r"(\d+) damaged and hostile weights files", readme.text)[1])
    assert told <= rows < told + 60


def test_the_badges_are_true():
    spec = importlib.util.spec_from_file_location("badges", pages.ROOT / "scripts/badges.py")
    badges = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(badges)
    folder = pages.ROOT / "docs/badges"
    facts = badges.facts()
    assert {path.stem for path in folder.iterdir()} == set(facts)
    for name, fact in facts.items():
        assert (folder / f"{name}.svg").read_text("utf-8") == badges.badge(*fact)
    assert facts["python"][1] == facts["tests"][1].removeprefix("on ")


def test_the_changelog_names_the_version(root):
    assert f"## {inception_tf.__version__}" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_scripts_are_named_and_executable(root):
    for name in ("run", "test", "environment", "docs", "package"):
        assert (root / "scripts" / name).stat().st_mode & 0o111, name
    assert (root / ".ci/run").stat().st_mode & 0o111

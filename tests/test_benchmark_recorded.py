# SPDX-License-Identifier: Apache-2.0
"""What a benchmark printed, kept beside its command, and the tables of the pages beside what was kept."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pages
import pytest

RESULTS = pages.ROOT / "docs" / "results"
RECORDED = [path for path in sorted(RESULTS.glob("*.json")) if '"output"' in path.read_text()]


def recorded(*words):
    command = [sys.executable, pages.ROOT / "benchmarks/recorded.py", *words]
    return subprocess.run(command, capture_output=True, text=True)


def test_what_a_script_prints_is_kept_with_its_command_and_the_versions(tmp_path):
    child = recorded(tmp_path / "growth.json", "growth.py", "--help")
    assert child.returncode == 0, child.stderr
    found = json.loads((tmp_path / "growth.json").read_text("utf-8"))
    assert found["command"] == "python benchmarks/growth.py --help"
    assert {"date", "seconds", "environment", "machine"} < set(found)
    assert found["output"] == child.stdout.splitlines()
    assert found["output"][0].startswith("Usage: growth.py")


def test_a_command_is_kept_without_paths_of_the_machine(monkeypatch):
    monkeypatch.syspath_prepend(str(pages.ROOT / "benchmarks"))
    from recorded import shown

    words = [
        "/env/bin/python3",
        "folder:/data/flowers",
        "http://host/v1/x",
        "http://host:80/v1",
        "a",
    ]
    assert shown("fid.py", words) == (
        "python benchmarks/fid.py PYTHON folder:flowers http://host/v1/x http://host:80/v1 a"
    )


def test_of_a_training_its_scores_are_kept_instead(digits_run, tmp_path):
    file = tmp_path / "digits.json"
    child = recorded("--run", digits_run, file, "growth.py", "--help")
    assert child.returncode == 0, child.stderr
    found = json.loads(file.read_text("utf-8"))
    report = json.loads((digits_run / "report.json").read_text("utf-8"))
    assert "output" not in found
    assert found["images"] == report["images"]
    assert found["result"]["val_top1"] == report["result"]["val_top1"]
    assert len(found["val_top1"]) == report["epochs"]
    assert found["val_top1"][-1] == pytest.approx(report["last"]["val_top1"], abs=1e-4)


def test_of_a_report_what_is_long_is_not_kept(tmp_path):
    file, report = tmp_path / "kept.json", tmp_path / "report.json"
    report.write_text(json.dumps({"top1": 0.5, "classes": [{"name": "cat"}] * 1000}))
    child = recorded("--json", report, file, "growth.py", "--help")
    assert child.returncode == 0, child.stderr
    found = json.loads(file.read_text("utf-8"))
    assert found["top1"] == 0.5
    assert not {"classes", "output"} & set(found)


def test_what_is_printed_as_json_is_kept_as_such(tmp_path):
    file = tmp_path / "kept.json"
    child = recorded(file, "inception-tf", "recipes", "digits", "--json")
    assert child.returncode == 0, child.stderr
    found = json.loads(file.read_text("utf-8"))
    assert found["report"] == json.loads(child.stdout)
    assert "output" not in found


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("peers.py", "python benchmarks/peers.py --rounds 1"),
        ("tests/parity.py", "python tests/parity.py --rounds 1"),
        ("inception-tf", "inception-tf --rounds 1"),
    ],
)
def test_scripts_of_the_tests_are_recorded_too(program, command, monkeypatch):
    monkeypatch.syspath_prepend(str(pages.ROOT / "benchmarks"))
    from recorded import shown

    assert shown(program, ["--rounds", "1"]) == command


def test_a_script_that_fails_leaves_the_file_of_before(tmp_path):
    (tmp_path / "growth.json").write_text("before")
    assert recorded(tmp_path / "growth.json", "growth.py", "--nonsense").returncode == 2
    assert recorded(tmp_path / "growth.json", "nonsense.py").returncode == 2
    assert (tmp_path / "growth.json").read_text() == "before"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_no_path_of_the_machine_is_in_what_is_kept(path):
    assert re.findall(r"""(?:^|[\s"':=])/\w[^\s"']*""", path.read_text("utf-8")) == []


def table_of(output):
    """The rows of a recorded table: those of Markdown, or else from the head of `benchmark`'s table on, or all lines."""
    head = next((place for place, line in enumerate(output) if line.startswith("model  ")), 0)
    return [line for line in output if line.startswith("|")] or output[head:]


def joined(text):
    """A page's text with commands that go over several lines in one."""
    return re.sub(r" \\\n +", " ", text)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_row_of_a_recorded_table_is_on_the_page_that_names_it(path):
    found = json.loads(path.read_text("utf-8"))
    texts = [page.text for page in pages.all_pages() if f"results/{path.name}" in page.text]
    assert texts, f"no page names {path.name}"
    rows = table_of(found["output"])
    assert rows
    for text in texts:
        assert found["command"] in joined(text)
        assert {line.strip() for line in rows} <= {line.strip() for line in text.splitlines()}


# What a card found, test_docs.py compares with its file, and test_ways.py the page of ways.
ELSEWHERE = re.compile(r"accelerator\.py|write_page\.py")
COMMAND = re.compile(
    r"    ((?:[A-Z_]+=\S+ )*(?:python (?:benchmarks|tests)/|inception-tf benchmark ).*)"
)


def test_the_table_below_a_benchmarks_command_is_a_recorded_one():
    kept = {json.loads(path.read_text("utf-8"))["command"]: path.name for path in RECORDED}
    checked = 0
    for page in pages.all_pages():
        command = None
        for line in joined(page.text).splitlines():
            if call := COMMAND.fullmatch(line):
                command = call[1]
            elif line.startswith("#"):
                command = None
            elif command and line.startswith("| "):
                if not ELSEWHERE.search(command):
                    assert f"results/{kept.get(command)}" in page.text, (page.name, command)
                    checked += 1
                command = None
    assert checked > 3


def kept(name):
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def row(text, start):
    """The cells of the one row of a page that starts so, without it."""
    [line] = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip() for cell in line.removeprefix(f"| {start} |").strip("| ").split("|")]


@pytest.mark.parametrize(
    ("page", "name"), [("training", "flowers"), ("photographs", "photographs-v3")]
)
def test_accuracies_after_epochs_are_those_of_the_run(page, name):
    run, text = kept(name), pages.page(f"docs/{page}.md").text
    assert run["command"] in text
    assert f"results/{name}.json" in text
    told = row(text, "top-1 of 240 test images")
    assert told == [f"{100 * accuracy:.1f}%" for accuracy in run["val_top1"]]
    if page == "photographs":
        assert f"The weights of epoch {run['result']['epoch']}, the best, are kept" in text
        assert f"took {run['seconds'] / 60:.0f} minutes" in text


@pytest.mark.parametrize(
    ("name", "start"), [("scratch-cifar10", "CIFAR-10"), ("scratch-flowers", "flowers")]
)
def test_accuracies_from_random_weights_are_those_of_the_run(name, start):
    run, text = kept(name), pages.page("docs/training.md").text
    assert run["command"] in text
    assert f"results/{name}.json" in text
    [line] = [line for line in text.splitlines() if line.startswith(f"| {start}")]
    epochs = len(run["val_top1"])
    accuracies = [100 * run["val_top1"][epochs * part // 4 - 1] for part in (1, 2, 3, 4)]
    told = [f"{accuracy:.1f}%" for accuracy in accuracies]
    told[-1] += f" (top-5 {100 * run['result']['val_top5']:.1f}%)"
    assert " | ".join([*told, f"{run['seconds'] / 60:.0f} min"]) in line
    assert f"{epochs} epochs" in line


@pytest.mark.parametrize("crops", [1, 10, 144])
def test_errors_of_crops_are_those_of_the_evaluation(crops):
    found = kept(f"bvlc-{crops}")
    text = pages.page("docs/evaluation.md").text
    errors = [f"{100 * (1 - found[score]):.2f}" for score in ("top1", "top5")]
    assert row(text, f"googlenet | 224x224 | {crops} | 1") == [f"{error}%" for error in errors]
    assert f"results/bvlc-{crops}.json" in text
    assert found["command"].partition(" --crops")[0] in text


SEEDS = ("bn-mnist", "bn-mnist-seed-1", "bn-mnist-seed-2")
RATES = {"0.1": "bn-mnist-0.1", "0.3": "bn-mnist", "1": "bn-mnist-1", "3": "bn-mnist-3"}


def test_the_comparison_of_figure_1_is_that_of_its_runs():
    text = pages.page("docs/bn-mnist.md").text
    table = text.split("| the paper says |")[1].split("\n\n")[0]
    rows = [
        [cell.strip() for cell in line.strip("| ").split(" | ")][-2:]
        for line in table.splitlines()[2:]
    ]
    expected = []
    runs = [kept(name) for name in SEEDS]
    for level in ("0.90", "0.95", "0.97"):
        for run in runs:
            steps = [run["networks"][one]["steps_to_accuracy"][level] for one in run["networks"]]
            expected.append([f"{step:,}" for step in steps])
    for run in runs:
        expected.append([f"{step:,}" for step in run["steps_to_common_accuracy"].values()])
    for key, form in (("late_accuracy", "{:.2%}"), ("drift", "{:.1f}")):
        for run in runs:
            figures = [form.format(one[key]) for one in run["networks"].values()]
            expected.append([figure.replace("%", " %") for figure in figures])
    assert rows == expected
    assert all(f"results/{name}.json" in text for name in SEEDS)
    for way in ("without", "with"):
        seconds = [f"{run['seconds'][f'{way} BN']:.0f}" for run in runs]
        assert "{}, {} and {} s {}".format(*seconds, way) in text
    for number, run in enumerate(runs):
        assert run["setting"]["seed"] == number
        assert f"{100 * run['common_accuracy']:.2f}" in text


@pytest.mark.parametrize("rate", RATES)
def test_the_lead_at_each_learning_rate_is_that_of_its_run(rate):
    run, text = kept(RATES[rate]), pages.page("docs/bn-mnist.md").text
    assert run["setting"]["learning_rate"] == float(rate)
    lines = text.splitlines()
    [place] = [
        place for place, line in enumerate(lines) if line.startswith(f"| {rate} | without BN |")
    ]
    for line, one, common in zip(
        lines[place:],
        run["networks"].values(),
        run["steps_to_common_accuracy"].values(),
        strict=False,
    ):
        expected = [
            f"{one['steps_to_accuracy'][level]:,}"
            for level in ("0.80", "0.90", "0.95", "0.96", "0.97")
        ]
        told = [cell.strip() for cell in line.strip("| ").split(" | ")][-9:]
        assert told[:5] == expected
        assert told[5].split(" ")[0] == f"{common:,}"
        assert told[6:] == [
            f"{100 * one['late_accuracy']:.2f} %",
            f"{one['drift']:.1f}",
            f"{one['distance_from_end']:.2f}",
        ]


def test_fid_in_the_way_of_each_tool_is_that_of_the_command():
    text = pages.page("docs/fid.md").text
    names = [f"fid-why-{what}-{tap}" for what in ("test", "quality30") for tap in (64, 192)]
    ways = [kept(name)["report"]["tools"] for name in names]
    assert len(ways[0]) == 4
    for name in (names[0], names[2]):
        assert kept(name)["command"].removesuffix(" --json --no-cache") in text
    table = text.split("| tool | test images")[1].split("\n\n")[0]
    for tool in ways[0]:
        assert row(table, tool) == [f"{one[tool]['fid']:.6f}" for one in ways]
    assert all(f"results/{name}.json" in text for name in names)

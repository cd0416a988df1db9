# SPDX-License-Identifier: Apache-2.0
"""`inception-tf weights`, and weights of the Hub by the commands."""

from __future__ import annotations

import json

from inception_tf import cli
from inception_tf.weights.registry import RELEASES, release_folder


def test_every_release_is_listed_with_all_that_is_known_of_it(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    kept = next(one for one in RELEASES if one.source == "bvlc")
    release_folder(kept).mkdir(parents=True)
    (release_folder(kept) / kept.file).touch()
    assert cli.main(["weights", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["network"], row["name"]) for row in rows] == [
        (r.network, r.name) for r in RELEASES
    ]
    assert [row["name"] for row in rows if row["cached"]] == ["bvlc"]
    row = rows[[r.source for r in RELEASES].index("bvlc")]
    assert row == {
        "network": "googlenet",
        "name": "bvlc",
        "source": "bvlc",
        "license": "unrestricted",
        "size": 53_533_754,
        "top1": 68.7,
        "top5": 88.9,
        "address": kept.address,
        "checksum": kept.checksum,
        "path": str(tmp_path / "inception_tf" / "googlenet-bvlc" / "bvlc_googlenet.caffemodel"),
        "cached": True,
    }


def test_the_table_has_the_releases_of_one_network(capsys):
    assert cli.main(["weights", "--model", "inception_v4"]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["network", "name", "source", "license"]
    assert [line.split()[1] for line in lines] == ["slim_2016", "timm_tf"]


def test_a_network_that_is_unknown_is_refused(capsys):
    assert cli.main(["weights", "--model", "inception_v5"]) == 2
    assert "unknown network 'inception_v5'" in capsys.readouterr().err


def test_a_command_takes_an_address_of_the_hub(capsys, tmp_path):
    words = f"convert --model inception_v3 --source timm hf://owner/x {tmp_path}/out.weights.h5"
    assert cli.main(words.split()) == 2
    assert "'hf://owner/x' is no address of a file" in capsys.readouterr().err

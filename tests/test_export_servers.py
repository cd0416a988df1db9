# SPDX-License-Identifier: Apache-2.0
"""What Triton and OpenVINO Model Server read beside the versions: parsed by Triton's protos, the model run by ONNX Runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inception_tf import UserError, cli
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.export.runtime_folder import Description, open_description, write_description
from inception_tf.export.server_files import check_same_model, write_server_files

PARSE = """
import json, sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
text = open(sys.argv[1], encoding="utf-8").read()
print(json_format.MessageToJson(text_format.Parse(text, model_config_pb2.ModelConfig())))
"""
DESCRIBED = Description(("a b", "c"), Preprocessing(48))


def triton_config(folder: Path) -> dict:
    """`config.pbtxt` as Triton's own protos read it, in a process of its own."""
    pytest.importorskip("tritonclient")
    words = [sys.executable, "-c", PARSE, folder / "config.pbtxt"]
    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


@pytest.mark.parametrize(("format", "backend"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_tritons_config_has_the_model_its_labels_and_dynamic_batching(tmp_path, format, backend):
    write_server_files(tmp_path, "pets-2", "triton", format, DESCRIBED)
    found = triton_config(tmp_path)
    assert (found["name"], found["backend"]) == ("pets-2", backend)
    assert found["maxBatchSize"] == 32
    assert found["input"] == [
        {"name": "images", "dataType": "TYPE_FP32", "dims": ["48", "48", "3"]}
    ]
    assert found["output"] == [
        {
            "name": "probabilities",
            "dataType": "TYPE_FP32",
            "dims": ["2"],
            "labelFilename": "labels.txt",
        }
    ]
    assert found["dynamicBatching"] == {"maxQueueDelayMicroseconds": "2000"}
    assert found["versionPolicy"] == {"latest": {"numVersions": 1}}
    assert (tmp_path / "labels.txt").read_text() == "a b\nc\n"
    text = (tmp_path / "README.md").read_text()
    assert "target=/models/pets-2,readonly" in text
    assert "nvcr.io/nvidia/tritonserver:25." in text
    assert "predict grpc://localhost:8001/v2/models/pets-2 photo.jpg --export ." in text


def test_the_openvino_server_has_its_config_and_keeps_float32(tmp_path):
    write_server_files(tmp_path, "pets", "ovms", "openvino", DESCRIBED)
    [model] = json.loads((tmp_path / "config.json").read_text())["model_config_list"]
    assert model["config"] == {
        "name": "pets",
        "base_path": "/models/pets",
        "plugin_config": {"INFERENCE_PRECISION_HINT": "f32"},
    }
    text = (tmp_path / "README.md").read_text()
    assert "--config_path /models/pets/config.json" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json"]


def test_a_version_with_other_classes_is_refused_beside_tritons_config(tmp_path):
    to = tmp_path / "pets"
    (to / "1").mkdir(parents=True)
    write_description(to / "1", DESCRIBED.labels, DESCRIBED.preprocessing)
    write_server_files(to, "pets", "triton", "onnx", DESCRIBED)
    check_same_model(to, "triton", DESCRIBED)
    for other in (
        Description(("a b", "d"), Preprocessing(48)),
        Description(("a b", "c"), Preprocessing(49)),
    ):
        with pytest.raises(UserError, match=r"other classes or another size, and config\.pbtxt"):
            check_same_model(to, "triton", other)
    with pytest.raises(UserError, match="'my pets' would be the model's name"):
        check_same_model(tmp_path / "my pets", "ovms", DESCRIBED)


@pytest.mark.slow
@pytest.mark.parametrize("int8", [False, True])
def test_an_export_for_triton_runs_as_its_config_says(
    short_networks, digits_run, tmp_path, capfd, monkeypatch, int8
):
    monkeypatch.chdir(tmp_path)
    words = ["export", str(digits_run), "--format", "triton", "--images", "50"]
    assert cli.main([*words, *(["--int8"] if int8 else [])]) == 0, capfd.readouterr().err
    [folder] = (tmp_path / "saved_models").iterdir()
    assert folder.name.endswith("-triton-int8" if int8 else "-triton")
    config = triton_config(folder)
    assert config["name"] == folder.name
    images = np.random.default_rng(0).uniform(-1, 1, (3, 32, 32, 3)).astype(np.float32)
    if int8:
        import openvino

        run = openvino.compile_model(folder / "1" / "model.xml", "CPU")
        found = run(images)["probabilities"]
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            folder / "1" / "model.onnx", providers=["CPUExecutionProvider"]
        )
        (ours,), (theirs,) = session.get_inputs(), config["input"]
        assert (ours.name, ours.shape[1:]) == (theirs["name"], [int(n) for n in theirs["dims"]])
        assert ours.shape[0] == "N"
        (found,) = session.run([config["output"][0]["name"]], {theirs["name"]: images})
    assert found.shape == (3, int(config["output"][0]["dims"][0]))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-3)
    described = open_description(folder)
    assert described.labels == tuple((folder / "labels.txt").read_text().split())

    (folder / "config.pbtxt").write_text("# mine\n")
    assert cli.main([*words, *(["--int8"] if int8 else [])]) == 0
    assert (folder / "2").is_dir()
    assert (folder / "config.pbtxt").read_text() == "# mine\n"

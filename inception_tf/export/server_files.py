# SPDX-License-Identifier: Apache-2.0
"""Files beside the version folders for servers of the Open Inference Protocol: Triton's and OpenVINO Model Server's."""

from __future__ import annotations

import json
import re
from pathlib import Path

from inception_tf.data.labels import write_labels
from inception_tf.errors import UserError
from inception_tf.export.runtime_folder import (
    LABELS,
    Description,
    find_runtime_folder,
    open_description,
)
from inception_tf.host.environment import version_of
from inception_tf.inference.runtimes.graph import INPUT_NAME, OUTPUT_NAME

__all__ = [
    "OVMS_CONFIG_FILE",
    "SERVERS",
    "TRITON_CONFIG_FILE",
    "check_same_model",
    "triton_runtime",
    "write_server_files",
]

TRITON_CONFIG_FILE, OVMS_CONFIG_FILE, README_FILE = "config.pbtxt", "config.json", "README.md"
TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:25.04-py3"
OVMS_IMAGE = "openvino/model_server"  # its tags are OpenVINO's versions
MAX_BATCH = 32  # images, as `Client` sends
QUEUE_DELAY_US = 2_000  # that a request waits for others to run with
BACKENDS = {"onnx": "onnxruntime", "openvino": "openvino"}  # format → Triton's name
TRITON, OVMS = "triton", "ovms"
SERVERS = {TRITON: "Triton Inference Server", OVMS: "OpenVINO Model Server"}
NAME = re.compile(r"[\w.-]+")  # of a model, in addresses and in all three files

_TRITON = """\
name: "{name}"
backend: "{backend}"
max_batch_size: {batch}
input [
  {{ name: "{input}" data_type: TYPE_FP32 dims: [ {size}, {size}, 3 ] }}
]
output [
  {{ name: "{output}" data_type: TYPE_FP32 dims: [ {classes} ] label_filename: "{labels}" }}
]
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
# One instance on each GPU, without any one on the processor; KIND_CPU keeps to the processor.
instance_group [ {{ kind: KIND_AUTO count: 1 }} ]
# To keep an older version: version_policy {{ specific {{ versions: [ 1 ] }} }}
version_policy {{ latest {{ num_versions: 1 }} }}
"""

_README = """\
# {name}

An image classifier with {classes} classes for {server}.  Each numbered folder is one version.  In it, `labels.txt` lists
the classes in order, `preprocessing.json` says how an image becomes the input, and `report.json` compares its
predictions with the Keras model's.

## Serve

In this folder:

```sh
{docker}
```

## Predict

The model takes pixels, `{input}` FP32 [N, {size}, {size}, 3], and gives `{output}` FP32 [N, {classes}].  This client decodes and
prepares images and names the classes, by this folder:

```sh
inception-tf predict http://localhost:{http}/v2/models/{name} photo.jpg --export .
inception-tf predict grpc://localhost:{grpc}/v2/models/{name} photo.jpg --export .
```

The command line of the server was not run where this was written.  It has no authentication: put a proxy in front of it.
"""

_TRITON_DOCKER = """\
docker run --rm -p 8000:8000 -p 8001:8001 \\
  --mount type=bind,source="$PWD",target=/models/{name},readonly \\
  {image} tritonserver --model-repository=/models"""

_OVMS_DOCKER = """\
docker run --rm -p 8000:8000 -p 9000:9000 \\
  --mount type=bind,source="$PWD",target=/models/{name},readonly \\
  {image} --config_path /models/{name}/{config} --port 9000 --rest_port 8000"""


def triton_runtime(int8: bool) -> str:
    """Chooses the format of a model for Triton.

    Args:
        int8: Whether it is quantized, which ONNX is not here.

    Returns:
        A name in `runtimes.FORMATS`.
    """
    return "openvino" if int8 else "onnx"


def check_same_model(to: Path, server: str, new: Description) -> None:
    """Checks that a new version fits the server's configuration of all versions.

    Args:
        to: The folder of the versions.
        server: A name in `SERVERS`.
        new: The new version's labels and preprocessing.

    Raises:
        UserError: The name of the folder is no name of a model, or its versions have other labels or another size.
    """
    name = to.absolute().name
    if not NAME.fullmatch(name):
        raise UserError(
            f"'{name}' would be the model's name, which may have letters, digits, '.', '-' and '_'; give another folder with --to"
        )
    newest = find_runtime_folder(to) if to.is_dir() else None
    if server != TRITON or newest is None or not (to / TRITON_CONFIG_FILE).exists():
        return
    old = open_description(newest)
    if old.labels != new.labels or old.preprocessing.size != new.preprocessing.size:
        raise UserError(
            f"'{to}' holds versions with other classes or another size, and {TRITON_CONFIG_FILE} is of all versions;"
            " give another folder with --to"
        )


def write_server_files(folder: Path, name: str, server: str, format: str, of: Description) -> None:
    """Writes what a server reads beside the version folders, and a README.

    Args:
        folder: Where to write.
        name: The name under which the model is served.
        server: A name in `SERVERS`.
        format: The model's, a name in `runtimes.FORMATS`.
        of: The model's labels and preprocessing.
    """
    facts = {
        "name": name,
        "classes": len(of.labels),
        "size": of.preprocessing.size,
        "input": INPUT_NAME,
        "output": OUTPUT_NAME,
    }
    if server == TRITON:
        write_labels(folder / LABELS, of.labels)  # Triton's place for them is beside its config
        config = _TRITON.format(
            **facts,
            backend=BACKENDS[format],
            batch=MAX_BATCH,
            labels=LABELS,
            delay=QUEUE_DELAY_US,
        )
        (folder / TRITON_CONFIG_FILE).write_text(config, encoding="utf-8")
        docker, ports = _TRITON_DOCKER.format(name=name, image=TRITON_IMAGE), (8000, 8001)
    else:
        # By default it computes in bfloat16 where the processor has units for it.
        settings = {"plugin_config": {"INFERENCE_PRECISION_HINT": "f32"}}
        served = {"name": name, "base_path": f"/models/{name}"} | settings
        config = json.dumps({"model_config_list": [{"config": served}]}, indent=2)
        (folder / OVMS_CONFIG_FILE).write_text(config + "\n", encoding="utf-8")
        image = f"{OVMS_IMAGE}:{version_of('openvino')}"
        docker, ports = (
            _OVMS_DOCKER.format(name=name, image=image, config=OVMS_CONFIG_FILE),
            (8000, 9000),
        )
    text = _README.format(
        **facts, server=SERVERS[server], docker=docker, http=ports[0], grpc=ports[1]
    )
    (folder / README_FILE).write_text(text, encoding="utf-8")

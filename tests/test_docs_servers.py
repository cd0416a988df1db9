# SPDX-License-Identifier: Apache-2.0
"""The configurations of docs/servers.md, read by the servers' protos where they are at hand."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from inception_tf.export.model_readme import IMAGE
from inception_tf.export.server_files import TRITON_IMAGE
from inception_tf.serving.client.address import parse_address


@pytest.fixture(scope="module")
def text(root) -> str:
    return (root / "docs/servers.md").read_text("utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_the_servers_protos_read_the_model_configurations(text):
    configs = [
        text_format.Parse(block, model_server_config_pb2.ModelServerConfig())
        for block in blocks(text, "protobuf")
    ]
    several, back, canary = (config.model_config_list.config for config in configs)
    assert [one.name for one in several] == ["flowers", "digits"]
    assert list(back[0].model_version_policy.specific.versions) == [1]
    assert list(canary[0].model_version_policy.specific.versions) == [1, 2]
    assert dict(canary[0].version_labels) == {"stable": 1, "canary": 2}
    for one in (*several, *back, *canary):
        assert (one.base_path, one.model_platform) == (f"/models/{one.name}", "tensorflow")


def test_the_yaml_is_whole_and_its_names_fit_together(text):
    deployed, knative, triton = (list(yaml.safe_load_all(block)) for block in blocks(text, "yaml"))
    deployment, service, scaler = deployed
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": 8500, "rest": 8501}
    assert container["image"] == IMAGE
    assert container["readinessProbe"]["httpGet"] == {"path": "/v1/models/flowers", "port": "rest"}
    assert {port["targetPort"] for port in service["spec"]["ports"]} == set(ports)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    versions = [one["spec"]["predictor"]["model"]["runtimeVersion"] for one in (*knative, *triton)]
    assert versions == [image.rpartition(":")[2] for image in (IMAGE, TRITON_IMAGE)]


def test_the_json_is_whole_and_the_addresses_are_addresses(text):
    [config] = map(json.loads, blocks(text, "json"))
    assert [one["config"]["name"] for one in config["model_config_list"]] == [
        "flowers-openvino",
        "digits-openvino",
    ]
    addresses = re.findall(r"`((?:http|grpc)://host[^`]*)`", text)
    assert len(addresses) == 7
    for address in addresses:
        parse_address(address)


def test_images_of_servers_have_their_versions(root):
    places = ["README.md", "saved_models/README.md", *map(str, root.glob("docs/*.md"))]
    for place in places:
        found = re.findall(
            r"(?:tensorflow/serving|tritonserver|model_server)(?=[\s:`])(:\S+)?",
            (root / place).read_text("utf-8"),
        )
        assert all(found), place

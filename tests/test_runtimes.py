# SPDX-License-Identifier: Apache-2.0
"""Networks in the form of other runtimes: the same answers, from clean graphs, without a word or a request."""

from __future__ import annotations

import collections
import copy
import functools
import os
import sys

import forked
import keras
import numpy as np
import pytest
import ramps

from inception_tf import UserError, create_model
from inception_tf.host.silence import silence
from inception_tf.inference import runtimes
from inception_tf.inference.runtimes.graph import conversion_model
from inception_tf.inference.runtimes.openvino import EXACT, to_openvino

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = ("googlenet", "inception_v1", "inception_v2", "inception_v3", "inception_resnet_v2")

TOLERANCE = 1e-5
SIDE = 48
# Local response normalization and ceil pools, a separable stem, scaled residuals, the one with the most kinds of
# windows; what fails in one fails in the narrow one.
NETWORKS = {
    "googlenet": {"width_multiplier": 0.25},
    "inception_v2": {"width_multiplier": 0.25},
    "inception_v3": {"width_multiplier": 0.1, "input_shape": (75, 75, 3)},
    "inception_resnet_v2": {"width_multiplier": 0.1, "input_shape": (75, 75, 3)},
}
QUICK = {("openvino", "inception_v2"), ("openvino", "inception_v3")}
CASES = [
    pytest.param(
        *(format, name),
        marks=() if name == "googlenet" or (format, name) in QUICK else pytest.mark.slow,
    )
    for format in runtimes.FORMATS
    for name in NETWORKS
]


def network(name: str = "inception_v1", **arguments) -> keras.Model:
    small = {"classes": 5, "input_shape": (SIDE, SIDE, 3), "width_multiplier": 0.25}
    model = create_model(name, **small | arguments)
    ramps.fill(model)
    return model


def answers(model, images):
    return model(images, training=False).numpy()  # sooner than a graph for one call


def test_a_runtime_that_is_not_known_is_named_with_the_nearest():
    with pytest.raises(UserError, match="unknown format 'openvina'; .*; did you mean 'openvino'?"):
        runtimes.find_runtime("openvina")


@pytest.fixture(scope="module")
def converted(short_networks, tmp_path_factory):
    """A function of a format and one of `NETWORKS`: the network, and the folder that it was written to."""

    @functools.cache
    def write(format, name):
        model, folder = network(name, **NETWORKS[name]), tmp_path_factory.mktemp("converted")
        runtimes.find_runtime(format).write_model(model, folder)
        return model, folder

    return write


@pytest.mark.parametrize(("format", "name"), CASES)
def test_every_kind_of_network_answers_as_in_keras_at_any_batch_size(format, name, converted):
    runtime = runtimes.find_runtime(format)
    model, folder = converted(format, name)
    assert {file.name for file in folder.iterdir()} == set(runtime.FILES)
    run, images = runtime.load_model(folder), ramps.images(3, *model.input_shape[1:])
    expected = answers(model, images)
    assert np.ptp(expected) > 0.01
    first = run(images)
    np.testing.assert_allclose(run(images[1:2]), expected[1:2], rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(first, expected, rtol=0, atol=TOLERANCE)
    assert first.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("format", runtimes.FORMATS)
def test_a_network_of_16_bits_is_converted_from_a_float32_rebuild(format, tmp_path):
    model, rebuilt = network(dtype="mixed_bfloat16"), network()
    runtimes.find_runtime(format).write_model(model, tmp_path)
    images = ramps.images(2, SIDE, SIDE, 3)
    found = runtimes.find_runtime(format).load_model(tmp_path)(images)
    np.testing.assert_allclose(found, answers(rebuilt, images), rtol=0, atol=TOLERANCE)
    assert np.abs(found - answers(model, images)).max() > TOLERANCE


@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow), "bfloat16"],
)
def test_what_is_converted_computes_in_float32_and_has_no_batch_normalization(policy):
    for layer in conversion_model(network(dtype=policy)).layers:
        assert (layer.compute_dtype, layer.variable_dtype) == ("float32", "float32"), layer.name
        assert not isinstance(layer, keras.layers.BatchNormalization)


def test_openvino_has_one_transposition_and_its_own_response_normalization():
    import openvino

    model = network("googlenet")
    converted = to_openvino(model)
    operations = collections.Counter(node.get_type_name() for node in converted.get_ops())
    assert (operations["Transpose"], operations["LRN"]) == (1, 2)
    convolutions = [la for la in model.layers if isinstance(la, keras.layers.Conv2D)]
    assert operations["Convolution"] == len(convolutions)
    # Batch normalization would be Multiply and Add.
    assert (operations["Multiply"], operations["StridedSlice"]) == (0, 0)
    compiled = openvino.compile_model(converted, "CPU", EXACT)
    nodes = compiled.get_runtime_model().get_ops()
    kinds = collections.Counter(node.get_rt_info()["layerType"].astype(str) for node in nodes)
    assert kinds["Transpose"] == 1
    assert converted.input(0).partial_shape[0].is_dynamic
    assert [name for port in converted.outputs for name in port.names] == ["probabilities"]


def test_an_openvino_model_outlives_the_keras_model():
    import gc

    import openvino

    image = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 5, 2)(image))
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, "softmax")(x))
    ramps.fill(model)
    images = ramps.images(1, SIDE, SIDE, 3)
    expected, converted = answers(model, images), to_openvino(model)
    for weight in model.weights:
        weight.assign(keras.ops.zeros_like(weight))
    del model
    gc.collect()
    found = openvino.compile_model(converted, "CPU", EXACT)(images)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


def test_an_onnx_file_states_a_free_batch_and_an_opset(converted):
    import onnx

    model = onnx.load(converted("onnx", "googlenet")[1] / "model.onnx")
    (images,), (probabilities,) = model.graph.input, model.graph.output
    assert (images.name, probabilities.name) == ("images", "probabilities")
    assert [d.dim_param or d.dim_value for d in images.type.tensor_type.shape.dim] == [
        "N",
        SIDE,
        SIDE,
        3,
    ]
    assert probabilities.type.tensor_type.shape.dim[0].dim_param == "N"
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    assert sum(node.op_type == "Transpose" for node in model.graph.node) <= 2


# Every conversion in a process whose connections are refused and told; its stdout is ours alone.
SILENT = """
import pathlib, sys, tempfile
import keras
import numpy as np
from inception_tf.inference import runtimes

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        print("asked the network for", arguments)
        raise ConnectionError
sys.addaudithook(watch)

images = x = keras.Input((32, 32, 3))
for layer in (
    keras.layers.Conv2D(8, 3, 2, use_bias=False),
    keras.layers.BatchNormalization(),
    keras.layers.ReLU(),
    keras.layers.MaxPooling2D(),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(3, "softmax"),
):
    x = layer(x)
model = keras.Model(images, x)
images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype("float32")
for name in runtimes.FORMATS:
    runtime = runtimes.find_runtime(name)
    runtime.check_installed(bool(runtime.INT8))
    folder = pathlib.Path(tempfile.mkdtemp())
    runtime.write_model(model, folder, [images] if runtime.INT8 else None)
    assert runtime.load_model(folder)(images).shape == (4, 3)
assert "openvino_telemetry" not in sys.modules
print("done")
"""


def test_conversions_print_nothing_and_send_nothing(tmp_path):
    # Variables by which a test run is known, or that somebody has set against telemetry.
    known = ("CI", "NNCF_CI", "ORT_DISABLE_TELEMETRY", "PYTEST_VERSION")
    ours = {name: value for name, value in os.environ.items() if name not in known}
    result = forked.run(["-c", SILENT], env={**ours, "HOME": str(tmp_path)}, optimizers=False)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    # Where Intel's telemetry keeps who it is, and Microsoft's what it has yet to send.
    assert not (tmp_path / "intel").exists()
    assert not (tmp_path / ".cache" / "Microsoft").exists()


@pytest.mark.parametrize(
    ("format", "int8", "module", "package"),
    [
        ("openvino", False, "openvino", "openvino"),
        ("openvino", True, "nncf", "nncf"),
        ("onnx", False, "tf2onnx", "tf2onnx"),
        ("onnx", False, "onnxruntime", "onnxruntime"),
        ("litert", False, "ai_edge_litert.interpreter", "ai-edge-litert"),
        ("litert", True, "ai_edge_quantizer.quantizer", "ai-edge-quantizer"),
    ],
)
def test_a_missing_package_is_a_sentence_that_says_what_to_install(
    monkeypatch, format, int8, module, package
):
    monkeypatch.setitem(sys.modules, module, None)
    words = f"needs {package}: pip install 'inception_tf\\[{format}\\]'"
    with pytest.raises(UserError, match=words):
        runtimes.find_runtime(format).check_installed(int8)


def test_talk_is_kept_back_from_python_and_from_below(capfd):
    with silence():
        print("from Python")
        os.write(1, b"from C\n")
        os.write(2, b"from C too\n")
    print("after")
    assert capfd.readouterr() == ("after\n", "")


def test_talk_before_an_error_is_told(capfd):
    @silence()
    def fail():
        os.write(1, b"what went wrong\n")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert capfd.readouterr() == ("", "what went wrong\n")


@pytest.fixture
def few_layers():
    images = keras.Input((8, 8, 3), name="images")
    x = keras.layers.Conv2D(4, 3, activation="relu")(images)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D()(x))
    return keras.Model(images, keras.layers.Dense(2, activation="softmax")(x))


@pytest.mark.parametrize("fails", [False, True])
def test_onnx_copies_the_graph_only_where_an_optimization_fails(
    few_layers, fails, monkeypatch, tmp_path
):
    """tf2onnx would copy all weights before each of its optimizations, 8 GB for Inception V3."""
    optimizer = pytest.importorskip("tf2onnx.optimizer")
    copied, deep_copy = [], copy.deepcopy
    monkeypatch.setattr(
        copy, "deepcopy", lambda value, *memo: copied.append(value) or deep_copy(value, *memo)
    )
    if fails:
        monkeypatch.setattr(optimizer.TransposeOptimizer, "optimize", lambda *_: 1 / 0)
    runtime = runtimes.find_runtime("onnx")
    runtime.write_model(few_layers, tmp_path)
    assert any(type(value).__name__ == "Graph" for value in copied) == fails
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8, 3)).astype("float32")
    answers = runtime.load_model(tmp_path)(pixels)
    np.testing.assert_allclose(answers, few_layers(pixels), atol=1e-6)


TWO_MODELS = """
import gc, signal, keras
from inception_tf.inference.runtimes.openvino import compile_for_cpu

image = keras.Input((8, 8, 3))
model = keras.Model(image, keras.layers.Dense(2, "softmax")(keras.layers.Flatten()(image)))
first, second = (compile_for_cpu(model, None, "float32") for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_is_handled_after_the_older_of_two_openvino_models_was_freed_first():
    """OpenVINO leaves the thread a stack for signal handlers that it has unmapped."""
    pytest.importorskip("openvino")
    child = forked.run(["-c", TWO_MODELS], optimizers=False)
    assert (child.returncode, child.stdout.strip()) == (0, "handled"), child.stderr

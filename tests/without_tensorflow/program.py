# SPDX-License-Identifier: Apache-2.0
"""What has to work without TensorFlow, in one process: `program.py FOLDER [--short] NETWORK...` runs these networks forward.

With `--short` all networks have one module of each kind.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import ramps
import torch_file
from safetensors.numpy import load_file
from short_networks import shorten, shorten_all

import inception_tf
from inception_tf import cli
from inception_tf.host import devices, hardware
from inception_tf.models import find_network
from inception_tf.nn.network import build_model
from inception_tf.weights.names import bvlc, keras_applications

NEEDS = r"{} needs TensorFlow, which is not installed: pip install 'tensorflow>=2\.20,<2\.21'"


def small(name, **arguments):
    """A network of few channels and classes."""
    side = max(80, find_network(name).min_size)
    arguments = {"classes": 4, "input_shape": (side, side, 3), "width_multiplier": 0.1} | arguments
    return inception_tf.create_model(name, **arguments)


def filled(name, **arguments):
    """The same with weights by rule."""
    model = small(name, **arguments)
    ramps.fill(model)
    return model


def probabilities(model):
    shape = (1, *model.input_shape[1:])
    images = np.linspace(-1, 1, np.prod(shape), dtype="float32").reshape(shape)
    return keras.ops.convert_to_numpy(model(images))


def arrays_of(model) -> dict[str, np.ndarray]:
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def assert_loads(path, model, other):
    """Another network of the same arguments takes every variable from the file."""
    for weight in other.weights:
        weight.assign(np.zeros(weight.shape, "float32"))
    inception_tf.load_weights(other, path)
    expected, found = arrays_of(model), arrays_of(other)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6, err_msg=name)


def refusal(function) -> str:
    try:
        function()
    except inception_tf.UserError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def command(*words) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([str(word) for word in words])
    return code, out.getvalue(), err.getvalue()


def check_devices(folder):
    """A backend without support for GPUs has none, and gets no hint beside a GPU."""
    (folder / "dev").mkdir()
    (folder / "dev" / "nvidia0").touch()
    assert not hardware.sees_gpu()
    assert not hardware.uses_tf32()
    assert hardware.device_name().startswith("CPU")
    assert devices.missing_gpu_hint(folder / "dev") is None


def check_networks(forward):
    for name in inception_tf.list_models():
        if name not in forward:
            network = shorten(find_network(name))
            side = max(128, network.min_size)  # less deep, it may need more than published
            build_model(network, input_shape=(side, side, 3), classes=4, width_multiplier=0.1)
            continue
        model = filled(name)
        expected = probabilities(model)
        assert expected.shape == (1, 4)
        assert abs(expected.sum() - 1) < 1e-5
        optimized = inception_tf.optimize_for_inference(model)
        np.testing.assert_allclose(probabilities(optimized), expected, atol=1e-4)
    grid = inception_tf.endpoints(small("inception_v1"))["Mixed_5c"]
    assert grid.shape[1:3] == (3, 3)
    pixels = inception_tf.preprocess_input(np.array([0.0, 255.0]), model="inception_v1")
    assert pixels.tolist() == [-1, 1]


def check_weights(folder):
    model, other = filled("inception_v3"), small("inception_v3")
    for name in ("own.weights.h5", "own.keras"):
        (model.save_weights if name.endswith(".h5") else model.save)(folder / name)
        assert_loads(folder / name, model, other)
    write_keras_h5(folder / "inception_v3.h5", model)
    assert_loads(folder / "inception_v3.h5", model, other)
    model = filled("googlenet")
    names, arrays = bvlc.bvlc_names(find_network("googlenet")), arrays_of(model)
    np.savez(folder / "bvlc.npz", **{names[path]: array for path, array in arrays.items()})
    assert_loads(folder / "bvlc.npz", model, small("googlenet"))
    model = filled("inception_v1", torch_padding=True)
    other = small("inception_v1", torch_padding=True)
    state = torch_file.state_of(model, "inception_v1", torch_padding=True)
    torch_file.write(folder / "v1.safetensors", state)
    assert_loads(folder / "v1.safetensors", model, other)
    if importlib.util.find_spec("torch"):
        import torch

        torch.save({k: torch.tensor(array) for k, array in state.items()}, folder / "v1.pth")
        assert_loads(folder / "v1.pth", model, other)
    (folder / "v1.ckpt").touch()
    told = refusal(lambda: inception_tf.load_weights(model, folder / "v1.ckpt"))
    assert re.match(NEEDS.format(r"'.*v1\.ckpt', a TensorFlow 1 checkpoint,"), told), told
    told = refusal(lambda: inception_tf.InceptionV1(weights="imagenet"))
    assert "slim_2016" in told, told
    assert told.endswith("; or use weights='torchvision'"), told


def write_keras_h5(path, model):
    """A file as keras.applications publishes them, with the arrays of a small network of ours."""
    count = sum(isinstance(layer, keras.layers.Conv2D) for layer in model.layers)
    numbers = ["", *(f"_{number}" for number in range(1, count))]
    theirs = [
        f"{kind}{number}/x" for kind in ("conv2d", "batch_normalization") for number in numbers
    ]
    names = keras_applications.keras_names(
        find_network("inception_v3"), [*theirs, "predictions/kernel"]
    )
    layers = {}
    for ours, array in arrays_of(model).items():
        layer, variable = names[ours].split("/")
        layers.setdefault(layer, {})[f"{layer}/{variable}:0"] = array
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group[name] = array


def check_lists():
    code, out, _ = command("models")
    assert (code, "23,851,784" in out) == (0, True)
    code, out, _ = command("summary", "inception_v1")
    assert (code, "Mixed_3b" in out) == (0, True)
    code, out, _ = command("info")
    assert code == 0
    assert re.search(rf"^Keras' backend +{keras.backend.backend()}$", out, re.M), out
    assert re.search(r"^TensorFlow sees +(not installed|fails: ModuleNotFoundError)", out, re.M), (
        out
    )


def check_commands(folder):
    model = inception_tf.InceptionV1(classes=10, torch_padding=True)
    source, target = folder / "googlenet.safetensors", folder / "v1.weights.h5"
    torch_file.write(source, torch_file.state_of(model, "inception_v1", torch_padding=True))
    words = ("convert", "--model", "inception_v1", "--source")
    code, out, err = command(*words, "torchvision", source, target)
    assert code == 0, err
    converted = eval(re.search(r"use it: (.*)", out)[1], {"inception_tf": inception_tf})
    assert converted.output_shape == (None, 10)
    check_way_back(folder, source, target)
    code, _, err = command(*words, "slim", folder / "v1.ckpt", target)
    assert (code, "needs TensorFlow" in err) == (2, True), err
    labels = folder / "labels.txt"
    labels.write_text("".join(f"class {number}\n" for number in range(10)))
    # What is not there is refused before TensorFlow is asked for.
    exported, image = folder / "exported", folder / "image.png"
    exported.mkdir()
    for path in (exported / "saved_model.pb", image):
        path.touch()
    for words in (
        ("train", "--model", "inception_v1", "--data", "digits", "--out", folder / "run"),
        ("evaluate", folder, "--data", "digits"),
        ("export", target, "--model", "inception_v1", "--labels", labels, "--to", folder / "saved"),
        ("verify", exported),
        ("predict", exported, image),
        ("experiment", "bn-mnist", "--out", folder / "mnist"),
        ("benchmark", "data", "--data", "digits", "--model", "inception_v1"),
    ):
        code, out, err = command(*words)
        assert (code, out) == (2, ""), (words, err)
        assert re.fullmatch(f"inception-tf: {NEEDS.format(words[0])}\n", err), (words, err)


def check_way_back(folder, source, target):
    """`convert --to` of a converted file, in each kind of file that needs no TensorFlow."""
    words = ("convert", "--model", "inception_v1", "--to")
    before, back = load_file(source), folder / "back.safetensors"
    code, _, err = command(*words, "torchvision", target, back)
    assert code == 0, err
    after = load_file(back)
    assert all(np.array_equal(after[name], array) for name, array in before.items())
    pickle = folder / "back.pth"
    code, _, err = command(*words, "torchvision", target, pickle)
    if importlib.util.find_spec("torch"):
        import torch

        state = torch.load(pickle, weights_only=True)
        assert state.keys() == after.keys()
        assert all(np.array_equal(state[name], array) for name, array in after.items())
    else:
        assert (code, "is to be a pickle of torch, which is not installed" in err) == (2, True), err
        assert not pickle.exists()
    code, _, err = command(*words, "slim", target, folder / "back.ckpt")
    assert (code, "torch_padding=False" in err) == (2, True), err


if __name__ == "__main__":
    _, folder, *forward = sys.argv
    check_lists()
    if "--short" in forward:
        shorten_all(shorten=shorten)
    if keras.backend.backend() == "openvino":
        check_devices(Path(folder))
    check_networks(forward)
    check_weights(Path(folder))
    check_commands(Path(folder))
    assert "tensorflow" not in sys.modules

# SPDX-License-Identifier: Apache-2.0
"""The network of 2015 that FID is computed with: recognized from torch's copies and from the frozen graph."""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import ramps
import sklearn
import tensorflow as tf
from graph_2015 import graph_2015
from torch_file import state_of, write

import inception_tf
from inception_tf.data.decoding import transforms
from inception_tf.data.preprocessing import Preprocessing
from inception_tf.models import find_network, variant
from inception_tf.weights.convert import convert, read_foreign_weights
from inception_tf.weights.formats.frozen_graph import read_frozen_graph
from inception_tf.weights.formats.stored import EVERYTHING
from inception_tf.weights.names.graph import graph_names, weights_of
from inception_tf.weights.names.torch import torch_names
from inception_tf.weights.registry import find_release

HERE = Path(__file__).parent
SIDE = 75
PREPROCESSING = find_release("inception_v3", "fid_2015").preprocessing


def network(**arguments) -> keras.Model:
    """A narrow one, filled by the rule."""
    arguments = {"classes": 1008, "last_pool": "max", "width_multiplier": 0.1} | arguments
    shape = (SIDE, SIDE, 3)
    made = inception_tf.InceptionV3(input_shape=shape, classifier_activation=None, **arguments)
    ramps.fill(made)
    return made


@pytest.fixture(scope="module")
def model():
    return network()


@pytest.fixture(scope="module")
def state(model):
    return state_of(model, "inception_v3", last_pool="max")


@pytest.fixture
def narrow(monkeypatch):
    """`build_model` at the width of the file."""
    from inception_tf.weights import convert as module

    build = module.build_model
    monkeypatch.setattr(
        module,
        "build_model",
        lambda table, **options: build(
            table, width_multiplier=0.1, input_shape=(SIDE, SIDE, 3), **options
        ),
    )


def saved(folder: Path, state: dict[str, np.ndarray], name: str = "file.safetensors") -> Path:
    write(folder / name, state)
    return folder / name


def switches_of(path: Path, source: str = "torchvision", **given) -> dict:
    return read_foreign_weights("inception_v3", source, path, switches=given).switches


# torch's copies


@pytest.mark.parametrize("source", ["torchvision", "timm"])
def test_1008_classes_are_the_network_of_2015_whatever_the_project(state, tmp_path, narrow, source):
    done = convert("inception_v3", source, saved(tmp_path, state))
    assert done.switches == {"last_pool": "max", "batch_norm_scale": True}
    assert done.preprocessing == PREPROCESSING
    assert done.why == "identified by its network as release 'fid_2015'"
    assert (PREPROCESSING.size, PREPROCESSING.rule) == (299, "whole image")


def test_other_classes_and_an_auxiliary_classifier_are_torchs_network(state, tmp_path):
    fewer = state | {"fc.weight": state["fc.weight"][:12], "fc.bias": state["fc.bias"][:12]}
    theirs = {"count_padding": True, "batch_norm_scale": True}
    assert switches_of(saved(tmp_path, fewer)) == theirs
    auxiliary = {k: a for k, a in state.items() if not k.startswith("fc.")}
    auxiliary["AuxLogits.fc.bias"] = np.zeros(3, np.float32)
    assert switches_of(saved(tmp_path, auxiliary)) == theirs


def test_where_nothing_tells_the_sentence_names_the_choices_and_takes_one(state, tmp_path):
    path = saved(tmp_path, {k: a for k, a in state.items() if not k.startswith("fc.")})
    with pytest.raises(
        inception_tf.UserError,
        match=r"fits several variants of inception_v3.*say --set count_padding=true or --set last_pool=max",
    ):
        switches_of(path)
    assert switches_of(path, last_pool="max")["last_pool"] == "max"
    assert "count_padding" not in switches_of(path, last_pool="max")
    assert switches_of(path, count_padding=True)["count_padding"] is True


def test_a_model_with_other_pools_is_told(state, tmp_path, model):
    path = saved(tmp_path, state)
    assert inception_tf.load_weights(model, path).notes == ("94 gammas omitted, all of them 1",)
    other = network(last_pool="avg", count_padding=True)
    notes = inception_tf.load_weights(other, path).notes
    assert (
        "the pools of the file's network differ from this model's; create it with last_pool='max'"
        in notes
    )


# The frozen graph


@pytest.fixture(scope="module", params=[True, False], ids=["flat", "nested"])
def graph(request, model, tmp_path_factory):
    path = tmp_path_factory.mktemp("graph") / "classify_image_graph_def.pb"
    path.write_bytes(graph_2015(model, SIDE, flat=request.param).SerializeToString())
    return path


def test_every_weight_is_found_by_the_structure_of_the_graph(graph, model):
    arrays = weights_of(read_frozen_graph(str(graph), EVERYTHING, 10**9))
    names = graph_names(variant("inception_v3", last_pool="max"), arrays)
    assert names.keys() == {weight.path for weight in model.weights}
    assert names["Mixed_7b_b2_2_b1_0_conv/kernel"] == "mixed_9/tower_1/mixed/conv_1/conv2d_params"
    for weight in model.weights:
        np.testing.assert_array_equal(weight.numpy(), arrays[names[weight.path]])
    # Another pool in the last block is another network.
    assert len(graph_names(find_network("inception_v3"), arrays)) < len(names)


def test_the_converted_graph_computes_what_tensorflow_does(graph, model, narrow):
    done = convert("inception_v3", "graph", graph)
    assert done.switches == {"last_pool": "max"}
    assert done.preprocessing == PREPROCESSING
    assert done.report.notes == ("found by the structure of the graph, not by names",)
    assert (len(done.report.used), done.report.unused) == (378, ())
    pixels = ramps.images(1, SIDE, SIDE, 3)
    definition = tf.compat.v1.GraphDef.FromString(graph.read_bytes())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.import_graph_def(definition, name="")
        pool, softmax = session.run(["pool_3:0", "softmax:0"], {"images:0": pixels})
    ends = inception_tf.endpoints(done.model)
    found = keras.Model(done.model.input, [ends["global_pool"], ends["Predictions"]])(pixels)
    np.testing.assert_allclose(found[0], pool[:, 0, 0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], softmax, rtol=1e-4)


@pytest.mark.parametrize("kept", [0, 20, 0.5, 0.999])
def test_a_truncated_graph_is_refused(graph, tmp_path, kept):
    whole = graph.read_bytes()
    path = tmp_path / "cut.pb"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(inception_tf.UserError, match=r"is damaged|has no constants|is empty|lacks"):
        convert("inception_v3", "graph", path)


# The whole network against torch-fidelity's and pytorch-fid's: fid/record.py


@pytest.mark.slow
def test_features_are_those_of_torch_fidelity(tmp_path):
    sys.path[:0] = [str(HERE / "fid"), str(HERE / "views")]
    from photographs import photographs
    from weights import state_dict

    recorded = np.load(HERE / "fid/features.npz")
    table = variant("inception_v3", last_pool="max", batch_norm_scale=True)
    made = inception_tf.InceptionV3(classes=1008, last_pool="max", batch_norm_scale=True)
    names, shapes = torch_names(table), {}
    for weight in made.weights:
        order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(len(weight.shape), (0,))
        shapes[names[weight.path]] = tuple(weight.shape[axis] for axis in order)
    done = convert("inception_v3", "timm", saved(tmp_path, state_dict(shapes)))
    photograph = photographs(Path(sklearn.__file__).parent / "datasets/images")["landscape"]
    pixels = transforms.apply_steps(transforms.evaluation_steps(done.preprocessing), photograph)[
        None
    ]
    ends = inception_tf.endpoints(done.model)
    taps = {"64": "MaxPool_3a_3x3", "192": "MaxPool_5a_3x3", "768": "Mixed_6e"}
    taps |= {"2048": "Mixed_7c", "logits": "Logits"}
    outputs = keras.Model(done.model.input, {k: ends[v] for k, v in taps.items()})(pixels)
    for tap, output in outputs.items():
        output = np.asarray(output)[0]
        found = output.mean((0, 1)) if output.ndim == 3 else output
        expected = recorded[tap]
        np.testing.assert_allclose(found, expected, atol=2e-5 * abs(expected).max(), err_msg=tap)
    np.testing.assert_array_equal(recorded["2048"], recorded["2048 of pytorch-fid"])


def test_the_preprocessing_is_that_of_the_graph():
    assert Preprocessing(299, None, "fid", half_pixel_centers=False) == PREPROCESSING
    gray = np.full((20, 30, 3), 128, np.uint8)
    assert np.all(transforms.apply_steps(transforms.evaluation_steps(PREPROCESSING), gray) == 0)

# SPDX-License-Identifier: Apache-2.0
"""`inception-tf convert`, and the ways to load a file that does not fit in one of its ends."""

from __future__ import annotations

import os
import pickle
import re
import shutil

import numpy as np
import pytest
import ramps
import tensorflow as tf
import torch_file

import inception_tf
from inception_tf import cli
from inception_tf.models import find_network
from inception_tf.weights.metadata import read_metadata
from inception_tf.weights.names import slim
from inception_tf.weights.registry import find_release
from inception_tf.weights.release_of_file import identify_release

pytestmark = pytest.mark.usefixtures("short_networks")
SHORTENED = ("inception_v1", "inception_v2", "inception_v3", "inception_resnet_v1")

BATCH_NORM = ("beta", "moving_mean", "moving_variance")
AVERAGE = "/ExponentialMovingAverage"
BVLC = "weights/googlenet_bvlc_imagenet_f16_hwio.npz"


def slim_checkpoint(path, network, classes, **extra):
    """A checkpoint with slim's names and shapes by a fixed rule, and the moving averages of a trainer."""
    has_auxiliary = bool(find_network(network).auxiliaries)
    model = inception_tf.create_model(network, classes=classes, aux_logits=has_auxiliary)
    arrays = dict(extra)
    for path_, theirs in slim.slim_names(find_network(network)).items():
        shape = tuple(next(w.shape for w in model.weights if w.path == path_))
        array = ramps.weight(path_, shape)
        arrays[theirs] = array[None, None] if len(shape) == 2 else array
        arrays[f"{theirs}{AVERAGE}"] = arrays[theirs] + 1
    save(path, arrays)
    return arrays


def save(path, arrays):
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=list(arrays.values()),
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """slim's Inception V1 with its 1,001 classes."""
    path = tmp_path_factory.mktemp("slim") / "inception_v1.ckpt"
    return path, slim_checkpoint(path, "inception_v1", 1001)


@pytest.fixture
def call(capfd):
    def run(*words):
        code = cli.main(["convert", *(str(word) for word in words)])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def test_output_says_how_to_build_the_model_and_that_line_runs(call, checkpoint, tmp_path):
    target = tmp_path / "v1.weights.h5"
    code, out, err = call("--model", "inception_v1", "--source", "slim", checkpoint[0], target)
    assert (code, err) == (0, "")
    count = len(checkpoint[1]) // 2  # each has an average
    assert f"{count} arrays read, {count} used; {count} of the training state skipped (" in out
    assert "read the raw weights, not the moving averages (ema).\n" in out
    line = re.search(r"use it: (.*)", out)[1]
    assert line == (
        f"inception_tf.create_model('inception_v1', classes=1001, weights={str(target)!r})"
    )
    model = eval(line, {"inception_tf": inception_tf})
    theirs = checkpoint[1]["InceptionV1/Mixed_5c/Branch_2/Conv2d_0b_3x3/weights"]
    np.testing.assert_array_equal(model.get_layer("Mixed_5c_b2_1_conv").kernel, theirs)
    assert read_metadata(target).preprocessing.size == 224
    assert os.listdir(tmp_path) == [target.name]


def test_background_class_is_dropped_when_asked(call, checkpoint, tmp_path):
    target = tmp_path / "v1.weights.h5"
    words = ("--model", "inception_v1", "--source", "slim", "--drop-background")
    code, out, _ = call(*words, checkpoint[0], target)
    assert code == 0
    assert "classes=1000" in out
    assert "first class of 1001 dropped" in out
    model = inception_tf.InceptionV1(weights=str(target))
    bias = checkpoint[1]["InceptionV1/Logits/Conv2d_0c_1x1/biases"]
    np.testing.assert_array_equal(model.get_layer("Logits").bias, bias[1:])


def test_weights_of_the_paper_state_their_preprocessing(call, test_data, tmp_path):
    target = tmp_path / "googlenet.weights.h5"
    code, out, err = call("--model", "googlenet", "--source", "bvlc", test_data / BVLC, target)
    assert (code, err) == (0, "")
    assert (
        "images: 224x224, both sides 256, center crop, bilinear, scale 'caffe' (assumed to be 'bvlc', the default release of 'bvlc')"
        in out
    )
    model = inception_tf.GoogLeNet(weights=str(target))
    theirs = np.load(test_data / BVLC)["inception_5b/pool_proj/kernel"]
    np.testing.assert_array_equal(model.get_layer("Mixed_5c_b3_1_conv").kernel, theirs)


@pytest.mark.slow
def test_auxiliary_classifier_of_the_file_is_kept(call, tmp_path):
    slim_checkpoint(tmp_path / "inception_v3.ckpt", "inception_v3", 1001)
    target = tmp_path / "v3.weights.h5"
    words = ("--model", "inception_v3", "--source", "slim", tmp_path / "inception_v3.ckpt", target)
    code, out, _ = call(*words)
    assert code == 0
    assert "classes=1001, aux_logits=True" in out


def test_moving_averages_are_taken_when_asked(call, checkpoint, tmp_path):
    target = tmp_path / "v1.weights.h5"
    words = ("--model", "inception_v1", "--source", "slim", "--ema")
    code, out, _ = call(*words, checkpoint[0], target)
    assert code == 0
    assert "read the moving averages, not the raw weights" in out
    model = inception_tf.InceptionV1(classes=1001, weights=str(target))
    for name in ("weights", "BatchNorm/beta", "BatchNorm/moving_variance"):
        average = checkpoint[1][f"InceptionV1/Conv2d_1a_7x7/{name}{AVERAGE}"]
        layer = {"weights": "conv/kernel"}.get(name, name.replace("BatchNorm", "bn"))
        ours = next(w for w in model.weights if w.path == f"Conv2d_1a_7x7_{layer}")
        np.testing.assert_array_equal(ours, average)


def test_body_alone_is_taken_when_asked(call, checkpoint, tmp_path):
    target = tmp_path / "v1.weights.h5"
    words = ("--model", "inception_v1", "--source", "slim", "--skip-head")
    code, out, _ = call(*words, checkpoint[0], target)
    assert code == 0
    used = len(checkpoint[1]) // 2 - 2
    assert f"{used} used; 2 unused (InceptionV1/Logits/Conv2d_0c_1x1/" in out
    assert "create_model('inception_v1', include_top=False, weights=" in out
    report = inception_tf.load_weights(inception_tf.InceptionV1(include_top=False), target)
    assert len(report.used) == used


def test_variant_that_the_file_is_of_is_found(call, tmp_path):
    # All of the paper's layers are layers of facenet's network, which has more.
    path, target = tmp_path / "paper.ckpt", tmp_path / "paper.weights.h5"
    model = inception_tf.InceptionResNetV1(include_top=False, paper=True)
    names = slim.slim_names(find_network("inception_resnet_v1"))
    save(path, {names[weight.path]: weight.numpy() for weight in model.weights})
    code, out, _ = call("--model", "inception_resnet_v1", "--source", "slim", path, target)
    assert code == 0
    assert "paper=True" in out


# Which preprocessing belongs to a file


@pytest.fixture
def taken(tmp_path):
    """The preprocessing that a file of that name would be given, and what says so, without its weights."""

    def run(network, source, name, release=None):
        chosen, why = identify_release(network, source, str(tmp_path / name), release)
        return chosen and chosen.preprocessing, why

    return run


def test_name_of_a_releases_file_decides(taken):
    preprocessing, why = taken("inception_v3", "torchvision", "inception_v3_google-0cc3c7bd.pth")
    assert preprocessing == find_release("inception_v3", "torchvision").preprocessing
    assert why == "identified by its name as release 'torchvision'"


def test_name_of_the_file_inside_a_releases_archive_decides(taken):
    preprocessing, why = taken("vgg16", "slim", "vgg_16.ckpt")
    assert (preprocessing.scale, why) == ("vgg", "identified by its name as release 'slim_2016'")


def test_usual_release_is_taken_where_the_name_says_nothing_and_others_are_named(taken):
    # All of timm's files have one name.
    preprocessing, why = taken("inception_v3", "timm", "model.safetensors")
    assert preprocessing.scale == "unit"
    assert why == (
        "assumed to be 'timm_tf', the default release of 'timm'; otherwise --release 'timm_gluon'"
    )


def test_release_that_is_named_decides(taken):
    preprocessing, why = taken(
        "inception_v3", "timm", "model.safetensors", find_release("inception_v3", "timm_gluon")
    )
    assert (preprocessing.scale, why) == ("torch", "as release 'timm_gluon' expects them")


def test_network_without_a_release_says_so(taken):
    assert taken("alexnet", "slim", "model.ckpt-9") == (
        None,
        "no release of alexnet by 'slim' is known",
    )


def test_release_reaches_the_file_that_is_written(call, tmp_path):
    source, target = tmp_path / "model.safetensors", tmp_path / "v3.weights.h5"
    model = inception_tf.InceptionV3(count_padding=True)
    torch_file.write(source, torch_file.state_of(model, "inception_v3", count_padding=True))
    words = ("--model", "inception_v3", "--source", "timm")
    code, out, _ = call(*words, "--release", "timm_gluon", source, target)
    assert code == 0
    assert (
        "images: 299x299, shorter side 341, center crop, bicubic, antialiased, scale 'torch'"
        " (as release 'timm_gluon' expects them)\n" in out
    )
    assert (
        read_metadata(target).preprocessing
        == find_release("inception_v3", "timm_gluon").preprocessing
    )


# Refusals: exit code 2, one sentence, nothing written


@pytest.fixture
def refused(call, tmp_path):
    """Calls the command and returns its sentence, having seen that nothing was written."""

    def run(network, source, path, target="x.weights.h5", *words):
        code, out, err = call(
            "--model", network, "--source", source, *words, path, tmp_path / target
        )
        assert (code, out) == (2, "")
        assert not [name for name in os.listdir(tmp_path) if "weights.h5" in name]
        assert len(err.splitlines()) == 1
        return err

    return run


def test_one_missing_variable_fails_it(refused, checkpoint, tmp_path):
    gone = "InceptionV1/Conv2d_2b_1x1/BatchNorm/beta"
    save(tmp_path / "less.ckpt", {k: v for k, v in checkpoint[1].items() if not k.startswith(gone)})
    sentence = refused("inception_v1", "slim", tmp_path / "less.ckpt")
    assert (
        "the file lacks 1 of the model's variables (Conv2d_2b_1x1_bn/beta); nothing was loaded"
        in sentence
    )


def test_another_architecture_is_refused(refused, checkpoint):
    sentence = refused("inception_v2", "slim", checkpoint[0])
    assert "is a file of inception_v1, and the model 'inception_v2' is inception_v2" in sentence


def test_checkpoint_folder_is_refused_with_a_checkpoint_in_it(refused, checkpoint):
    sentence = refused("inception_v1", "slim", checkpoint[0].parent)
    assert f"is a folder; give one checkpoint in it, such as '{checkpoint[0]}'" in sentence


@pytest.mark.parametrize(
    ("source", "name"),
    [("slim", "a.ckpt"), ("timm", "a.pth"), ("bvlc", "a.npz"), ("keras", "a.h5")],
)
def test_git_lfs_pointer_is_refused(refused, tmp_path, source, name):
    (tmp_path / name).write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 28000000\n"
    )
    network = "googlenet" if source == "bvlc" else "inception_v3"
    sentence = refused(network, source, tmp_path / name)
    assert "is a Git LFS pointer, not the file itself; fetch the file with git lfs pull" in sentence


def test_folder_with_a_released_checkpoint_names_it(refused, tmp_path):
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "inception_v1.ckpt").write_bytes(b"any")
    sentence = refused("inception_v1", "slim", folder)
    assert f"give one checkpoint in it, such as '{folder / 'inception_v1.ckpt'}'" in sentence


@pytest.mark.parametrize("part", ["index", "data-00000-of-00001", "meta"])
def test_part_of_a_checkpoint_is_refused(refused, checkpoint, part):
    sentence = refused("inception_v1", "slim", f"{checkpoint[0]}.{part}")
    assert "give its name without .index or .data-00000-of-00001" in sentence


def test_other_number_of_classes_is_refused(refused, checkpoint):
    sentence = refused("inception_v1", "slim", checkpoint[0], "x.weights.h5", "--classes", "1000")
    assert (
        "has 1001 classes in the file and 1000 in the model; create the model with classes=1001, or"
        " load with drop_background=True (--drop-background) to skip the first of them" in sentence
    )


def test_unknown_release_is_refused_with_the_known(refused, checkpoint):
    sentence = refused(
        "inception_v1", "slim", checkpoint[0], "x.weights.h5", "--release", "slim_2015"
    )
    assert (
        "unknown weights of inception_v1 'slim_2015'; known: imagenet, slim_2016, torchvision; did you"
        " mean 'slim_2016'?" in sentence
    )


def test_release_of_another_project_is_refused(refused, checkpoint):
    sentence = refused(
        "inception_v1", "slim", checkpoint[0], "x.weights.h5", "--release", "torchvision"
    )
    assert (
        "release 'torchvision' of inception_v1 is a file of 'torchvision', not of 'slim'; give the"
        " source and the release of one project" in sentence
    )


def test_moving_averages_of_another_source_are_refused(refused, test_data):
    sentence = refused("googlenet", "bvlc", test_data / BVLC, "x.weights.h5", "--ema")
    assert (
        "only checkpoints of slim, torchvision, timm have moving averages beside the weights"
        in sentence
    )


def test_classes_of_a_file_without_its_head_are_refused(refused, checkpoint):
    words = ("x.weights.h5", "--skip-head", "--drop-background")
    sentence = refused("inception_v1", "slim", checkpoint[0], *words)
    assert (
        "without its head a file has no classes; give skip_head, or classes and drop_background"
        in sentence
    )


def test_facenets_head_is_refused_by_name_and_skipped_when_asked(refused, call, tmp_path):
    path, target = tmp_path / "model.ckpt-9", tmp_path / "body.weights.h5"
    model = inception_tf.InceptionResNetV1(include_top=False)
    names = slim.slim_names(find_network("inception_resnet_v1"))
    head = {f"InceptionResnetV1/Bottleneck/BatchNorm/{kind}": np.ones(8) for kind in BATCH_NORM}
    head["InceptionResnetV1/Bottleneck/weights"] = np.ones((1792, 8))
    save(path, {names[weight.path]: weight.numpy() for weight in model.weights} | head)
    sentence = refused("inception_resnet_v1", "slim", path)
    assert (
        "the classifier in the file has another structure than this network's"
        " (InceptionResnetV1/Bottleneck/weights, InceptionResnetV1/Bottleneck/BatchNorm/beta,"
        " InceptionResnetV1/Bottleneck/BatchNorm/moving_mean and 1 more); load the backbone alone with"
        " skip_head=True, on the command line --skip-head" in sentence
    )
    words = ("--model", "inception_resnet_v1", "--source", "slim", "--skip-head", path, target)
    code, out, _ = call(*words)
    assert code == 0
    assert "4 unused (InceptionResnetV1/Bottleneck/" in out
    assert "include_top=False" in out


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_truncated_checkpoint_is_refused(refused, checkpoint, tmp_path, kept):
    data = "a.ckpt.data-00000-of-00001"
    shutil.copy(f"{checkpoint[0]}.index", tmp_path / "a.ckpt.index")
    whole = checkpoint[0].with_name(f"{checkpoint[0].name}.data-00000-of-00001").read_bytes()
    (tmp_path / data).write_bytes(
        whole[: kept if isinstance(kept, int) else int(kept * len(whole))]
    )
    sentence = refused("inception_v1", "slim", tmp_path / "a.ckpt")
    assert "is not a readable TensorFlow checkpoint; give the name of a complete one" in sentence


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.999])
def test_truncated_index_is_refused(refused, checkpoint, tmp_path, kept):
    whole = checkpoint[0].with_name(f"{checkpoint[0].name}.index").read_bytes()
    cut = whole[: kept if isinstance(kept, int) else int(kept * len(whole))]
    (tmp_path / "a.ckpt.index").write_bytes(cut)
    assert "is not a readable TensorFlow checkpoint" in refused(
        "inception_v1", "slim", tmp_path / "a.ckpt"
    )


def test_pickle_that_would_run_code_is_never_loaded(refused, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (tmp_path / "a.pth").write_bytes(pickle.dumps({"fc.weight": Trap()}))
    sentence = refused("inception_v3", "torchvision", tmp_path / "a.pth")
    assert "a.pth" in sentence
    assert "code is never loaded" in sentence or "only torch reads it safely" in sentence
    assert not (tmp_path / "ran").exists()


def test_another_ending_is_refused(refused, test_data):
    sentence = refused("googlenet", "bvlc", test_data / BVLC, "googlenet.h5")
    assert "must end in .weights.h5" in sentence


# Loading with other inputs and classes


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = small()
    ramps.fill(model)
    path = tmp_path_factory.mktemp("own") / "v1.weights.h5"
    model.save_weights(path)
    return path, model


def small(channels=3, classes=6):
    shape = (32, 32, channels)
    return inception_tf.InceptionV1(input_shape=shape, classes=classes, width_multiplier=0.1)


def test_gray_images_give_what_they_gave_as_three_equal_channels(saved):
    path, colour = saved
    gray = small(channels=1)
    report = inception_tf.load_weights(gray, path)
    assert report.notes == ("Conv2d_1a_7x7_conv/kernel adapted from 3 to 1 input channels",)
    image = ramps.images(2, 32, 32, 1)
    expected = colour.predict_on_batch(np.repeat(image, 3, axis=-1))
    np.testing.assert_allclose(gray.predict_on_batch(image), expected, rtol=1e-4, atol=1e-6)


def test_more_channels_repeat_the_kernel_and_keep_its_sum_for_equal_channels(saved):
    path, colour = saved
    model = small(channels=6)
    inception_tf.load_weights(model, path)
    image = ramps.images(2, 32, 32, 3)
    expected = colour.predict_on_batch(image)
    found = model.predict_on_batch(np.concatenate([image, image], axis=-1))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_head_is_skipped_only_when_asked(saved):
    path, theirs = saved
    model = small(classes=4)
    before = model.get_layer("Logits").kernel.numpy()
    with pytest.raises(
        inception_tf.UserError, match="has 6 classes in the file and 4 in the model"
    ):
        inception_tf.load_weights(model, path)
    report = inception_tf.load_weights(model, path, skip_head=True)
    assert set(report.missing) == {"Logits/kernel", "Logits/bias"}
    np.testing.assert_array_equal(model.get_layer("Logits").kernel, before)
    np.testing.assert_array_equal(
        model.get_layer("Mixed_5c_b0_0_conv").kernel, theirs.get_layer("Mixed_5c_b0_0_conv").kernel
    )


def test_skipping_the_head_skips_nothing_else(saved, tmp_path):
    other = inception_tf.InceptionV1(input_shape=(32, 32, 3), classes=4, width_multiplier=0.5)
    with pytest.raises(inception_tf.UserError, match="shapes differ"):
        inception_tf.load_weights(other, saved[0], skip_head=True)


def test_background_is_dropped_from_one_class_more(saved):
    path, theirs = saved
    model = small(classes=5)
    inception_tf.load_weights(model, path, drop_background=True)
    np.testing.assert_array_equal(
        model.get_layer("Logits").kernel, theirs.get_layer("Logits").kernel[:, 1:]
    )

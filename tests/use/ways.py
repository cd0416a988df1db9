# SPDX-License-Identifier: Apache-2.0
"""The ways in which people use a Keras model in their own Python, each a function of a network's `Case`.

A way returns nothing where it works, and the sentence of the refusal where the network or the combination
cannot do it.  It asserts that something was really done: no way passes by doing nothing.
"""

from __future__ import annotations

import copy
import functools
import multiprocessing
import pickle
import tempfile
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
import worker
from case import CLASSES, Case, changed, compiled, different, norms, predicted, same, snapshot

import inception_tf
from inception_tf import UserError
from inception_tf.nn.batch_norm import BatchNormalization
from inception_tf.training.optim.recalibrate import recalibrate

Way = Callable[[Case], str | None]


@dataclass(frozen=True)
class Listed:
    """A way in the table of the docs."""

    group: str
    title: str
    call: Way
    deep: (
        bool  # at the network's full depth where slow tests run; else with one module of each kind
    )


WAYS: dict[str, Listed] = {}


def way(group: str, title: str, *, deep: bool = False) -> Callable[[Way], Way]:
    def register(call: Way) -> Way:
        WAYS[call.__name__] = Listed(group, title, call, deep)
        return call

    return register


def refusal(call: Callable[[], object]) -> str:
    """The sentence with which a call is refused."""
    try:
        call()
    except UserError as error:
        return str(error)
    raise AssertionError("it was not refused")


# Threads


@functools.lru_cache(maxsize=1)
def copies(case) -> list[keras.Model]:
    """A network built, loaded and cloned, with the same weights, and one nested in another model; not to be changed."""
    model = case.model()
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return [model, pickle.loads(pickle.dumps(model)), clone, wrapped(case, "nested")[0]]


def answer_together(case, make: Callable[[keras.Model], Callable], calls: int = 2) -> None:
    """What `make` makes of a model is first called from 2 threads at once, each with other images; then from 8."""
    for model in copies(case):
        call, expected = make(model), predicted(model, case.x)
        for threads in (2, 8):
            started = threading.Barrier(threads)

            def answer(number, call=call, started=started):
                x = np.roll(case.x, number, axis=0)
                started.wait()
                return [np.roll(call(x), -number, axis=0) for _ in range(calls)]

            with ThreadPoolExecutor(threads) as pool:
                for found in pool.map(answer, range(threads)):
                    same(found, [expected] * len(found))


@way("threads", "`model(x)` from 2 and 8 threads, also loaded, cloned and nested", deep=True)
def eager_threads(case):
    answer_together(case, lambda model: functools.partial(predicted, model))


@way("threads", "`predict` from 2 and 8 threads under a lock, also loaded, cloned and nested")
def predict_threads(case):
    def one_at_a_time(model):
        lock = threading.Lock()

        def call(x):
            with lock:  # without it TensorFlow may crash
                return model.predict(x, verbose=0)

        return call

    answer_together(case, one_at_a_time, calls=1)


@way("threads", "a `tf.function` from 2 and 8 threads, also loaded, cloned and nested")
def function_threads(case):
    answer_together(case, lambda model: tf.function(functools.partial(model, training=False)))


@way("threads", "`model(x, training=True)` from 8 threads")
def eager_training_threads(case):
    model = case.model()
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: np.asarray(model(case.x, training=True)), range(32)):
            assert np.isfinite(found).all()


# Saving and copies


def restored(case, save: Callable[[keras.Model, Path], keras.Model]) -> keras.Model:
    model = case.model()
    with tempfile.TemporaryDirectory() as folder:
        found = save(model, Path(folder))
    same(predicted(found, case.x), predicted(model, case.x))
    assert found is not model
    return found


def saved_as(suffix: str) -> Callable[[keras.Model, Path], keras.Model]:
    def save(model, folder):
        model.save(folder / f"model{suffix}")
        return keras.saving.load_model(folder / f"model{suffix}")

    return save


@way("saving", "`.keras`: saved and loaded, fused as before")
def keras_file(case):
    found = restored(case, saved_as(".keras"))
    assert {type(norm) for norm in norms(found)} <= {BatchNormalization}


@way("saving", "`.h5`: saved and loaded")
def hdf5_file(case):
    restored(case, saved_as(".h5"))


@way("saving", "`.weights.h5`, by Keras and by `load_weights`")
def weights_file(case):
    def save(model, folder):
        model.save_weights(folder / "x.weights.h5")
        ours, theirs = case.model(), case.model()
        for one in (ours, theirs):
            one.set_weights([0.5 * w for w in one.get_weights()])
        assert inception_tf.load_weights(ours, folder / "x.weights.h5").used
        theirs.load_weights(folder / "x.weights.h5")
        same(predicted(ours, case.x), predicted(theirs, case.x))
        return ours

    restored(case, save)


@way("saving", "`model.export` and `tf.saved_model.load`")
def exported(case):
    model = case.model()
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        loaded = tf.saved_model.load(folder)
        served = loaded.serve(case.x)
    same(served, predicted(model, case.x))


@way("saving", "pickle")
def pickled(case):
    restored(case, lambda model, _: pickle.loads(pickle.dumps(model)))
    layer = norms(case.model())[0] if case.has_batch_norm else case.model().layers[1]
    again = pickle.loads(pickle.dumps(type(layer)))
    assert again is type(layer)


@functools.cache
def pool() -> ProcessPoolExecutor:
    """One worker for all networks: it imports TensorFlow once."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


@way("saving", "sent to a spawned worker, which does not import this package")
def spawned(case):
    model = case.model()
    found, imported = pool().submit(worker.predict, model, case.x).result()
    same(found, predicted(model, case.x))
    assert not imported


@way("saving", "sent to a worker of loky (joblib)")
def loky(case):
    import joblib

    model = case.model()
    with joblib.parallel_config(backend="loky", n_jobs=1):
        ((found, _),) = joblib.Parallel()([joblib.delayed(worker.predict)(model, case.x)])
    same(found, predicted(model, case.x))


@way("copies", "`clone_model`")
def cloned(case):
    def clone(model, _):
        found = keras.models.clone_model(model)
        found.set_weights(model.get_weights())
        return found

    found = restored(case, clone)
    assert {type(norm) for norm in norms(found)} <= {BatchNormalization}


@way("copies", "`get_config` and `from_config`")
def from_config(case):
    def rebuild(model, _):
        found = type(model).from_config(model.get_config())
        found.set_weights(model.get_weights())
        return found

    restored(case, rebuild)


@way("copies", "`copy.deepcopy`")
def deep_copied(case):
    found = restored(case, lambda model, _: copy.deepcopy(model))
    other = case.model()
    found.set_weights([0 * w for w in found.get_weights()])
    different(predicted(found, case.x), predicted(other, case.x))


# Networks in other models


def wrapped(case, form: str) -> tuple[keras.Model, keras.Model, np.ndarray]:
    """A classifier around the network's backbone, the backbone, and images for it."""
    base, x = case.base(), case.x
    head = keras.layers.Dense(CLASSES, activation="softmax")
    image = keras.Input(x.shape[1:])
    if form == "nested":
        model = keras.Model(image, head(base(image)))
    elif form == "Sequential":
        model = keras.Sequential([image, base, head])
    elif form == "TimeDistributed":
        frames = keras.Input((2, *x.shape[1:]))
        features = keras.layers.TimeDistributed(base)(frames)
        model = keras.Model(frames, head(keras.layers.GlobalAveragePooling1D()(features)))
        x = np.stack([x, x[::-1]], axis=1)
    else:
        model = Subclass(base, head)
        model(x)
    return model, base, x


class Subclass(keras.Model):
    """A base and a head; `inference`: the base is called with training=False, as Keras' guide has it."""

    def __init__(self, base, head, inference=False):
        super().__init__()
        self.base, self.head, self.inference = base, head, inference

    def call(self, x, training=None):
        return self.head(self.base(x, training=False if self.inference else training))


FORMS = ("nested", "Sequential", "TimeDistributed", "subclass")


@way("in other models", "nested, in `Sequential`, in `TimeDistributed`, in a subclass: trained")
def in_wrappings(case):
    for form in FORMS:
        model, base, x = wrapped(case, form)
        before = snapshot(base)
        compiled(model).fit(x, case.y, batch_size=2, verbose=0)
        assert changed(base, before) >= {v.path for v in base.non_trainable_weights}, form
        assert changed(base, before) & {v.path for v in base.trainable_weights}, form


@way("in other models", "two of them on one input, also in the same wrappings")
def two_on_one_input(case):
    for form in FORMS:
        (first, _, x), (second, base, _) = wrapped(case, form), wrapped(case, form)
        second.name = "second"
        base.set_weights([0.5 * w for w in base.get_weights()])
        image = keras.Input(x.shape[1:])
        both = keras.Model(image, [first(image), second(image)])(x, training=False)
        same(both[0], predicted(first, x))
        same(both[1], predicted(second, x))
        different(*both)
    image = keras.Input(case.x.shape[1:])
    first = case.model(input_tensor=image, input_shape=None, name="first")
    second, third = case.model(name="second"), case.model(name="third")
    third.set_weights([0.5 * w for w in third.get_weights()])
    model = keras.Model(image, [first(image), second(image), third(image)])
    alone = [predicted(one, case.x) for one in (first, second, third)]
    for found, expected in zip(model(case.x, training=False), alone, strict=True):
        same(found, expected)
    different(alone[1], alone[2])


@way("in other models", "the same one called twice")
def called_twice(case):
    base = case.base()
    first, second = (keras.Input(case.x.shape[1:]) for _ in range(2))
    model = keras.Model([first, second], base(first) - base(second))
    found = model([case.x, case.x[::-1]], training=False)
    features = predicted(base, case.x)
    same(found, features - features[::-1], 1e-3)


# Training


@way("training", "frozen by `trainable`, by layer, and by `training=False`")
def frozen(case):
    model, base, x = wrapped(case, "nested")
    base.trainable = False
    before = snapshot(model)
    compiled(model).fit(x, case.y, verbose=0)
    assert {path.split("/")[0] for path in changed(model, before)} == {model.layers[-1].name}

    network = case.model()
    for layer in network.layers[: len(network.layers) // 2]:
        layer.trainable = False
    fixed = {v.path for layer in network.layers if not layer.trainable for v in layer.weights}
    before = snapshot(network)
    compiled(network).fit(x, case.y, verbose=0)
    assert fixed
    assert changed(network, before)
    assert not changed(network, before) & fixed

    model = Subclass(case.base(), keras.layers.Dense(CLASSES, activation="softmax"), True)
    model(x)
    statistics = {v.path for norm in norms(model) for v in norm.non_trainable_variables}
    before = snapshot(model)
    compiled(model).fit(x, case.y, verbose=0)
    assert not changed(model, before) & statistics
    assert changed(model, before)


class Batches(keras.utils.PyDataset):
    """Two batches of two images."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 2

    def __getitem__(self, index):
        rows = slice(2 * index, 2 * index + 2)
        return self.x[rows], self.y[rows]


def in_pairs(x, y):
    yield x[:2], y[:2]
    yield x[2:], y[2:]


@way(
    "training",
    "`fit` on arrays, a generator, a `PyDataset`, `tf.data` of unknown length: the same weights",
)
def data_forms(case):
    x, y = case.x, case.y
    signature = (tf.TensorSpec((2, *x.shape[1:])), tf.TensorSpec((2, CLASSES)))
    forms = {
        "arrays": lambda: {"x": x, "y": y, "batch_size": 2},
        "generator": lambda: {"x": in_pairs(x, y)},
        "PyDataset": lambda: {"x": Batches(x, y)},
        "tf.data": lambda: {
            "x": tf.data.Dataset.from_generator(lambda: in_pairs(x, y), output_signature=signature)
        },
    }
    network = compiled(case.model())
    before, weights, trained = snapshot(network), network.get_weights(), {}
    for form, arguments in forms.items():
        network.set_weights(weights)
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Your input ran out of data"
            )  # Keras' word for its end
            network.fit(**arguments(), shuffle=False, verbose=0)
        assert changed(network, before), form
        trained[form] = network.get_weights()
    for form, found in trained.items():
        for ours, expected in zip(found, trained["arrays"], strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-4, err_msg=form)


@way("training", "`class_weight` and `sample_weight`")
def weighted(case):
    network = compiled(case.model())
    weights, losses = network.get_weights(), []
    for arguments in (
        {},
        {"class_weight": {0: 2.0, 1: 1.0, 2: 1.0}},
        {"sample_weight": np.array([2.0, 1.0, 1.0, 2.0])},
    ):
        network.set_weights(weights)
        losses.append(network.fit(case.x, case.y, verbose=0, **arguments).history["loss"][0])
    plain, by_class, by_sample = losses
    same(by_class, by_sample, 1e-4)
    different(by_class, plain)


@way("training", "auxiliary classifiers, with a loss and targets for each; saved and loaded")
def auxiliary_losses(case):
    if not case.network.auxiliaries:
        return refusal(lambda: case.model(aux_logits=True))
    model = case.model(aux_logits=True)
    names = list(model.output)
    compiled(model, loss=dict.fromkeys(names, "categorical_crossentropy"))
    logs = model.fit(case.x, dict.fromkeys(names, case.y), verbose=0).history
    same(logs["loss"][0], sum(logs[f"{name}_loss"][0] for name in names), 1e-4)
    again = pickle.loads(pickle.dumps(model))
    for suffix in (".keras", ".h5"):
        with tempfile.TemporaryDirectory() as folder:
            loaded = saved_as(suffix)(model, Path(folder))
        expected = model(case.x, training=False)
        keras.tree.map_structure(same, loaded(case.x, training=False), expected)
    for one in (model, again):
        compiled(one, metrics=["accuracy"])
        assert "there are targets for one" in refusal(
            functools.partial(one.fit, case.x, case.y, verbose=0)
        )
    return None


@way("training", "gradient accumulation, Keras' EMA, `steps_per_execution`")
def optimizer_options(case):
    x, y = case.x, case.y
    half = compiled(
        case.model(),
        optimizer=keras.optimizers.SGD(0.01, gradient_accumulation_steps=2, use_ema=True),
        steps_per_execution=2,
    )
    before = snapshot(half)
    half.fit(x, y, batch_size=1, verbose=0)
    assert half.optimizer.iterations == 2  # of four batches
    assert changed(half, before)
    assert len(half.optimizer._model_variables_moving_average) == len(half.trainable_weights)


@way("training", "`jit_compile=True`")
def xla(case):
    losses = []
    for jit_compile in (False, True):
        network = compiled(case.model(), jit_compile=jit_compile)
        losses.append(network.fit(case.x, case.y, verbose=0).history["loss"][0])
    same(losses[1], losses[0], 1e-3)


@way("training", "LoRA, and `optimize_for_inference` of it")
def lora(case):
    model, base, x = wrapped(case, "nested")
    plain = predicted(model, x)
    base.trainable = False
    adapted = [base, *base.layers, model.layers[-1]]
    adapted = [x for x in adapted if type(x) in (keras.layers.Conv2D, keras.layers.Dense)]
    for layer in adapted:
        layer.trainable = True
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 0.02))
    before = snapshot(model)
    compiled(model).fit(x, case.y, verbose=0)
    assert all("lora" in path or "bias" in path for path in changed(model, before))
    expected = predicted(model, x)
    different(expected, plain)
    optimized = inception_tf.optimize_for_inference(model)
    assert not any("lora" in v.path for v in optimized.weights)
    same(predicted(optimized, x), expected, 1e-4)


# Precision


@way("precision", '`quantize("int8")`, and `optimize_for_inference` of it refused')
def int8(case):
    model = case.model()
    expected = predicted(model, case.x)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Layer .* does not have a `quantize` method")  # of Keras
        model.quantize("int8")
    found = predicted(model, case.x)
    different(found, expected)
    same(found, expected, 0.1)
    assert "is quantized to int8" in refusal(lambda: inception_tf.optimize_for_inference(model))


@way(
    "precision", "mixed_bfloat16, mixed_float16 and float64: trained, probabilities near float32's"
)
def policies(case):
    plain = case.model()
    expected = predicted(plain, case.x)
    for policy, tolerance in (("mixed_bfloat16", 0.1), ("mixed_float16", 0.02), ("float64", 1e-4)):
        model = case.model(dtype=policy)
        same(predicted(model, case.x), expected, tolerance)
        before = snapshot(model)
        loss = compiled(model).fit(case.x, case.y, verbose=0).history["loss"][0]
        assert np.isfinite(loss), policy
        assert changed(model, before), policy


@way("precision", "with `channels_first` as Keras' default")
def channels_first(case):
    expected = predicted(case.model(), case.x)
    keras.config.set_image_data_format("channels_first")
    try:
        same(predicted(case.model(), case.x), expected)
    finally:
        keras.config.set_image_data_format("channels_last")


# Functions of this package on models in other models


@way("functions", "`optimize_for_inference`, also loaded, cloned, nested and in `Sequential`")
def optimized(case):
    for one in (*copies(case), wrapped(case, "Sequential")[0]):
        found = inception_tf.optimize_for_inference(one)
        assert not [norm for norm in norms(found) if norm.name != "Hidden_bn"]
        same(predicted(found, case.x), predicted(one, case.x), 1e-4)
    subclass, _, x = wrapped(case, "subclass")
    refusal(lambda: inception_tf.optimize_for_inference(subclass))
    timed, _, _ = wrapped(case, "TimeDistributed")
    if case.has_batch_norm:
        refusal(lambda: inception_tf.optimize_for_inference(timed))
    else:
        same(
            predicted(inception_tf.optimize_for_inference(timed), np.stack([x, x], 1)).sum(1),
            np.ones(4),
        )


@way("functions", "`recalibrate`, in every wrapping")
def recalibrated(case):
    if not case.has_batch_norm:
        return refusal(lambda: recalibrate(case.model(), [case.x], 1))
    for form in FORMS:
        model, base, x = wrapped(case, form)
        before = snapshot(base)
        assert recalibrate(model, [x, x[::-1]], 2) == len(norms(base))
        assert changed(base, before) == {v.path for v in base.non_trainable_weights}
    idiom = Subclass(case.base(), keras.layers.Dense(CLASSES), True)
    idiom(case.x)
    refusal(lambda: recalibrate(idiom, [case.x], 1))
    return None


@way("functions", "`endpoints`, also loaded and cloned; around it the network is named")
def endpoints(case):
    model = case.model()
    expected = list(inception_tf.endpoints(model))
    loaded = pickle.loads(pickle.dumps(model))
    for one in (loaded, keras.models.clone_model(model)):
        assert list(inception_tf.endpoints(one)) == expected
    last = list(inception_tf.endpoints(loaded).values())[-2]
    assert keras.Model(loaded.input, last)(case.x).shape[0] == 4
    for form in FORMS:
        outer, base, _ = wrapped(case, form)
        sentence = refusal(functools.partial(inception_tf.endpoints, outer))
        assert f"contains the network '{base.name}'" in sentence


@way("functions", "`load_weights`, also loaded and cloned; around it the network is named")
def loaded_weights(case):
    model = case.model()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.weights.h5"
        model.save_weights(file)
        for one in (pickle.loads(pickle.dumps(model)), keras.models.clone_model(model)):
            one.set_weights([0 * w for w in one.get_weights()])
            assert len(inception_tf.load_weights(one, file).used) == len(model.weights)
            same(predicted(one, case.x), predicted(model, case.x))
        for form in FORMS:
            outer, base, _ = wrapped(case, form)
            load = functools.partial(inception_tf.load_weights, outer, file, strict=False)
            assert f"contains the network '{base.name}'" in refusal(load)

# SPDX-License-Identifier: Apache-2.0
"""Functions leave the process as they found it: environment, signals, modules, output, determinism."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import subprocess
import sys
import threading

import keras
import pytest
import tensorflow as tf

from inception_tf import cli
from inception_tf.cli.batch_predict import _silence_beam
from inception_tf.host.process_state import environment_variables, signal_handler
from inception_tf.host.signal_stack import _Stack, signal_stack
from inception_tf.host.silence import silence
from inception_tf.inference.runtimes import onnx, openvino
from inception_tf.run_folder import Run
from inception_tf.training.callbacks import Recorder
from inception_tf.training.checkpoint import Progress
from inception_tf.training.determinism import TENSORFLOW, op_determinism


def stack_of_signals() -> tuple:
    """Where handlers of this thread run."""
    found = _Stack()
    if sys.platform == "linux":
        assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.start, found.flags, found.size


@pytest.fixture(autouse=True)
def unchanged():
    """Holds every test of this file to the title."""
    before = dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    streams = [os.fstat(number) for number in (1, 2)]
    arguments, stack = list(sys.argv), stack_of_signals()
    yield
    after = dict(os.environ), signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    names = {"PYTEST_CURRENT_TEST"}
    for environment in (before[0], after[0]):
        for name in names:
            environment.pop(name, None)
    assert after == before
    assert [os.fstat(number)[:3] for number in (1, 2)] == [stream[:3] for stream in streams]
    assert sys.argv == arguments
    assert stack_of_signals() == stack


def test_a_programs_objects_are_not_walked_through_at_its_end_unless_it_is_a_library():
    program = (
        "import sys; from inception_tf.host.process_state import collect_garbage_rarely\n"
        "class InACycle:\n"
        "    def __del__(self): print('collected')\n"
        "one = InACycle(); one.one = one; del one\n"
        "if len(sys.argv) > 1: collect_garbage_rarely()\n"
    )
    said = [
        subprocess.run([sys.executable, "-c", program, *words], capture_output=True, check=True)
        for words in ([], ["as a program"])
    ]
    assert [child.stdout for child in said] == [b"collected\n", b""]


def test_environment_variables_are_put_back_after_a_failure(monkeypatch):
    monkeypatch.setenv("W_SET", "old")

    @environment_variables(W_SET="new", W_UNSET="new")
    def fail():
        assert os.environ["W_SET"] == os.environ["W_UNSET"] == "new"
        raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert os.environ["W_SET"] == "old"
    assert "W_UNSET" not in os.environ


def test_a_signal_handler_is_put_back_after_a_failure():
    before = signal.getsignal(signal.SIGTERM)

    @signal_handler(signal.SIGTERM, signal.default_int_handler)
    def fail():
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_command_leaves_the_environment_alone(monkeypatch, capsys):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    assert cli.main(["models"]) == 0
    assert "TF_CPP_MIN_LOG_LEVEL" not in os.environ


def test_importing_onnx_runtime_leaves_the_environment_alone(monkeypatch):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    onnx.check_installed()
    assert "ORT_DISABLE_TELEMETRY" not in os.environ


def test_importing_openvino_leaves_the_modules_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    openvino.check_installed()
    assert "openvino_telemetry" not in sys.modules


def test_output_of_several_threads_is_put_back(capfd):
    inside, may_end = threading.Event(), threading.Event()

    def first():
        with silence():
            inside.set()
            may_end.wait()

    def second():
        with silence():
            os.write(1, b"kept back\n")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    inside.wait()
    threads[1].start()
    may_end.set()
    for thread in threads:
        thread.join()
    os.write(1, b"shown\n")
    assert capfd.readouterr() == ("shown\n", "")


def test_a_silence_within_another_is_silent(capfd):
    with silence(), silence():
        os.write(1, b"kept back\n")
    assert capfd.readouterr() == ("", "")


def test_logging_that_was_disabled_before_stays_so():
    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with _silence_beam():
            assert logging.root.manager.disable == logging.CRITICAL
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(before)


def test_determinism_ends_with_the_block():
    is_on, switch_off = map(TENSORFLOW.get, ("is_op_determinism_enabled", "disable_op_determinism"))
    assert not is_on()
    with op_determinism(False):
        assert not is_on()
    with op_determinism(True):
        assert is_on()
        with op_determinism(True):
            pass
        assert is_on()
    assert not is_on()
    tf.config.experimental.enable_op_determinism()
    with op_determinism(True):
        pass
    assert is_on()  # it was on before
    switch_off()


def test_a_recorder_puts_ctrl_c_back(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    recorder = Recorder(Run(tmp_path), Progress())
    recorder.set_model(model)
    recorder.on_train_begin()
    assert signal.getsignal(signal.SIGINT) is not before[0]
    recorder.release_signals()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_program_collects_garbage_rarely_and_a_call_from_a_program_as_before(monkeypatch, capfd):
    before = gc.get_threshold()
    try:
        gc.set_threshold(700, 10, 10)
        assert cli.main(["recipes"]) == 0
        assert gc.get_threshold() == (700, 10, 10)
        monkeypatch.setattr(sys, "argv", ["inception-tf", "recipes"])
        assert cli.main() == 0
        assert gc.get_threshold()[0] > 700
    finally:
        gc.set_threshold(*before)


@pytest.mark.skipif(sys.platform != "linux", reason="nothing to give back elsewhere")
def test_the_stack_of_signal_handlers_comes_back_whatever_a_library_installs():
    room = ctypes.create_string_buffer(1 << 16)
    other = _Stack(ctypes.addressof(room), 0, len(room))
    before = stack_of_signals()
    with signal_stack():
        assert ctypes.CDLL(None).sigaltstack(ctypes.byref(other), None) == 0
        assert stack_of_signals() == (other.start, 0, other.size) != before
    assert stack_of_signals() == before

# SPDX-License-Identifier: Apache-2.0
"""Python programs in processes of their own, forked from one that has imported TensorFlow and done nothing else.

The import is four seconds of processor time.  What is about the start of an interpreter (variables that are read when
a package is imported, the order of imports, a package that is missing) needs `subprocess` and a true process.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

__all__ = ["Program", "popen", "run"]

HERE = str(Path(__file__).parent)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tensorflow_imported"])
STARTING = threading.Lock()
POPEN = subprocess.Popen


class Program:
    """A running `python ARGUMENTS`, as `subprocess.Popen` has one; its output goes to files.

    Args:
        arguments: `-c CODE`, `-m MODULE` or a script, and the program's own arguments.
        cwd: its folder; by default this process's.
        env: its variables; by default this process's.
        text: what it finds on stdin.
        optimizers: whether it has TensorFlow's graph optimizers, half of the time of a program with small graphs.
    """

    def __init__(
        self,
        arguments: Sequence[str | Path],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        text: str = "",
        optimizers: bool = True,
    ):
        folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.stdout, self.stderr = folder / "stdout", folder / "stderr"
        (folder / "stdin").write_text(text)
        variables = dict(os.environ if env is None else env)
        where = (folder, cwd or os.getcwd(), variables, optimizers)
        self._process = CONTEXT.Process(
            target=_become, args=(list(map(str, arguments)), *where), daemon=True
        )
        # Not above: a child imports this module, and may have to show that it does without the package.
        from inception_tf.host.process_state import environment_variables

        path = os.pathsep.join(filter(None, (HERE, os.environ.get("PYTHONPATH"))))
        # The first one starts the process to fork from.
        with STARTING, environment_variables(PYTHONPATH=path):
            self._process.start()
        self.pid, self.kill = self._process.pid, self._process.kill
        self.terminate = self._process.terminate

    @property
    def returncode(self) -> int | None:
        """None while it runs, then its exit code; minus the number of the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it has written to stdout and to stderr, when it has ended."""
        self.wait(timeout)
        return self.stdout.read_text(), self.stderr.read_text()


def popen(command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, **settings):
    """`subprocess.Popen`, for a monkeypatch: a program of this Python is forked, without graph optimizers.

    Its output is there for `communicate` alone.
    """
    if command[0] == sys.executable:
        return Program(command[1:], env=env, optimizers=False)
    return POPEN(command, env=env, **settings)


def run(arguments: Sequence[str | Path], *, timeout: float = 300, **settings):
    """`Program(arguments, **settings)` to its end, as `subprocess.run` gives it."""
    program = Program(arguments, **settings)
    try:
        out, err = program.communicate(timeout)
    finally:
        program.kill()
    return subprocess.CompletedProcess(arguments, program.returncode, out, err)


def _become(
    arguments: list[str], files: Path, cwd: str, variables: dict[str, str], optimizers: bool
) -> None:
    """Makes this process the one that `python ARGUMENTS` would be."""
    assert "tensorflow" in sys.modules, "what was to be imported before was not found"
    gc.freeze()
    if not optimizers:
        options = sys.modules["tensorflow"].config.optimizer
        options.set_experimental_options({"disable_meta_optimizer": True})
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        file = os.open(files / name, os.O_RDONLY if name == "stdin" else os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = os.fdopen(0, closefd=False)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.path[:0] = filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))
    first, *rest = arguments
    if first == "-c":
        code, *rest = rest
        sys.argv = ["-c", *rest]
        sys.path.insert(0, cwd)
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(compile(code, "<string>", "exec"), vars(main))
    elif first == "-m":
        module, *rest = rest
        sys.argv = [module, *rest]
        sys.path.insert(0, cwd)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")

"""Fixtures for tests that run artifacts: sessions written as text, in workers of their own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from edgecc.backend import Availability, Backend, Compiled
from edgecc.errors import Unsupported
from edgecc.running.runner import Runner
from edgecc.target import RuntimeOptions, Target

#: A package of its own: tests/test_plugin_example.py runs its tests where it is installed.
collect_ignore = ["plugin_example"]

DOUBLING = '''
import os, signal, sys, time
import numpy as np


class Unavailable(RuntimeError):
    pass


class Doubling:
    """y = 2 x, in numpy."""

    inputs = [{"name": "x", "shape": [2, 3], "dtype": "float32"}]
    outputs = [{"name": "y", "shape": [2, 3], "dtype": "float32"}]

    def __init__(self, path, options):
        self.path, self.options = path, options

    def set_inputs(self, feeds):
        self.x = feeds["x"]

    def run(self):
        self.y = self.x * 2

    def get_outputs(self):
        return {"y": self.y}

    def info(self):
        return {"tool": "numpy", "version": np.__version__, "device": "cpu", "accelerated_fraction": None,
                "threads": self.options["threads"], "options": self.options, "pid": os.getpid()}


class Session(Doubling):
'''


class FakeTarget(Target):
    """Runs sessions that tests write."""

    name: ClassVar[str] = "fake"
    suffixes: ClassVar[tuple[str, ...]] = (".fake",)


class FakeRuntime(RuntimeOptions):
    """The options of those sessions."""

    provider: str = "cpu"


class FakeBackend(Backend):
    target = FakeTarget
    runtime = FakeRuntime

    def __init__(self, session_file: Path, missing: str = "") -> None:
        self._session_file = session_file
        self._missing = missing

    def find_unsupported(self, model: object, target: Target) -> list[Unsupported]:
        return []

    def compile(self, model: object, target: Target) -> Compiled:
        raise NotImplementedError

    def can_run(self) -> Availability:
        return Availability(self._missing, "buy one" if self._missing else "")

    def versions(self) -> dict[str, str]:
        return {}

    def session_file(self) -> Path:
        return self._session_file


MakeRunner = Callable[..., Runner]


@pytest.fixture
def make_runner(tmp_path: Path) -> MakeRunner:
    """A function from the body of a session class, which inherits doubling, to a runner that is not entered."""
    count = itertools.count()

    def make(body: str = "pass", *, name: str = "model.fake", missing: str = "", **arguments: Any) -> Runner:
        lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
        session = tmp_path / f"session_{next(count)}.py"
        session.write_text(DOUBLING + lines + "\n")
        artifact = tmp_path / name
        artifact.write_bytes(b"model")
        return Runner(artifact, FakeBackend(session, missing), **{"timeout": 30.0, **arguments})

    return make

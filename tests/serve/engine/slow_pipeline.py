"""A plugin with a pipeline that takes its time, for engines in processes of their own."""

import os
import time
from dataclasses import dataclass

import numpy as np

from maquette import MaquetteError, hookimpl
from maquette.stepping import Call, SteppedPipeline
from maquette.types import Asset, Mesh

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


@dataclass
class SlowConfig:
    """How long a step takes."""

    seconds: float = 0.01


class Stage:
    def __init__(self, seconds):
        self.seconds = seconds

    def advance(self, flows):
        time.sleep(self.seconds)
        for flow in flows:
            flow.done += 1


@dataclass
class Flow:
    stage: Stage
    steps: int
    done: int = 0
    key = "slow"
    rows = 1
    result = None


def called(prompt):
    if prompt == "kill the worker":
        os._exit(9)
    if prompt == "torn":
        raise MaquetteError("the mesh is torn")
    return os.getpid()


class Slow(SteppedPipeline):
    """A tetrahedron after as many steps as are asked for."""

    def __init__(self, config):
        self.stage = Stage(config.seconds)

    def course(self, request):
        if request.prompt == "kill the engine":
            os._exit(9)
        yield Flow(self.stage, request.steps or 1)
        worker = yield Call(called, (request.prompt,))
        scale = 1 + request.seed
        return Asset(Mesh(CORNERS * scale, FACES), {"engine": os.getpid(), "worker": worker, "seed": request.seed})


@hookimpl
def register_pipelines(register):
    register("slow", SlowConfig, Slow)

"""The way back: to the newest whole checkpoint when a run is continued, and to one before steps that look wrong."""

from __future__ import annotations

from typing import Any

from maquette import checkpoint
from maquette.engine.anomalies import ADVICE, Rollback
from maquette.engine.step_engine import StepEngine
from maquette.errors import MaquetteError
from maquette.events import EventLog
from maquette.parallel.mesh import Mesh
from maquette.progress import say
from maquette.runs import RunFolder


class Recovery:
    """Restores a run's state, on all processes together, and writes down why.

    Args:
        run: its folder.
        mesh: the processes.
    """

    def __init__(self, run: RunFolder, mesh: Mesh) -> None:
        self.run, self.mesh, self.events = run, mesh, EventLog(run.path, mesh.rank)

    def record(self, kind: str, **facts: Any) -> None:
        """Write down, and say, what all processes have found together."""
        if self.mesh.rank == 0:
            self.events.add(kind, **facts)
            wrong = "".join(f", rank {rank} is wrong" for rank in facts.get("wrong", ()))
            say(f"warning: step {facts['step']}: {kind}{wrong}; see '{self.events.path}'")

    def restore(self, engine: StepEngine, data: Any, after: Rollback | None = None) -> None:
        """Continue from the newest whole checkpoint, or after a rollback from one before the bad steps.

        Args:
            engine: filled in place; after a rollback its guard keeps what it has counted.
            data: the dataset, set to the checkpoint's position.
            after: why the run goes back.

        Raises:
            MaquetteError: no checkpoint is whole, or it is of another model.
        """
        # The newest may have been saved when the weights had gone astray already.
        older = 1 if after and after.attempt > 2 else 0
        found, reasons = checkpoint.newest(self.run.checkpoints, self.mesh, older=older)
        if self.mesh.rank == 0:
            for reason in reasons:
                say(f"warning: {reason}; falling back to {found.path.name}")
                self.events.add("checkpoint", passed_over=reason, used=found.path.name)
            checkpoint.quarantine(self.run.checkpoints, found.path)
        self.mesh.barrier()
        if "optimizer" in found.parts:
            engine.start_slots(found.index["optimizer"])
        state = engine.state()
        found.load_into({part: tensors for part, tensors in state.items() if part in found.parts})
        for part, averages in zip(engine.parts, engine.averages, strict=True):
            for decay, name in zip(averages.weights, averages.parts(), strict=True):
                if name not in found.parts:
                    averages.reset(part, decay)
        engine.load_plain_state(found.state, keep_guard=after is not None)
        data.load_state_dict(found.state["data"])

    def go_back(self, engine: StepEngine, data: Any, rollback: Rollback) -> None:
        """To a checkpoint before the bad steps, which are left out from now on.

        Raises:
            MaquetteError: there is no checkpoint.
        """
        reached = engine.step
        if not self.mesh.share(bool(checkpoint.paths(self.run.checkpoints))):
            raise MaquetteError(f"{rollback}, and there is no checkpoint to go back to; {ADVICE}") from None
        self.restore(engine, data, rollback)
        left_out = rollback.left_out(engine.step)
        engine.guard.left_out |= set(left_out)
        if self.mesh.rank == 0:
            back = f"back from step {reached} to {engine.step}"
            say(f"warning: {rollback}; {back}, leaving out {len(left_out)} steps")
            span = [left_out.start, left_out.stop - 1] if left_out else []
            facts = {"trouble": rollback.kind, "step": rollback.step, "first": rollback.first}
            self.events.add("rollback", **facts, attempt=rollback.attempt, back_to=engine.step, left_out=span)

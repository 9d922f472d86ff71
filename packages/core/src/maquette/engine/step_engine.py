"""One optimizer step: forward and backward of the micro-batches, reduce, check, clip, update, average."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from maquette.batches import rows_of
from maquette.config import TrainConfig
from maquette.engine.anomalies import NONFINITE, SPIKE, AnomalyGuard, all_finite
from maquette.engine.corruption import ReplayCheck, ReplicaCheck
from maquette.engine.ema import WeightAverages
from maquette.engine.gradients import AdaptiveClip, clip, group_norms, total_norm
from maquette.engine.optimizer_state import optimizer_state, start_slots
from maquette.engine.optimizers import learning_rate, set_learning_rate
from maquette.engine.phase_memory import PhaseMemory
from maquette.engine.randomness import drawing, fold, seed_step
from maquette.engine.spikes import SpikeDetector
from maquette.errors import MaquetteError
from maquette.parallel.layout import SAMPLES
from maquette.parallel.parallelism import Parallelism

Objective = Callable[[nn.Module, Mapping[str, Any]], dict[str, Any]]


class StepEngine:
    """Owns the parts of the model that this process trains, the optimizer and the averages, and counts the steps.

    Args:
        parts: on their device, sharded; one, or several stages of a pipeline.
        objective: ``objective(model, batch)`` gives a dict with the scalar ``loss``, scalars to log and perhaps
            ``per_sample`` values and ``count``.
        train: steps, accumulation, clipping, averaging.
        optimizer: makes the optimizer of named parameters; its ``config`` has the schedule.
        seed: of every sample's noise.
        parallelism: how processes share the step.
        record: told of events on every process, as :meth:`maquette.events.EventLog.add`.

    Raises:
        MaquetteError: nothing can be trained.
    """

    def __init__(
        self,
        parts: Sequence[nn.Module],
        objective: Objective,
        train: TrainConfig,
        optimizer: Any,
        *,
        seed: int,
        parallelism: Parallelism,
        record: Callable[..., None] = lambda kind, **facts: None,
    ) -> None:
        self.parts, self.objective, self.train, self.seed = list(parts), objective, train, seed
        self.parallelism, self.mesh, self.record = parallelism, parallelism.mesh, record
        self.optimizer_config = optimizer.config
        self.named = {n: p for part in parts for n, p in part.named_parameters() if p.requires_grad}
        if not self.mesh.any(bool(self.named)):
            raise MaquetteError("the model has no trainable parameters; nothing to train")
        if hasattr(optimizer, "check"):
            optimizer.check([name for names in self.mesh.gather(list(self.named)) for name in names])
        parallelism.watch(self.parts)
        self.optimizer: torch.optim.Optimizer = optimizer(self.named)
        self.averages = [WeightAverages(part, train.ema_decays) for part in parts]
        self.memory = PhaseMemory(self.mesh.device)
        self.guard = AnomalyGuard(train.nonfinite_skips)
        self.spikes = SpikeDetector(train.spike_threshold, train.spike_window)
        self.replicas = ReplicaCheck(self.mesh, self.guard, record)
        self.replay = ReplayCheck(self.mesh, self.guard, record)
        self.adaptive = AdaptiveClip(train.clip_norm) if train.clip == "adaptive" else None
        self.micro_step = 0
        """Micro-batches done; ``micro_step // accumulate`` optimizer steps were made or skipped."""
        self.watch_groups_every = 0
        """Every so many steps the metrics hold the gradient norm of each group of parameters."""
        self.per_sample: dict[str, Tensor] = {}
        """What the objective said of each sample of the last micro-batch."""
        self._compared = -1  # micro-batches that were done when the copies were last compared
        self._loss: Tensor | None = None
        self._samples: list[dict[str, Any]] = []

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.micro_step // self.train.accumulate

    @property
    def learning_rate(self) -> float:
        """Of the step that is under way."""
        return learning_rate(self.step, self.train.steps, self.optimizer_config)

    def run(self, batch: Mapping[str, Any], update: Callable[[], Any] | None = None) -> dict[str, Tensor]:
        """One micro-batch; on the last of an accumulation also the optimizer step.

        Args:
            batch: this process's samples, as the dataset collates them.
            update: what steps the optimizer, where somebody else counts its steps; by default its own ``step``.

        Returns:
            The objective's scalars, detached, and after an optimizer step also ``grad_norm``; nothing for a step that
            is left out.

        Raises:
            Rollback: too many steps in a row look wrong, or copies of the state differ.
            MaquetteError: a step was not finite and none may be skipped.
        """
        if self.step in self.guard.left_out:
            self.micro_step += 1
            return {}
        batch = self._on_device(batch)
        last = (self.micro_step + 1) % self.train.accumulate == 0
        self._replay(batch)
        terms = self._pass(batch, last)
        self._samples.append({"position": self._keys(batch), "id": list(batch.get("id", ()))})
        self.per_sample = terms.pop("per_sample", {})
        metrics = {name: value.detach() for name, value in terms.items()}
        self._loss = metrics["loss"] if self._loss is None else self._loss + metrics["loss"]
        if not last:
            self.micro_step += 1
            return metrics
        try:
            metrics |= self._update(update or self.optimizer.step, self._loss / self.train.accumulate)
        finally:
            self._loss, self._samples = None, []
            self.optimizer.zero_grad(set_to_none=True)
            self.micro_step += 1
        every = self.train.replica_check_every
        if every and self.step % every == 0:
            self.check_replicas()
        return metrics

    def check_replicas(self) -> None:
        """Compare the copies of the state, before each checkpoint too; raises `Rollback` where they differ."""
        if self.train.replica_check_every and self.mesh.world > 1 and self._compared != self.micro_step:
            named = {f"{part}/{name}": value for part, values in self.state().items() for name, value in values.items()}
            buffers = {name for part in self.parts for name, _ in part.named_buffers()}
            # Statistics such as a batch normalisation's are each process's own.
            kept = {name: value for name, value in named.items() if name.partition("/")[2] not in buffers}
            self.replicas(self.step, kept, self.mesh.index("pipeline"))
            self._compared = self.micro_step

    def _pass(self, batch: Mapping[str, Any], last: bool) -> dict[str, Any]:
        """Forward and backward of a micro-batch that is on the device."""
        self.parallelism.before_backward(self.parts, last)
        seed_step(self.seed, self.micro_step, self.parallelism.rank)
        with drawing(self.seed, self._keys(batch)), self._precision():
            return self._forward_backward(batch, last)

    def _replay(self, batch: Mapping[str, Any]) -> None:
        """Compute the first micro-batch of a step that is due twice, without a consequence, and compare the bits.

        Raises:
            Rollback: a process has computed something else the second time.
        """
        every = self.train.replay_every
        if not every or self.step % every or self.micro_step % self.train.accumulate:
            return
        sharded = self.parallelism.casts_parameters  # their gradients are seen only when they have been reduced

        def compute() -> list[Tensor]:
            loss = self._pass(batch, last=sharded)["loss"].detach()
            gradients = [parameter.grad for parameter in self.named.values() if parameter.grad is not None]
            self.optimizer.zero_grad(set_to_none=True)
            return [loss, *gradients]

        kept = [(buffer, buffer.clone()) for part in self.parts for buffer in part.buffers()]
        self.replay(self.step, compute)
        for buffer, value in kept:
            buffer.copy_(value)

    def _forward_backward(self, batch: Mapping[str, Any], last: bool) -> dict[str, Any]:
        share = self.parallelism.share / self.train.accumulate
        if self.parallelism.pipeline:
            pipeline = self.parallelism.pipeline
            return pipeline.step(self.parts, self.objective, batch, share, last=last)  # type: ignore[no-any-return]
        terms = self.objective(self.parts[0], batch)
        loss = terms["loss"]
        count = terms.pop("count", None)
        if count is not None:
            # Means over different numbers of things: each weighs as much as it has of them.
            everybody = self.mesh.sum(count.detach().clone().float(), *SAMPLES)
            loss = loss * (count * self.parallelism.world / everybody)
        self.memory.after("forward")
        (loss * share).backward()
        self.memory.after("backward")
        return terms

    def _update(self, update: Callable[[], Any], loss: Tensor) -> dict[str, Tensor]:
        self.parallelism.reduce_gradients(self.parts)
        norm = total_norm(self.named.values(), self.mesh)
        metrics = {"grad_norm": norm}
        if not self._admitted(loss, norm):
            return metrics | {"skipped_steps": torch.tensor(float(self.guard.skipped))}
        if self.watch_groups_every and (self.step + 1) % self.watch_groups_every == 0:
            norms = group_norms(self.named, self.mesh)
            metrics |= {f"grad_norm/{name}": value for name, value in norms.items()}
        limit = self.adaptive.limit() if self.adaptive else self.train.clip_norm
        if self.train.clip != "none" and 0 < limit < float("inf"):
            clip(self.named.values(), limit, norm)
        if self.adaptive:
            self.adaptive.observe(float(norm))
        set_learning_rate(self.optimizer, self.learning_rate)
        update()
        for part, averages in zip(self.parts, self.averages, strict=True):
            averages.update(part, self.step + 1)
        self.memory.after("update")
        return metrics

    def _admitted(self, loss: Tensor, norm: Tensor) -> bool:
        """Whether the step may be made; what looks wrong is recorded with its samples."""
        finite, mean = all_finite(loss, norm, self.mesh)
        trouble = NONFINITE if not finite else SPIKE if self.spikes.is_spike(mean) else ""
        if trouble:
            samples = [sample for rank in self.mesh.gather(self._samples) for sample in rank]
            limit = self.spikes.limit()
            self.record(trouble, step=self.step, loss=mean, limit=limit, grad_norm=float(norm), samples=samples)
        if not self.guard.admit(self.step, trouble):
            return False
        if trouble:
            self.record("level", step=self.step, loss=mean)
            self.spikes.forget()
        self.spikes.observe(mean)
        return True

    @torch.no_grad()
    def validate(self, batch: Mapping[str, Any], index: int) -> dict[str, Tensor]:
        """The objective's scalars on a validation batch, with the same noise at every validation."""
        batch = self._on_device(batch)
        seed_step(self.seed, -1 - index, self.parallelism.rank)
        keys = self._keys(batch) if "position" in batch else [fold("row", index, i) for i in range(rows_of(batch))]
        with drawing(fold("validation", self.seed), keys), self._precision():
            if self.parallelism.pipeline:
                terms = self.parallelism.pipeline.evaluate(self.parts, self.objective, batch)
            else:
                terms = self.objective(self.parts[0], batch)
        return {k: v for k, v in terms.items() if k not in ("per_sample", "count")}

    def average_over_samples(self, metrics: Mapping[str, Tensor]) -> dict[str, float]:
        """Scalars averaged over the processes that see different samples, in one collective."""
        names = sorted(metrics)
        values = torch.stack([metrics[name].float().to(self.mesh.device) for name in names])
        self.mesh.sum(values, *SAMPLES)
        return dict(zip(names, (values / self.parallelism.world).tolist(), strict=True))

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Model, averages and optimizer as flat tensors by name; references, not copies."""
        state: dict[str, dict[str, Tensor]] = {"model": {}, "optimizer": optimizer_state(self.optimizer, self.named)}
        for part, averages in zip(self.parts, self.averages, strict=True):
            state["model"] |= part.state_dict()
            for name, weights in averages.parts().items():
                state.setdefault(name, {}).update(weights)
        return state

    def start_slots(self, known: Mapping[str, Any]) -> None:
        """Give the optimizer the slots named in ``known``, so that a checkpoint can fill them."""
        start_slots(self.optimizer, self.named, set(known))

    def plain_state(self) -> dict[str, Any]:
        """What else a checkpoint must hold: counters, plain data."""
        adaptive = self.adaptive.state() if self.adaptive else None
        return {
            "micro_step": self.micro_step,
            "guard": self.guard.state(),
            "spikes": self.spikes.state(),
            "adaptive_clip": adaptive,
        }

    def load_plain_state(self, state: Mapping[str, Any], *, keep_guard: bool = False) -> None:
        """Continue from :meth:`plain_state`; after a rollback the guard keeps what it has counted."""
        self.micro_step, self._compared = int(state["micro_step"]), -1
        if not keep_guard and state.get("guard"):
            self.guard.load_state(state["guard"])
        if state.get("spikes"):
            self.spikes.load_state(state["spikes"])
        if self.adaptive and state.get("adaptive_clip"):
            self.adaptive.load_state(state["adaptive_clip"])

    def _keys(self, batch: Mapping[str, Any]) -> list[int]:
        """What identifies each sample of the batch: its place in the endless sequence, where the dataset gives it."""
        if "position" in batch:
            return [int(key) for key in batch["position"].tolist()]
        size = rows_of(batch)
        first = (self.micro_step * self.parallelism.world + self.parallelism.rank) * size
        return list(range(first, first + size))

    def _precision(self) -> AbstractContextManager[Any]:
        if self.parallelism.pipeline:
            return nullcontext()  # it opens the context round each stage's forward pass itself
        return self.parallelism.precision.context(self.mesh.device, sharded=self.parallelism.casts_parameters)

    def _on_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Positions stay: reading them back for the noise's keys would wait for the device at every step."""
        device = self.mesh.device
        moves = {k: isinstance(v, Tensor) and k != "position" for k, v in batch.items()}
        return {k: v.to(device, non_blocking=True) if moves[k] else v for k, v in batch.items()}

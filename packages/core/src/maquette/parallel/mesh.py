"""The one owner of process groups and device meshes: who this process is along every axis, and whom it talks to."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from maquette.errors import MaquetteError
from maquette.parallel.layout import AXES, SAMPLES, Layout

DENSE = ("pipeline", "data", "sharding", "tensor")
SPARSE = ("pipeline", "data", "sharding", "expert", "tensor")


class Mesh:
    """The processes of a run, arranged along :data:`AXES`.

    A layout of one process needs no process group: every reduction is then the identity.

    Args:
        layout: the sizes; their product is the number of processes.
        backend: of torch.distributed; ``auto`` is nccl on GPUs and gloo elsewhere, ``fake`` talks to nobody.
        timeout_minutes: how long a collective may take before it is an error.

    Raises:
        MaquetteError: no launcher has described the other processes.
    """

    def __init__(self, layout: Layout, *, backend: str = "auto", timeout_minutes: float = 30.0) -> None:
        self.layout = layout
        self.world = layout.world
        self.rank = int(os.environ.get("RANK", "0")) if self.world > 1 else 0
        cuda = torch.cuda.is_available() and backend != "fake"
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        self.backend = backend if backend != "auto" else "cpu:gloo,cuda:nccl" if cuda else "gloo"
        self.timeout = timedelta(minutes=timeout_minutes)
        self._owns_group = False
        self._groups: dict[tuple[str, ...], distributed.ProcessGroup | None] = {}
        self._roots: dict[tuple[str, ...], DeviceMesh] = {}
        if cuda:
            torch.cuda.set_device(self.device)
        if self.world > 1:
            self._start()

    def _start(self) -> None:
        if distributed.is_initialized():
            return
        if self.backend == "fake":
            from torch.testing._internal.distributed.fake_pg import FakeStore  # registers the backend

            distributed.init_process_group("fake", rank=self.rank, world_size=self.world, store=FakeStore())
        elif "RANK" not in os.environ:
            raise MaquetteError(
                f"{self.layout} needs {self.world} processes; start them with: maquette launch --nproc {self.world} ..."
            )
        else:
            distributed.init_process_group(self.backend, timeout=self.timeout)
        self._owns_group = True

    def size(self, *axes: str) -> int:
        """How many processes there are along some axes together."""
        return self.layout.size(*axes)

    def index(self, *axes: str) -> int:
        """This process's place along some axes together, counted in the order of :data:`AXES`."""
        place, stride = 0, 1
        for axis in reversed(AXES):
            if axis in axes:
                place += self._coordinate(axis) * stride
                stride *= self.layout.size(axis)
        return place

    def _coordinate(self, axis: str) -> int:
        inner = self.layout.size(*AXES[AXES.index(axis) + 1 :])
        return self.rank // inner % self.layout.size(axis)

    @property
    def data_rank(self) -> int:
        """Which share of each batch this process sees."""
        return self.index(*SAMPLES)

    @property
    def data_world(self) -> int:
        """Into how many shares a batch is cut."""
        return self.layout.data_world

    def group(self, *axes: str) -> distributed.ProcessGroup | None:
        """The processes that differ from this one along ``axes`` alone; None where that is this one.

        The first call for a set of axes makes the groups: all processes must come by.
        """
        key = tuple(axis for axis in AXES if axis in axes and self.layout.size(axis) > 1)
        if key not in self._groups:
            self._groups[key] = self._make_group(key)
        return self._groups[key]

    def _make_group(self, axes: tuple[str, ...]) -> distributed.ProcessGroup | None:
        if not axes:
            return None
        if self.layout.size(*axes) == self.world:
            return distributed.group.WORLD
        ranks = torch.arange(self.world).view([self.layout.size(axis) for axis in AXES])
        rest = [i for i, axis in enumerate(AXES) if axis not in axes]
        own = [i for i, axis in enumerate(AXES) if axis in axes]
        rows = ranks.permute(*rest, *own).reshape(-1, self.layout.size(*axes)).tolist()
        group, _ = distributed.new_subgroups_by_enumeration(rows, timeout=self.timeout)  # type: ignore[no-untyped-call]
        return cast(distributed.ProcessGroup, group)

    def device_mesh(self, *axes: str) -> DeviceMesh:
        """Axes of the mesh that dense parameters live on: ``pipeline``, ``data``, ``sharding``, ``tensor``.

        ``sharding`` is shard x context x expert: dense parameters are sharded over all of them.
        """
        layout = self.layout
        sizes = (layout.pipeline, layout.data, layout.size("shard", "context", "expert"), layout.tensor)
        return self._root(DENSE, sizes)[axes if len(axes) > 1 else axes[0]]

    def expert_mesh(self, *axes: str) -> DeviceMesh:
        """Axes of the mesh that experts live on: ``expert`` apart, and ``sharding`` is shard x context alone."""
        layout = self.layout
        sizes = (layout.pipeline, layout.data, layout.size("shard", "context"), layout.expert, layout.tensor)
        return self._root(SPARSE, sizes)[axes if len(axes) > 1 else axes[0]]

    def _root(self, names: tuple[str, ...], sizes: tuple[int, ...]) -> DeviceMesh:
        if names not in self._roots:
            if not distributed.is_initialized():
                # FSDP's mixed precision and offloading are of use to one process too.
                store = torch.distributed.HashStore()  # type: ignore[attr-defined]
                distributed.init_process_group(self.backend, rank=0, world_size=1, store=store)
                self._owns_group = True
            self._roots[names] = init_device_mesh(self.device.type, sizes, mesh_dim_names=names)
        return self._roots[names]

    def sum(self, value: Tensor, *axes: str) -> Tensor:
        """Add ``value`` up over the processes along ``axes`` (all of them where none is named), in place."""
        axes = axes or AXES
        if self.size(*axes) > 1:
            distributed.all_reduce(value, group=self.group(*axes))
        return value

    def any(self, flag: bool) -> bool:
        """True everywhere when true anywhere: how all ranks stop at the same step."""
        return bool(self.sum(torch.tensor(float(flag), device=self.device)))

    def barrier(self) -> None:
        """Wait for the others."""
        if self.world > 1:
            self.any(False)

    def share(self, value: Any) -> Any:
        """Rank 0's value, everywhere."""
        if self.world == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: Any) -> list[Any]:
        """Everybody's value, everywhere, in the order of ranks."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        distributed.all_gather_object(values, value)
        return values

    def stop(self) -> None:
        """Leave the other processes."""
        if self._owns_group and distributed.is_initialized():
            distributed.destroy_process_group()
            self._owns_group = False

"""A checkpoint saved in one layout loads in any other, to the bit; what fails on one rank is known to all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from maquette import checkpoint
from maquette.checkpoint import Saver
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import run_ranks

LAYOUTS = {
    "shard 2 x tensor 2": Layout(shard=2, tensor=2),
    "data 2 x shard 2": Layout(data=2, shard=2),
    "shard 4": Layout(shard=4),
    "tensor 2": Layout(tensor=2),
    "shard 2": Layout(shard=2),
    "data 2": Layout(data=2),
    "one process": Layout(),
}


class Net(nn.Module):
    """Rows that no number of ranks divides, a tied weight, a buffer, and something smaller than the ranks are many."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6)
        self.few = nn.Linear(6, 3, bias=False)
        self.norm = nn.LayerNorm(6)
        self.register_buffer("table", torch.arange(5.0))

    def forward(self, x):
        return self.few(self.norm(self.down(self.up(x))))


def built(mesh, seed):
    """The net in the mesh's layout and a stepped optimizer; all values depend on the seed alone."""
    torch.manual_seed(seed)
    net = Net()
    layout = mesh.layout
    if layout.tensor > 1:
        tensor = mesh.device_mesh("tensor")
        split(net.up, "weight", tensor, Shard(0))
        split(net.up, "bias", tensor, Shard(0))
        split(net.down, "weight", tensor, Shard(1))
    if layout.shard > 1:
        axes = ("data", "sharding") if layout.data > 1 else ("sharding",)
        fully_shard(net, mesh=mesh.device_mesh(*axes))
    optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    generator = torch.Generator().manual_seed(seed)
    slots = {}
    for name, parameter in net.named_parameters():
        for slot, value in sorted(optimizer.state[parameter].items()):
            whole = torch.randn(value.shape, generator=generator)
            if isinstance(value, DTensor):
                whole = distribute_tensor(whole, value.device_mesh, plain(value.placements), src_data_rank=None)
                whole = whole.redistribute(placements=value.placements)
            value.copy_(whole)
            slots[f"{name}/{slot}"] = value
    return {"model": dict(net.state_dict()), "optimizer": slots}


def plain(placements):
    return [Replicate() for _ in placements]


def split(module, name, mesh, placement):
    whole = getattr(module, name).data
    setattr(module, name, nn.Parameter(distribute_tensor(whole, mesh, [placement], src_data_rank=None)))


def whole(state):
    return {
        part: {
            name: (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
            for name, value in tensors.items()
        }
        for part, tensors in state.items()
    }


def save_and_tell(folder, name):
    mesh = Mesh(LAYOUTS[name])
    first, second = built(mesh, 1), built(mesh, 2)
    with Saver(folder, mesh, keep=2) as saver:
        saver.save(1, first, {"data": {"seen": 7}})
        saver.save(2, second, {"data": {"seen": 8}})
    return whole(first), whole(second)


def load_and_tell(folder, names):
    """Every layout of this number of processes, one after the other."""
    told = {}
    for name in names:
        mesh = Mesh(LAYOUTS[name])
        state = built(mesh, 3)
        found, reasons = checkpoint.newest(folder, mesh)
        found.load_into(state)
        told[name] = (found.step, found.state["data"], reasons, whole(state))
    return told


def same(one, two):
    return {p: ts.keys() for p, ts in one.items()} == {p: ts.keys() for p, ts in two.items()} and all(
        torch.equal(tensor, two[part][name]) for part, tensors in one.items() for name, tensor in tensors.items()
    )


@pytest.mark.parametrize(("saved", "worlds"), [("shard 2 x tensor 2", (4, 2, 1)), ("data 2 x shard 2", (2,))])
def test_saved_at_four_processes_it_loads_in_every_layout_to_the_bit(tmp_path, saved, worlds):
    folder = tmp_path / "checkpoints"
    told = run_ranks(save_and_tell, 4, folder, saved)
    _, expected = told[0]
    assert all(same(expected, other) for _, other in told)
    found, _ = checkpoint.newest(folder)
    assert found.state["world"] == 4 and found.state["layout"] == saved
    assert same(expected, {part: found.read(part) for part in found.parts})
    for world in worlds:
        names = [name for name, layout in LAYOUTS.items() if layout.world == world]
        for rank in run_ranks(load_and_tell, world, folder, names) if world > 1 else [load_and_tell(folder, names)]:
            for name, (step, data, reasons, state) in rank.items():
                assert (step, data, reasons) == (2, {"seen": 8}, []), name
                assert same(expected, state), name


def test_saved_by_one_process_it_loads_at_four_and_damage_is_agreed_on(tmp_path):
    with Saver(tmp_path, keep=3) as saver:
        for step in (1, 2):
            saver.save(step, built(Mesh(Layout()), step), {"data": step})
    file = tmp_path / "step_00000002" / "optimizer.00000.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    for rank in run_ranks(load_and_tell, 4, tmp_path, ["shard 4", "shard 2 x tensor 2"]):
        for step, data, (reason,), state in rank.values():
            assert (step, data) == (1, 1) and "step_00000002': optimizer.00000.safetensors is damaged" in reason
            assert same(whole(built(Mesh(Layout()), 1)), state)


def pieces_and_failures(folder):
    """Stages with names of their own, alike copies, a rank whose disk is full, a name that nobody has."""
    mesh = Mesh(Layout(pipeline=2))
    rank = mesh.rank
    state = {"model": {f"stage{rank}.w": torch.full((4,), float(rank)), "alike": torch.ones(2)}}
    told = []
    with Saver(folder, mesh, keep=1) as saver:
        saver.save(1, state, {"from": rank})
        saver.wait()
        write = os.write
        if rank == 1:
            os.write = lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))
        saver.save(2, state, {})
        saver.wait()
        told += saver.poll()
        os.write = write
        state["model"][f"stage{rank}.w"] += 5  # the plan is kept, the values are not
        saver.save(3, state, {"from": rank})
    target = {"model": {name: torch.zeros_like(tensor) for name, tensor in state["model"].items()}}
    found, _ = checkpoint.newest(folder, mesh)
    found.load_into(target)
    assert same(state, target)
    if rank == 1:
        target["model"]["stray"] = torch.zeros(1)
    with pytest.raises(MaquetteError, match="'stray' is missing there"):
        found.load_into(target)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        found.processes.gather(lambda: 1 // (1 - rank), lambda _: None)
    return told


def test_ranks_with_names_of_their_own_and_a_failure_on_one_of_them(tmp_path):
    for (warning,) in run_ranks(pieces_and_failures, 2, tmp_path):
        assert "rank 1: the checkpoint of step 2 was not saved: disk full" in warning
    found, reasons = checkpoint.newest(tmp_path)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["step_00000003"] and not reasons
    assert found.state["from"] == 0 and not list(Path(tmp_path).glob(".step_*"))
    read = found.read("model")
    assert read["stage0.w"].tolist() == [5.0] * 4 and read["stage1.w"].tolist() == [6.0] * 4
    assert len(found.index["model"]["alike"].chunks) == 1


def one_dies(folder):
    mesh = Mesh(Layout(data=2))
    state = {"model": {f"w{i}": torch.full((1000,), float(i)) for i in range(8)}}
    with Saver(folder, mesh) as saver:
        saver.save(1, state, {}, wait=True)
        if mesh.rank == 1:
            os.write = lambda *_: os._exit(9)
        saver.save(2, state, {}, wait=True)


def test_a_rank_that_dies_while_all_save_leaves_nothing_visible(tmp_path):
    with pytest.raises(AssertionError, match="rank"):
        run_ranks(one_dies, 2, tmp_path)
    found, reasons = checkpoint.newest(tmp_path)
    assert found.step == 1 and not reasons and len(checkpoint.paths(tmp_path)) == 1
    assert {name: entry.whole for name, entry in found.index["model"].items()} == {f"w{i}": True for i in range(8)}
    assert len({entry.chunks[0].file for entry in found.index["model"].values()}) == 2, "copies are shared out"
    Saver(tmp_path).close()
    assert not list(tmp_path.glob(".step_*"))

"""What core itself provides, through the same door as everybody's plugins."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register


@hookimpl
def register_strategies(register: Register) -> None:
    """One for each axis of the mesh, and the levels of ZeRO."""
    register(
        "ddp", "maquette.parallel.data_parallel:DataParallelConfig", "maquette.parallel.data_parallel:DataParallel"
    )
    for name, build in (
        ("zero1", "Zero1"),
        ("zero2", "Zero2"),
        ("zero3", "Zero3"),
        ("fsdp", "Zero3"),
        ("hsdp", "Hybrid"),
    ):
        register(name, "maquette.parallel.sharded:ShardedConfig", f"maquette.parallel.sharded:{build}")
    register("tp", "maquette.parallel.tensor:TensorParallelConfig", "maquette.parallel.tensor:TensorParallel")
    register("ulysses", "maquette.parallel.context:ContextConfig", "maquette.parallel.context:Ulysses")
    register("ring", "maquette.parallel.context:ContextConfig", "maquette.parallel.context:Ring")
    register("all_gather", "maquette.parallel.context:ContextConfig", "maquette.parallel.context:AllGather")
    register("ep", "maquette.parallel.expert:ExpertParallelConfig", "maquette.parallel.expert:ExpertParallel")


@hookimpl
def register_optimizers(register: Register) -> None:
    """AdamW, and Muon for the matrices."""
    register("adamw", "maquette.engine.optimizers:AdamWConfig", "maquette.engine.optimizers:AdamW")
    register("muon", "maquette.engine.optimizers:MuonConfig", "maquette.engine.optimizers:Muon")


@hookimpl
def register_checks(register: Register) -> None:
    """What the doctor looks at, in this order."""
    for name, module, config, build in (
        ("disk", "disks", "DiskConfig", "Disks"),
        ("memory", "memory", "MemoryConfig", "Memory"),
        ("limits", "limits", "LimitsConfig", "Limits"),
        ("clock", "clocks", "ClockConfig", "KeptClock"),
        ("skew", "clocks", "ClockConfig", "ClockSkew"),
        ("versions", "versions", "VersionsConfig", "Versions"),
        ("same_versions", "versions", "VersionsConfig", "SameVersions"),
        ("network", "network", "NetworkConfig", "Network"),
        ("gpu", "gpu_health", "GpuConfig", "Gpu"),
        ("collectives", "collectives", "CollectivesConfig", "Collectives"),
        ("transfers", "transfers", "TransferConfig", "Transfers"),
        ("matmul", "burn_in", "BurnInConfig", "BurnIn"),
    ):
        register(name, f"maquette.doctor.{module}:{config}", f"maquette.doctor.{module}:{build}")


@hookimpl
def register_commands(register: Register) -> None:
    """Training, launching, planning and looking around."""
    register("train", "Train a run: maquette train CONFIG.yaml [key=value ...]", "maquette.cli.training:train")
    register(
        "finetune",
        "Start from a run's weights: maquette finetune RUN [key=value ...]",
        "maquette.cli.training:finetune",
    )
    register("launch", "Start several processes: maquette launch --nproc 4 train ...", "maquette.cli.launching:launch")
    register("top", "Watch a run, rank by rank: maquette top RUN", "maquette.cli.top:top")
    register("debug", "Collect an archive of a run without secrets: maquette debug RUN", "maquette.cli.debug:debug")
    register("plan", "Memory, arithmetic and traffic of a run before it starts", "maquette.cli.planning:plan")
    register("doctor", "Look at this machine: what is wrong and what to do", "maquette.cli.doctor:doctor")
    register("checkpoint", "Inspect, verify, export or import checkpoints", "maquette.cli.checkpoints:checkpoint")
    register("plugins", "List the plugins and what they provide", "maquette.cli.looking:plugins")
    register("show", "Explain one registered thing: maquette show KIND NAME", "maquette.cli.looking:show")
    register("new", "Write the skeleton of a plugin package: maquette new NAME", "maquette.cli.scaffold:new")

"""What this package registers. Targets are strings, so that listing names imports neither torch nor numba."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register

HERE = "maquette_data3d"


@hookimpl
def register_datasets(register: Register) -> None:
    register("shards", f"{HERE}.shards.stream:ShardsConfig", f"{HERE}.shards.stream:Shards")


@hookimpl
def register_exporters(register: Register) -> None:
    for suffix in ("glb", "obj", "ply", "stl", "off"):
        register(
            f".{suffix}",
            f"{HERE}.exporters:ExporterConfig",
            f"{HERE}.exporters:{suffix.capitalize()}Exporter",
        )


@hookimpl
def register_commands(register: Register) -> None:
    register("data", "Build shards of meshes or procedural shapes, look into them", f"{HERE}.data_command:data")

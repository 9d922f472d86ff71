"""What this package registers. Targets are strings, so that listing names imports neither torch nor numba."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register

HERE = "maquette_data3d"
FEATURES = {
    "grid": "grid:Grid",
    "surface": "surface:Surface",
    "sharp": "surface:Sharp",
    "queries": "queries:Queries",
    "voxels": "voxels:Voxels",
    "dual_grid": "voxels:DualGrid",
    "watertight": "watertight:Watertight",
    "views": "views:Views",
    "skeleton": "skeleton:Skeleton",
    "triangles": "triangles:Triangles",
}
EXPORTERS = {
    "glb": ("gltf.exporter:GlbConfig", "gltf.exporter:GlbExporter"),
    "obj": ("obj:ObjConfig", "obj:ObjExporter"),
    "zip": ("obj:ObjConfig", "obj:ZipExporter"),
    "ply": ("plain:PlyConfig", "plain:PlyExporter"),
    "stl": ("plain:StlConfig", "plain:StlExporter"),
    "off": ("plain:OffConfig", "plain:OffExporter"),
    "3mf": ("threemf:ThreemfConfig", "threemf:ThreemfExporter"),
    "urdf": ("robots.body:BodyConfig", "robots.urdf:UrdfExporter"),
    "mjcf": ("robots.body:BodyConfig", "robots.mjcf:MjcfExporter"),
    "xml": ("robots.body:BodyConfig", "robots.mjcf:MjcfExporter"),
    "fbx": ("fbx.exporter:FbxConfig", "fbx.exporter:FbxExporter"),
    "png": ("picture:PictureConfig", "picture:PictureExporter"),
    "usdz": ("usd.exporter:UsdzConfig", "usd.exporter:UsdzExporter"),
}
ENGINES = {"serial": "serial:Serial", "local": "local:Local", "ray": "ray_data:RayData"}
ONE_STEP = {"remesh": "Remesh", "unwrap": "Unwrap", "print_check": "PrintCheck"}
FINISHERS = {
    "repair": "repair:Repair",
    "remesh": "remesh:Remesh",
    "decimate": "decimate:Decimate",
    "unwrap": "unwrap:Unwrap",
    "bake": "bake:Bake",
    "lods": "lods:Lods",
    "units": "placing:Units",
    "up_axis": "placing:UpAxis",
    "origin": "placing:Origin",
    "print_check": "print_check:PrintCheck",
    "print_repair": "print_check:PrintRepair",
    "collision": "physics:Collision",
    "inertia": "physics:Inertia",
}


@hookimpl
def register_datasets(register: Register) -> None:
    register("shards", f"{HERE}.stream.dataset:ShardsConfig", f"{HERE}.stream.dataset:Shards")


@hookimpl
def register_features(register: Register) -> None:
    for name, target in FEATURES.items():
        register(name, f"{HERE}.features.{target}Config", f"{HERE}.features.{target}")


@hookimpl
def register_engines(register: Register) -> None:
    for name, target in ENGINES.items():
        register(name, f"{HERE}.building.engines.{target}Config", f"{HERE}.building.engines.{target}")


@hookimpl
def register_curricula(register: Register) -> None:
    register("steps", f"{HERE}.stream.curriculum:StepsConfig", f"{HERE}.stream.curriculum:Steps")


@hookimpl
def register_exporters(register: Register) -> None:
    for suffix, (config, exporter) in EXPORTERS.items():
        register(f".{suffix}", f"{HERE}.exporting.{config}", f"{HERE}.exporting.{exporter}")


@hookimpl
def register_importers(register: Register) -> None:
    for suffix in ("glb", "gltf", "obj", "ply", "stl", "off", "3mf", "fbx", "zip"):
        register(f".{suffix}", f"{HERE}.ingest.importer:ImporterConfig", f"{HERE}.ingest.importer:Importer")


@hookimpl
def register_finishers(register: Register) -> None:
    for name, target in FINISHERS.items():
        register(name, f"{HERE}.finishing.{target}Config", f"{HERE}.finishing.{target}")


@hookimpl
def register_pipelines(register: Register) -> None:
    register("animate", f"{HERE}.animation.animate:AnimateConfig", f"{HERE}.animation.animate:Animate")
    register("finish", f"{HERE}.finishing.pipeline:FinishConfig", f"{HERE}.finishing.pipeline:Finish")
    for name, target in ONE_STEP.items():
        register(name, f"{HERE}.finishing.pipeline:OneStepConfig", f"{HERE}.finishing.pipeline:{target}Pipeline")


@hookimpl
def register_commands(register: Register) -> None:
    register("data", "Build shards of meshes or procedural shapes, look into them", f"{HERE}.data_command:data")

"""What this package registers. Targets are strings, so that listing names imports neither torch nor
Lightning; beside each class `X` lies its `XConfig`."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register

HERE = "maquette_models"
ARCHITECTURES = {
    "grid_vae": "grid.grid_vae:GridVAE",
    "dit": "transformer.dit:DiT",
    "token_dit": "transformer.token_dit:TokenDiT",
}
CONDITIONERS = {
    "class_caption": "conditioners.class_caption:ClassCaption",
}
OBJECTIVES = {
    "vae": "objectives.vae_objective:VAEObjective",
    "flow_matching": "objectives.flow_matching:FlowMatching",
}
DATASETS = {
    "latents": "latents.latents:Latents",
}
SAMPLERS = {
    "euler": "samplers.euler:Euler",
    "heun": "samplers.heun:Heun",
}
DECODERS = {
    "marching_cubes": "decoders.marching_cubes:MarchingCubes",
}
METRICS = {
    "volume_iou": "metrics.volume_iou:VolumeIoU",
    "f_score": "metrics.surface_distance:FScore",
    "chamfer": "metrics.surface_distance:Chamfer",
    "normal_consistency": "metrics.surface_distance:NormalConsistency",
    "class_accuracy": "metrics.class_accuracy:ClassAccuracy",
    "diversity": "metrics.diversity:Diversity",
    "nearest_training": "metrics.nearest_training:NearestTraining",
    "color_accuracy": "metrics.color_accuracy:ColorAccuracy",
}
PIPELINES = {
    "text_to_3d": "pipelines.text_to_3d:TextTo3D",
}


def _all(register: Register, targets: dict[str, str]) -> None:
    for name, target in targets.items():
        register(name, f"{HERE}.{target}Config", f"{HERE}.{target}")


@hookimpl
def register_architectures(register: Register) -> None:
    _all(register, ARCHITECTURES)


@hookimpl
def register_conditioners(register: Register) -> None:
    _all(register, CONDITIONERS)


@hookimpl
def register_objectives(register: Register) -> None:
    _all(register, OBJECTIVES)


@hookimpl
def register_datasets(register: Register) -> None:
    _all(register, DATASETS)


@hookimpl
def register_samplers(register: Register) -> None:
    _all(register, SAMPLERS)


@hookimpl
def register_decoders(register: Register) -> None:
    _all(register, DECODERS)


@hookimpl
def register_metrics(register: Register) -> None:
    _all(register, METRICS)


@hookimpl
def register_pipelines(register: Register) -> None:
    _all(register, PIPELINES)

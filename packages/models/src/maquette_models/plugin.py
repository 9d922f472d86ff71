"""What this package registers. Targets are strings, so that listing names imports neither torch nor
Lightning."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register

HERE = "maquette_models"


@hookimpl
def register_architectures(register: Register) -> None:
    register("grid_vae", f"{HERE}.grid_vae:GridVAEConfig", f"{HERE}.grid_vae:GridVAE")
    register("dit", f"{HERE}.dit:DiTConfig", f"{HERE}.dit:DiT")


@hookimpl
def register_conditioners(register: Register) -> None:
    register("class_caption", f"{HERE}.class_caption:ClassCaptionConfig", f"{HERE}.class_caption:ClassCaption")


@hookimpl
def register_objectives(register: Register) -> None:
    register("vae", f"{HERE}.vae_objective:VAEObjectiveConfig", f"{HERE}.vae_objective:VAEObjective")
    register("flow_matching", f"{HERE}.flow_matching:FlowMatchingConfig", f"{HERE}.flow_matching:FlowMatching")


@hookimpl
def register_datasets(register: Register) -> None:
    register("latents", f"{HERE}.latents:LatentsConfig", f"{HERE}.latents:Latents")


@hookimpl
def register_samplers(register: Register) -> None:
    register("euler", f"{HERE}.euler:EulerConfig", f"{HERE}.euler:Euler")
    register("heun", f"{HERE}.heun:HeunConfig", f"{HERE}.heun:Heun")


@hookimpl
def register_decoders(register: Register) -> None:
    register("marching_cubes", f"{HERE}.marching_cubes:MarchingCubesConfig", f"{HERE}.marching_cubes:MarchingCubes")


@hookimpl
def register_metrics(register: Register) -> None:
    register("volume_iou", f"{HERE}.volume_iou:VolumeIoUConfig", f"{HERE}.volume_iou:VolumeIoU")
    register("f_score", f"{HERE}.surface_distance:FScoreConfig", f"{HERE}.surface_distance:FScore")
    register("chamfer", f"{HERE}.surface_distance:ChamferConfig", f"{HERE}.surface_distance:Chamfer")
    register(
        "normal_consistency",
        f"{HERE}.surface_distance:NormalConsistencyConfig",
        f"{HERE}.surface_distance:NormalConsistency",
    )
    register("class_accuracy", f"{HERE}.class_accuracy:ClassAccuracyConfig", f"{HERE}.class_accuracy:ClassAccuracy")
    register("diversity", f"{HERE}.diversity:DiversityConfig", f"{HERE}.diversity:Diversity")
    register(
        "nearest_training",
        f"{HERE}.nearest_training:NearestTrainingConfig",
        f"{HERE}.nearest_training:NearestTraining",
    )
    register("color_accuracy", f"{HERE}.color_accuracy:ColorAccuracyConfig", f"{HERE}.color_accuracy:ColorAccuracy")


@hookimpl
def register_pipelines(register: Register) -> None:
    register("text_to_3d", f"{HERE}.text_to_3d:TextTo3DConfig", f"{HERE}.text_to_3d:TextTo3D")

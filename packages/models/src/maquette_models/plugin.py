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
    "sparse_vae": "sparse_voxels.sparse_vae:SparseVAE",
    "voxset_vae": "voxset.voxset_vae:VoxSetVAE",
    "mesh_transformer": "mesh_tokens.mesh_transformer:MeshTransformer",
    "skeleton_transformer": "rigging.skeleton_transformer:SkeletonTransformer",
    "skin_transformer": "rigging.skin_transformer:SkinTransformer",
    "paint_vae": "texturing.paint_vae:PaintVAE",
    "part_segmenter": "parts.part_segmenter:PartSegmenter",
}
FINETUNING = {"lora": "LoRAConfig", "partial": "PartialConfig"}  # architectures that are built on a run
CONDITIONERS = {
    "class_caption": "conditioners.class_caption:ClassCaption",
    "composite": "conditioners.composite:Composite",
    "text": "conditioners.text:Text",
    "clip_text": "conditioners.pretrained_text:CLIPText",
    "t5_text": "conditioners.pretrained_text:T5Text",
    "class": "conditioners.class_label:ClassLabel",
    "image": "conditioners.image:Image",
    "views": "conditioners.views:Views",
    "dino_image": "conditioners.dino_image:DINOImage",
    "shape": "conditioners.shape:Shape",
    "face_count": "conditioners.face_count:FaceCount",
}
OBJECTIVES = {
    "vae": "objectives.vae_objective:VAEObjective",
    "flow_matching": "objectives.flow_matching:FlowMatching",
    "guidance_distillation": "objectives.guidance_distillation:GuidanceDistillation",
    "consistency_flow": "objectives.consistency_flow:ConsistencyFlow",
    "voxset_vae": "voxset.voxset_vae_objective:VoxSetVAEObjective",
    "sparse_vae": "sparse_voxels.sparse_vae_objective:SparseVAEObjective",
    "next_mesh_token": "mesh_tokens.next_mesh_token:NextMeshToken",
    "next_joint_token": "rigging.next_joint_token:NextJointToken",
    "skin_weights": "rigging.skin_weights_objective:SkinWeights",
    "paint_vae": "texturing.paint_vae_objective:PaintVAEObjective",
    "part_labels": "parts.part_objective:PartLabels",
}
DATASETS = {
    "view_textures": "texturing.view_dataset:ViewTextures",
    "latents": "latents.latents:Latents",
    "structures": "voxset.structures:Structures",
    "voxset_latents": "voxset.latents:VoxSetLatents",
    "sparse_latents": "sparse_voxels.sparse_latents:SparseLatents",
    "mesh_tokens": "mesh_tokens.mesh_dataset:MeshTokens",
    "skeletons": "rigging.skeleton_dataset:Skeletons",
    "skins": "rigging.skin_dataset:Skins",
    "paint_latents": "texturing.paint_latents:PaintLatents",
}
SAMPLERS = {
    "euler": "samplers.euler:Euler",
    "heun": "samplers.heun:Heun",
    "ab2": "samplers.ab2:AB2",
    "dpmpp_2m": "samplers.dpm_solver:DPMSolverPP2M",
    "unipc": "samplers.unipc:UniPC",
}
DECODERS = {
    "marching_cubes": "decoders.marching_cubes:MarchingCubes",
    "dual_grid": "sparse_voxels.dual_grid_decoder:DualGrid",
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
    "attribute_accuracy": "metrics.attribute_accuracy:AttributeAccuracy",
}
PIPELINES = {
    "view_texture": "texturing.view_texture:ViewTexture",
    "texture_edit": "texturing.edit_texture:TextureEdit",
    "text_to_3d": "pipelines.text_to_3d:TextTo3D",
    "voxset": "voxset.pipeline:VoxSet",
    "edit": "editing.edit:Edit",
    "voxset_edit": "editing.voxset_edit:VoxSetEdit",
    "sparse_voxels": "sparse_voxels.pipeline:SparseVoxels",
    "low_poly": "mesh_tokens.low_poly:LowPoly",
    "rig": "rigging.rig:Rig",
    "parts": "parts.segmentation:Segmentation",
    "texture": "texturing.texture:Texture",
}


def _all(register: Register, targets: dict[str, str]) -> None:
    for name, target in targets.items():
        register(name, f"{HERE}.{target}Config", f"{HERE}.{target}")


@hookimpl
def register_architectures(register: Register) -> None:
    _all(register, ARCHITECTURES)

    for name, target in FINETUNING.items():
        register(name, f"{HERE}.adapters.methods:{target}", f"{HERE}.adapters.methods:{name}")


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


@hookimpl
def register_commands(register: Register) -> None:
    """Beside training and sampling."""
    register(
        "eval",
        "Measure a run on held-out shapes: maquette eval RUN --data SHARDS",
        f"{HERE}.evaluation.command:evaluate",
    )
    register(
        "adapter",
        "Export, inspect, merge or judge adapters of finetuned runs",
        f"{HERE}.adapters.adapter_command:adapter",
    )
    register(
        "precompute",
        "Store a frozen encoder's outputs for shards: maquette precompute clip_text SHARDS OUT path=WEIGHTS",
        f"{HERE}.latents.precompute_command:precompute_command",
    )

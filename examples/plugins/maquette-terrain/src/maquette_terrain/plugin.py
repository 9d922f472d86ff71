"""What this package adds to maquette. References are strings, so that `maquette plugins` imports no torch."""

from maquette import hookimpl


@hookimpl
def register_datasets(register):
    register("terrain", "maquette_terrain.terrain:TerrainConfig", "maquette_terrain.terrain:Terrain")


@hookimpl
def register_architectures(register):
    register("mixer_vae", "maquette_terrain.mixer_vae:MixerVAEConfig", "maquette_terrain.mixer_vae:MixerVAE")

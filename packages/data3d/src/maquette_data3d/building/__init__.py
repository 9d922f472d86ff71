"""From a folder of meshes, or from nothing, to a folder of shards."""

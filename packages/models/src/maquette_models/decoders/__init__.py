"""From fields to meshes."""

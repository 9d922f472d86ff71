"""Meshes cut into named parts by a model that was trained on labelled surface points."""

"""Shapes as token sets anchored at coarse voxels."""

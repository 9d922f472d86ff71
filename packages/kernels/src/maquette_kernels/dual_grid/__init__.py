"""Flexible dual grids: a surface as a point in each voxel that it passes and the grid edges that it crosses."""

from __future__ import annotations

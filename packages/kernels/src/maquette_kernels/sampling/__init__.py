"""Features looked up at points: from sparse voxels, from three planes."""

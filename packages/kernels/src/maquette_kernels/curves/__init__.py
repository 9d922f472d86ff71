"""Space-filling curves: Morton and Hilbert codes of voxels, and the order of voxels along them."""

"""Sparse voxels: neighbour maps, sparse convolution, coarsening, a sparse tensor and modules on top."""

"""Surfaces of fields: marching cubes of dense and of sparse grids, and decoding a field octree by octree."""

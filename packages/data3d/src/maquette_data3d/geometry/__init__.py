"""Distances, insides and surfaces of meshes as they come."""

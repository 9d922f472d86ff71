"""Clouds of points: nearest neighbours, distances between clouds, farthest-point sampling."""

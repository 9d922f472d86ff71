"""Steps from a raw mesh to an asset that an engine, a slicer or a simulator takes; each is a finisher."""

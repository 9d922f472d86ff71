"""Bodies for robot simulators: URDF and MJCF, with collision hulls and inertia."""

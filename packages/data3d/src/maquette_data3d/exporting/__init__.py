"""Assets as files: GLB, OBJ, PLY, STL, OFF, 3MF, USDZ, FBX, and bodies for robot simulators."""

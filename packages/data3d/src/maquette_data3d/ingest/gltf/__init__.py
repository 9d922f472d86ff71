"""glTF 2.0 and its binary form, read from the public specification (Khronos, 2017-2021)."""

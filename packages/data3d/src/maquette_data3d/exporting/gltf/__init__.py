"""Binary glTF 2.0 (Khronos, ISO/IEC 12113:2022), written from plain arrays."""

"""Binary FBX 7.4, as Blender, game engines and ufbx read it. No free library writes it: the records are made here."""

"""Scale: the compilation cache, meshes and shardings, several hosts, plans ahead of time."""

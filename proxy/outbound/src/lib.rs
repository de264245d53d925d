//! From the application to the mesh: one file per phase.

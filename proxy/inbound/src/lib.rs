//! From the mesh to the application: one file per phase.

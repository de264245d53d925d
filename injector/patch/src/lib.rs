//! How a pod joins the mesh.

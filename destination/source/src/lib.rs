//! Objects from a directory of manifests (and, on a cluster, from the API server).

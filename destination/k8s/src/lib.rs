//! Kubernetes as the mesh sees it: CRD types, labels, annotations, selectors; no client.

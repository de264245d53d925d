//! Laws of the tree as tests: arrows, sizes, file headers.

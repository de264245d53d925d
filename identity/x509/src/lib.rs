//! X.509: anchors, issuer, CSR, leaf, validity; bytes in, bytes out.

//! The verbs of the proxy, pure: select, distribute, balance, authorize, detect, classify.

//! Traffic redirection: the rules as data, then applied by netlink.

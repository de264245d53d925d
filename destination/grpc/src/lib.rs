//! Serves Destination, InboundServerPolicies and OutboundPolicies from the index.

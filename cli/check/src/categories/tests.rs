//! The checks, decided by made-up facts.

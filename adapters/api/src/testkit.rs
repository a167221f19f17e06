//! Placeholder until written by its owner.

//! Kaa 1/KP.

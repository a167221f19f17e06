//! What a simulated slave answers.

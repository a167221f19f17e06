//! One sample as one flat object.

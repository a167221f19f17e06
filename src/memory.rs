//! Memory that was needed once, for a large configuration or table, goes back to the system.
//!
//! What is read from the file lives on in small pieces between what is dropped, and the C library gives only
//! whole ends of its heap back by itself: 10,000 endpoints held 20 MiB of empty pages for ever.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the system libraries have no call for it"))]

/// Gives empty pages back. Takes milliseconds; not for a busy path.
#[cfg(target_env = "gnu")]
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes no pointer, may be called at any time, and touches free memory only.
    let _any = unsafe { libc::malloc_trim(0) };
}

/// Other C libraries do so by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
pub const fn give_back() {}

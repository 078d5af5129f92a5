//! Panics: which of them end the process, and which are caught and become errors.
//!
//! A panic of ours is a broken invariant, and half a pipeline counts wrong: it ends the process. A library that
//! reads a damaged file may panic, too, and there it is only one more way to say that the file is damaged. Such
//! work is done inside [`caught`]; what it calls back of ours, inside [`ours`]. The hook that `main.rs` sets asks
//! [`is_caught`].

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    /// Whether a panic of this thread is caught now.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread would be caught and become an error.
#[must_use]
pub fn is_caught() -> bool {
    CAUGHT.get()
}

/// Sets the flag, and puts it back however it ends.
struct Flag(bool);

impl Flag {
    fn set(caught: bool) -> Self {
        Self(CAUGHT.replace(caught))
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        CAUGHT.set(self.0);
    }
}

/// Does work of others; a panic in it is an error with its message. What the work was at must not be used again
/// after one.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let flag = Flag::set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    drop(flag);
    done.map_err(|payload| message(&*payload))
}

/// Does work of ours inside work of others: a panic in it ends the process as everywhere.
pub fn ours<T>(work: impl FnOnce() -> T) -> T {
    let _flag = Flag::set(false);
    work()
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("it does not make sense").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_others_is_an_error_and_the_flag_is_put_back() {
        assert!(!is_caught());
        let answer = caught(|| {
            assert!(is_caught());
            ours(|| assert!(!is_caught()));
            assert!(is_caught());
            caught(|| panic!("inner")).unwrap_err()
        });
        assert_eq!(answer.unwrap(), "inner");
        assert!(!is_caught());
        assert_eq!(caught(|| panic!("page {}", 3)).unwrap_err(), "page 3");
        assert!(!is_caught());
    }
}

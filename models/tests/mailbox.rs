//! Letters to a worker that is about to sleep.

use picows_uring_models::{post_against_another_wake, posts_against_sleep};

#[test]
fn a_post_wakes_a_worker_that_is_about_to_sleep() {
    posts_against_sleep(1, 2);
}

#[test]
fn posts_of_two_threads_wake_it() {
    posts_against_sleep(2, 1);
}

#[test]
fn a_post_while_something_else_wakes_it_is_seen() {
    post_against_another_wake();
}

use super::*;
use std::panic::resume_unwind;
use std::rc::Rc;

/// Panics without the noise of the panic hook.
fn bang(text: &'static str) -> ! {
    resume_unwind(Box::new(text))
}

/// Panics when it is dropped, and is counted.
struct Bomb(Rc<Cell<u32>>);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        bang("in Drop");
    }
}

/// A `Display` of its own.
struct Shows<F>(F);

impl<F: Fn(&mut fmt::Formatter<'_>) -> fmt::Result> fmt::Display for Shows<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.0)(f)
    }
}

#[test]
fn a_panic_ends_in_the_guard_and_its_text_is_kept() {
    assert_eq!(call(|| 7), Ok(7));
    let said =
        |payload: Box<dyn Any + Send>| call(|| resume_unwind(payload)).unwrap_err().to_string();
    assert_eq!(said(Box::new("a text")), "panic: a text");
    assert_eq!(said(Box::new(String::from("a string"))), "panic: a string");
    assert_eq!(said(Box::new(7)), "panic: of a type that is no text");
    let long = said(Box::new("ä".repeat(TEXT_BYTES_MAX)));
    assert!(long.len() <= TEXT_BYTES_MAX + 16 && long.ends_with("ä..."), "{}", long.len());
}

#[test]
fn a_panic_whose_payload_panics_ends_in_the_guard() {
    struct Again;
    impl Drop for Again {
        fn drop(&mut self) {
            resume_unwind(Box::new(Again));
        }
    }
    let panicked = call(|| resume_unwind(Box::new(Again))).unwrap_err();
    assert_eq!(panicked.to_string(), "panic: of a type that is no text");
}

#[test]
fn each_of_several_values_is_dropped_though_each_panics() {
    take_stray_panics();
    let dropped = Rc::new(Cell::new(0));
    let bomb = || Bomb(Rc::clone(&dropped));
    discard_each([bomb(), bomb(), bomb()]);
    assert_eq!(dropped.get(), 3);
    // In a container, of which we drop no value by itself.
    drop(vec![Foreign::new(bomb()), Foreign::new(bomb())]);
    drop((Some(Foreign::new(bomb())), Box::new(Foreign::new(bomb()))));
    assert_eq!((dropped.get(), take_stray_panics(), take_stray_panics()), (7, 7, 0));
}

#[test]
fn values_are_dropped_while_another_panic_unwinds() {
    let dropped = Rc::new(Cell::new(0));
    let bombs = [(); 3].map(|()| Foreign::new(Bomb(Rc::clone(&dropped))));
    let outcome = call(|| {
        let _bombs = bombs;
        bang("on the way out");
    });
    assert_eq!(
        (outcome.unwrap_err().to_string(), dropped.get()),
        ("panic: on the way out".into(), 3)
    );
}

#[test]
fn a_value_can_be_taken_out_of_the_guard() {
    let dropped = Rc::new(Cell::new(0));
    let bomb = Foreign::new(Bomb(Rc::clone(&dropped))).into_inner();
    assert_eq!(dropped.get(), 0);
    discard(bomb);
}

#[test]
fn a_text_is_bounded_and_says_what_is_wrong_with_it() {
    assert_eq!(text("plain"), "plain");
    let fails = Shows(|f: &mut fmt::Formatter<'_>| {
        f.write_str("half ")?;
        Err(fmt::Error)
    });
    assert_eq!(text(&fails), "half (its Display returned an error)");
    let panics = Shows(|f: &mut fmt::Formatter<'_>| {
        f.write_str("half ")?;
        bang("in Display")
    });
    assert_eq!(text(&panics), "half (its Display failed: panic: in Display)");
    let endless = Shows(|f: &mut fmt::Formatter<'_>| {
        loop {
            f.write_str("ö€𝄞")?;
        }
    });
    let text = text(&endless);
    assert!(text.ends_with("...") && text.len() <= TEXT_BYTES_MAX + CUT_MARK.len());
    // Nor does one that goes on regardless grow.
    let stubborn = Shows(|f: &mut fmt::Formatter<'_>| {
        for _ in 0..10_000 {
            let _ = f.write_str("0123456789");
        }
        Ok(())
    });
    assert_eq!(super::text(&stubborn).len(), TEXT_BYTES_MAX + CUT_MARK.len());
}

#[test]
fn a_subscriber_that_panics_loses_its_line() {
    struct Panics;
    impl tracing::Subscriber for Panics {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            bang("in a subscriber")
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            bang("in a subscriber")
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }
    take_stray_panics();
    tracing::subscriber::with_default(Panics, || {
        log::error!(number = 7, "a line");
        // Also where the line is about a panic.
        discard(Bomb(Rc::default()));
    });
    assert!(take_stray_panics() >= 2);
}

#[test]
#[cfg(debug_assertions)]
fn code_of_the_application_does_not_run_while_a_cell_is_borrowed() {
    let cell = StateCell::new([1, 2]);
    let refused = |borrowed: &dyn Fn(&mut dyn FnMut())| {
        let mut outcome = None;
        borrowed(&mut || outcome = Some(catch_unwind(|| call(|| ()))));
        outcome.is_some_and(|it| it.is_err())
    };
    assert!(refused(&|run| {
        let _held = cell.borrow();
        run();
    }));
    assert!(refused(&|run| {
        let _held = cell.borrow_mut().map(|pair| &mut pair[0]);
        run();
    }));
    assert!(refused(&|run| {
        let _held = cell.borrow_mut().filter_map(|pair| pair.get_mut(1));
        run();
    }));
    assert!(cell.borrow_mut().filter_map(|pair| pair.get_mut(2)).is_none());
    cell.replace([3, 4]);
    assert_eq!((cell.take(), call(|| 7)), ([3, 4], Ok(7)));
}

#[test]
fn the_text_of_a_panic_is_one_line_that_steers_no_terminal() {
    let panicked = call(|| panic!("bad message: \x1b[2J\r\nERROR forged")).unwrap_err();
    assert_eq!(panicked.to_string(), r"panic: bad message: \x1b[2J\r\nERROR forged");
}

//! The cases whose instructions `scripts/icount` counts, in time.
//!
//! For one part: `cargo bench -p benches --bench protocol -- decoder`.

use benches::cases::{self, Case};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

fn names() -> Vec<String> {
    cases::all().iter().map(|case| case.name().to_owned()).collect()
}

#[divan::bench(args = names())]
fn protocol(bencher: Bencher<'_, '_>, name: &String) {
    let mut cases = cases::all();
    let case = cases.iter_mut().find(|case| case.name() == name).expect("it is one of those");
    bencher.counter(ItemsCount::new(case.items())).bench_local(|| Case::call(case));
}

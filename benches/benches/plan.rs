//! Making a decode plan for one lost data shard, and for as many as there are parities: `cargo bench -p benches --bench plan`.

mod support;

use benches::rivals::{self, NINEFOLD};
use criterion::{Criterion, criterion_group, criterion_main};

fn plan(criterion: &mut Criterion) {
    for spec in support::CODES {
        let Some(ours) = support::open(spec, 0) else { continue };
        for lost in support::losses(spec) {
            let Ok(mut own) = rivals::planner(spec, lost) else { continue };
            let mut group = criterion.benchmark_group(format!("plan {lost}/{spec}"));
            group.bench_function(NINEFOLD, |bencher| bencher.iter(&mut own));
            for library in rivals::rivals() {
                let planner = library.planner.filter(|_| spec.starts_with("rs:"));
                let Some(mut planner) = planner.map(|planner| planner(ours.shape(64), lost)) else { continue };
                group.bench_function(library.name, |bencher| bencher.iter(&mut planner));
            }
        }
    }
}

criterion_group! { name = group; config = support::config(); targets = plan }
criterion_main!(group);

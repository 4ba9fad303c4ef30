//! What a call costs before the first byte: decode plans, and encoding next to nothing.

use super::encode::{measure, open_rivals};
use super::{Case, Place};
use crate::measure::{Contestant, Series, interleave};
use crate::pool::{EncodeStripe, Ring};
use crate::report::{Aim, Line, Unit};
use crate::rivals::{self, Coder, NINEFOLD, Ninefold, Ours, RUSTY_ERASURE, Work};

pub(super) fn cases() -> Vec<Case> {
    vec![
        plan("rs:10+4", 4, 0.5),
        plan("rs:80+20", 20, 30.0),
        plan("lrc:12,2,2", 1, 2.0),
        alone("plan by cost: slowest found, named codes of n <= 32", 1000.0, rivals::worst_planner),
        alone("decodable without 4 of rs:10+4", 0.2, || rivals::decodability("rs:10+4", 4)),
        alone("decodable without 4 of lrc:12,2,2", 0.2, || rivals::decodability("lrc:12,2,2", 4)),
        tiny_call(),
    ]
}

fn plan(spec: &'static str, lost: usize, most: f64) -> Case {
    Case::new(format!("plan {lost} lost of {spec}"), move |title, bench| {
        let mut own = rivals::planner(spec, lost)?;
        let shape = Ours::open(spec, 0)?.shape(64);
        let libraries = rivals::rivals().into_iter();
        let mut others: Vec<(&'static str, Work)> =
            libraries.filter_map(|library| Some((library.name, (library.planner?)(shape, lost)))).collect();
        let mut contestants = vec![Contestant::new(NINEFOLD, move |_: &mut ()| own())];
        contestants.extend(others.iter_mut().map(|(name, plan)| Contestant::new(name, move |_: &mut ()| plan())));
        let mut ring = Ring::new(vec![()]).ok_or("no stripe")?;
        let series = interleave(bench.hot, &mut ring, &mut contestants);
        Ok(micros(title, &series, Aim::Micros(most)))
    })
}

/// Work that no rival has.
fn alone(name: &str, most: f64, work: impl Fn() -> Result<Work, String> + 'static) -> Case {
    Case::new(name.into(), move |title, bench| {
        let mut work = work()?;
        let mut contestants = vec![Contestant::new(NINEFOLD, move |_: &mut ()| work())];
        let mut ring = Ring::new(vec![()]).ok_or("no stripe")?;
        let series = interleave(bench.hot, &mut ring, &mut contestants);
        Ok(micros(title, &series, Aim::Micros(most)))
    })
}

fn tiny_call() -> Case {
    Case::new("call: encode rs:10+4 64 B".into(), |title, bench| {
        let mut ours = Ninefold::open("rs:10+4", 0)?;
        let shape = ours.shape(64);
        let mut others = open_rivals(shape, |name| name == RUSTY_ERASURE);
        let call = |stripe: &mut EncodeStripe<'_>| ours.encode(&stripe.data, &mut stripe.parity);
        let mut contestants = vec![Contestant::new(NINEFOLD, call)];
        for (name, coder) in &mut others {
            let call = move |stripe: &mut EncodeStripe<'_>| coder.encode(&stripe.data, &mut stripe.parity);
            contestants.push(Contestant::new(name, call));
        }
        let series = measure(bench, shape, Place::Hot, contestants)?;
        Ok(micros(title, &series, Aim::Micros(0.1)))
    })
}

/// A line of time beside the first other one.
fn micros(title: &str, series: &[Series], aim: Aim) -> Vec<Line> {
    let [ours, others @ ..] = series else { return Vec::new() };
    let other = others.first().map(|it| (it.name.to_owned(), it.micros(), ours.ratio(it)));
    vec![Line::new(title, Unit::Micros, ours.micros(), other, aim)]
}

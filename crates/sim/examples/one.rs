//! scratch
use quipu_sim::{Profile, run, actors::Crime};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let seed: u64 = args[1].parse().unwrap();
    let mode = args.get(2).map_or("", |s| s.as_str());
    let mut profile = Profile { keeps_trace: true, ..Profile::short() };
    if mode == "alone" { profile.powers = &[1]; }
    if mode == "silence" { profile.crime = Some(Crime::Silence); profile.powers = if seed % 3 == 0 { &[33, 23, 22, 22] } else { &[1, 1, 1, 1] }; }
    let started = std::time::Instant::now();
    match run(seed, &profile) {
        Ok(report) => { println!("ok {} heights {:?}", report.height_count, started.elapsed()); if args.len() > 3 { for l in &report.trace { println!("{l}"); } } }
        Err(v) => { for l in &v.trace { println!("{l}"); } println!("{:?}", started.elapsed()); println!("seed {} {}: {} {}", v.seed, v.turn, v.rule, v.what); }
    }
}

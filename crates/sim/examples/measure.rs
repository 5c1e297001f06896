//! What agreement and chunks cost: `cargo run --release -p quipu-sim --example measure`.
#![expect(clippy::disallowed_methods, reason = "a measurement takes its time from outside")]
#![expect(clippy::print_stdout, reason = "its output is a table")]

use std::cell::RefCell;
use std::time::Instant;

use quipu_sim::stage::{Failure, Rules, Stage, Word};
use quipu_sim::{Clock, Measured, Violation, measure};
use quipu_types::RoundKind;

fn clock() -> Clock {
    let start = Instant::now();
    Box::new(move || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Messages and bytes that carry a chunk's body, of its sequencer and of the one of the others that sends most.
type Sent = ((u64, u64), (u64, u64));

/// Sends one body to all, and counts until everyone has committed it.
fn body_sent(count: u8, payload_size: usize, is_striped: bool) -> Result<Sent, Failure> {
    let stage = Stage::new(count, &[], Rules::ALL);
    let mut stage = if is_striped { stage.striped() } else { stage };
    stage.settle(1)?;
    let sent = RefCell::new(vec![(0_u64, 0_u64); usize::from(count)]);
    stage.submit_sized(0, 0, payload_size);
    stage.run(|letter| {
        let carries = matches!(letter.word(), Word::Chunk | Word::Stripe);
        if let Some((messages, bytes)) = sent.borrow_mut().get_mut(usize::from(letter.from))
            && carries
            && letter.size() > 1_000
        {
            *messages = messages.saturating_add(1);
            *bytes = bytes.saturating_add(u64::try_from(letter.size()).unwrap_or(u64::MAX));
        }
        true
    });
    stage.settle(stage.height(0).saturating_add(1))?;
    let mut others = sent.into_inner();
    let own = others.remove(0);
    Ok((own, others.into_iter().max_by_key(|(_, bytes)| *bytes).unwrap_or_default()))
}

fn bodies() -> Result<(), Failure> {
    println!("body KiB  n   form     sequencer: messages, bytes    busiest other: messages, bytes");
    for payload_size in [64 << 10, 960 << 10] {
        for count in [4, 7, 16] {
            for (is_striped, form) in [(false, "whole"), (true, "stripes")] {
                let ((messages, bytes), (more, most)) = body_sent(count, payload_size, is_striped)?;
                let size = payload_size >> 10;
                println!(
                    "{size:<9} {count:<3} {form:<8} {messages:>19} {bytes:>9} {more:>20} {most:>9}"
                );
            }
        }
    }
    println!();
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    bodies()?;
    if std::env::args().any(|argument| argument == "bodies") {
        return Ok(());
    }
    agreement()?;
    Ok(())
}

fn agreement() -> Result<(), Box<Violation>> {
    println!("rounds  n   CPU us a height and validator   messages a height   bytes a height");
    for (kind, name) in [(RoundKind::Led, "led"), (RoundKind::Open, "open")] {
        for count in [4, 7, 16, 32] {
            let heights = if count > 16 { 20 } else { 100 };
            let Measured { cpu_ns, message_count, message_size, .. } =
                measure(count, 500, 40, (heights, kind), clock())?;
            let cpu_us = cpu_ns / 1_000;
            println!("{name:<7} {count:<3} {cpu_us:>29} {message_count:>19} {message_size:>16}");
        }
    }
    println!();
    println!("n   one-way delay us   us a height, led   us a height, open");
    for count in [4, 7] {
        for delay_us in [500, 5_000, 50_000] {
            let height_us = |kind| -> Result<u64, Box<Violation>> {
                let Measured { height_us, .. } = measure(count, delay_us, 1, (200, kind), clock())?;
                Ok(height_us)
            };
            let (led_us, open_us) = (height_us(RoundKind::Led)?, height_us(RoundKind::Open)?);
            println!("{count:<3} {delay_us:>16} {led_us:>18} {open_us:>19}");
        }
    }
    println!();
    println!("n   one-way delay us   quorum of acks to commit us: median, worst, heights");
    for count in [4, 7, 16] {
        for delay_us in [1_000, 100_000] {
            let Measured { commit_us: (median, worst), commit_count, .. } =
                measure(count, delay_us, 60_000, (40, RoundKind::Led), clock())?;
            println!("{count:<3} {delay_us:>16} {median:>18} {worst:>8} {commit_count:>6}");
        }
    }
    Ok(())
}

//! Producers at full speed with so many batches in flight each, and their latencies.
#![expect(clippy::disallowed_methods, reason = "it measures time")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::Result;

/// How hard to push.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) producers: usize,
    pub(crate) batch: usize,
    /// Batches of a producer that wait for acknowledgement at most.
    pub(crate) in_flight: usize,
    /// Bytes of an event.
    pub(crate) size: usize,
    pub(crate) time: Duration,
}

/// A log that takes batches.
pub(crate) trait Peer: Sync {
    /// A connection that is ready for batches, and the bytes of one batch of events.
    fn connect(&self, producer: usize, events: &[Vec<u8>]) -> Result<(Connection, Vec<u8>)>;

    /// Reads the acknowledgements of one batch of `count` events.
    fn acknowledged(&self, reader: &mut BufReader<TcpStream>, count: usize) -> Result<()>;
}

/// A socket with a buffer for what comes.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) writer: TcpStream,
    pub(crate) reader: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Result<Self> {
        let writer = TcpStream::connect(address)?;
        writer.set_nodelay(true)?;
        let reader = BufReader::with_capacity(1 << 18, writer.try_clone()?);
        Ok(Self { writer, reader })
    }

    pub(crate) fn say(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.writer.write_all(bytes)?)
    }
}

/// A line without its end.
pub(crate) fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut bytes = Vec::new();
    if reader.read_until(b'\n', &mut bytes)? == 0 {
        return Err("the server closed the connection".into());
    }
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// Reads and drops bytes.
pub(crate) fn skip(reader: &mut impl BufRead, mut count: usize) -> Result<()> {
    while count > 0 {
        let held = reader.fill_buf()?.len().min(count);
        if held == 0 {
            return Err("the server closed the connection".into());
        }
        reader.consume(held);
        count -= held;
    }
    Ok(())
}

pub(crate) fn exactly(reader: &mut impl Read, count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Letters that nobody's compression makes much of, different for each event.
fn events(count: usize, size: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state % 64) as usize]
    };
    (0..count).map(|_| (0..size).map(|_| letter()).collect()).collect()
}

/// Pushes for the load's time; gives the report.
pub(crate) fn produce(load: &Load, peer: &impl Peer) -> Result<String> {
    let events = events(load.batch, load.size);
    let made = (0..load.producers).map(|producer| peer.connect(producer, &events));
    let connections = made.collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    let latencies = std::thread::scope(|scope| {
        let pushing: Vec<_> = connections
            .into_iter()
            .map(|(connection, batch)| {
                scope.spawn(move || push(load, peer, connection, &batch, start))
            })
            .collect();
        let mut all = Vec::new();
        for one in pushing {
            all.extend(one.join().map_err(|_| "a producer panicked")??);
        }
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(all)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let mut micros: Vec<u128> = latencies.iter().map(Duration::as_micros).collect();
    micros.sort_unstable();
    let percentile = |percent: usize| {
        let index = micros.len().saturating_sub(1) * percent / 100;
        micros.get(index).copied().unwrap_or(0)
    };
    let count = latencies.len() * load.batch;
    Ok(format!(
        "{{\"events\":{count},\"seconds\":{seconds:.6},\"events_per_second\":{:.1},\"p50_us\":{},\"p99_us\":{}}}",
        count as f64 / seconds,
        percentile(50),
        percentile(99),
    ))
}

/// One producer.
fn push(
    load: &Load,
    peer: &impl Peer,
    mut connection: Connection,
    batch: &[u8],
    start: Instant,
) -> Result<Vec<Duration>> {
    if load.in_flight == 1 {
        // No other thread, whose waking would be measured too.
        let mut latencies = Vec::new();
        while start.elapsed() < load.time {
            let sent = Instant::now();
            connection.say(batch)?;
            peer.acknowledged(&mut connection.reader, load.batch)?;
            latencies.push(sent.elapsed());
        }
        return Ok(latencies);
    }
    let Connection { mut writer, mut reader } = connection;
    let (sent, when) = mpsc::channel::<Instant>();
    let (free, slots) = mpsc::channel::<()>();
    for _ in 0..load.in_flight {
        free.send(())?;
    }
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut latencies = Vec::new();
            while let Ok(when) = when.recv() {
                peer.acknowledged(&mut reader, load.batch)?;
                latencies.push(when.elapsed());
                // The writer may have ended.
                let _ = free.send(());
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(latencies)
        });
        while start.elapsed() < load.time && slots.recv().is_ok() {
            sent.send(Instant::now())?;
            writer.write_all(batch)?;
        }
        drop(sent);
        reading.join().map_err(|_| "a reader panicked")?
    })
}

/// Times one reader of so many events.
pub(crate) fn consume(events: usize, read: impl FnOnce(usize) -> Result<usize>) -> Result<String> {
    let start = Instant::now();
    let count = read(events)?;
    let seconds = start.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    Ok(format!("{{\"events\":{count},\"seconds\":{seconds:.6},\"events_per_second\":{rate:.1}}}"))
}

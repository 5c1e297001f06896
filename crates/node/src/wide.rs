//! Wide hardware, once a process: what its kernels cost here, which devices there are, and what is not as it should be.

use std::sync::Once;
use std::time::Instant;

use quipu_accel::gpu::{Cuda, OpenError};

/// Measures the processor's kernels (a millisecond), then opens devices on a thread of its own (seconds): until one
/// serves, the processor does. Does nothing the second time.
pub(crate) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        calibrate();
        let accel = quipu_accel::default();
        if accel.takes_devices() {
            let opened = std::thread::Builder::new().name("quipu-devices".into()).spawn(open);
            if let Err(error) = opened {
                tracing::warn!(%error, "no thread to look for devices; the processor does all work");
            }
        }
        let report = accel.report();
        if report.is_worrying() {
            tracing::warn!(%report, "not every kernel serves; the next one does its work");
        } else {
            tracing::debug!(%report, "kernels");
        }
    });
}

fn calibrate() {
    let start = Instant::now();
    let now_ns = || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    quipu_accel::default().calibrate(&now_ns);
}

fn open() {
    let accel = quipu_accel::default();
    match Cuda::open() {
        Ok(cuda) => {
            let device = cuda.device().to_owned();
            accel.attach(vec![Box::new(cuda)]);
            calibrate();
            tracing::info!(device, report = %accel.report(), "a device takes large batches");
        }
        Err(OpenError::Absent { missing }) => tracing::debug!(missing, "no device"),
        Err(error) => {
            tracing::warn!(%error, "a device does not start; the processor does its work")
        }
    }
}

//! The process's measurements, as Prometheus reads them. Every name begins with `quipu_` and ends in its unit.
//!
//! Handles belong to one node, not to the process: several nodes in one process do not mix their numbers.

use std::fmt;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use quipu_accel::OperationCount;
use quipu_crypto::CacheCounts;
use quipu_types::{Code, ValidatorIndex};

use crate::links::LinkMetrics;

const METADATA: Metadata<'static> = Metadata::new("quipu", Level::INFO, None);

/// Handles of everything that is measured.
pub(crate) struct Metrics {
    registry: Registry,
    handle: PrometheusHandle,
    /// What consumer groups lack, as text: groups come and go, and the registry forgets no name.
    group_lags: Mutex<String>,
    /// Newest committed height.
    pub(crate) height_committed: Gauge,
    /// Newest executed height.
    pub(crate) height_executed: Gauge,
    /// Newest height with a state certificate in a header.
    pub(crate) height_certified: Gauge,
    /// Ticks a second that the clocks' core makes; 0 where clocks have no thread.
    pub(crate) clock_capacity: Gauge,
    /// Transactions that were executed.
    pub(crate) transactions: Counter,
    /// Events that were applied.
    pub(crate) events: Counter,
    /// Events of a height.
    pub(crate) batch_events: Histogram,
    /// Bytes appended to the log.
    pub(crate) log_bytes: Counter,
    /// Time of one group sync.
    pub(crate) sync_seconds: Histogram,
    /// Time of executing one height.
    pub(crate) execute_seconds: Histogram,
    /// Time from submission to answer.
    pub(crate) submit_seconds: Histogram,
    /// Messages of other validators that were refused.
    pub(crate) peer_refused: Counter,
    /// Bodies that travel in stripes.
    pub(crate) stripes: StripeMetrics,
    /// Bytes of transactions that wait to be ordered.
    pub(crate) pending_bytes: Gauge,
    /// Connections of the HTTP listener.
    pub(crate) http_connections: Gauge,
    /// Connections of the PostgreSQL listener.
    pub(crate) pg_connections: Gauge,
    /// Followers of streams.
    pub(crate) followers: Gauge,
    /// Bytes of the directory's disk that are free.
    pub(crate) disk_free_bytes: Gauge,
    /// Seconds since the start.
    pub(crate) uptime_seconds: Gauge,
}

/// What is counted of bodies that travel in stripes.
pub(crate) struct StripeMetrics {
    /// Stripes sent or passed on.
    pub(crate) sent: Counter,
    /// Stripes that came and proved themselves.
    pub(crate) received: Counter,
    /// Stripes that did not prove themselves, or gave no chunk.
    pub(crate) refused: Counter,
    /// Chunks made whole of stripes.
    pub(crate) restored: Counter,
}

impl StripeMetrics {
    fn new(registry: &Registry) -> Self {
        let counter = |name, text| registry.counter(name, text);
        Self {
            sent: counter(
                "quipu_stripes_sent_total",
                "Stripes of chunks' bodies sent or passed on.",
            ),
            received: counter(
                "quipu_stripes_received_total",
                "Stripes of chunks' bodies that came and proved themselves.",
            ),
            refused: counter(
                "quipu_stripes_refused_total",
                "Stripes of chunks' bodies that did not prove themselves, or gave no chunk.",
            ),
            restored: counter("quipu_bodies_restored_total", "Chunks made whole of stripes."),
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// Where names are described and handles come from.
struct Registry(PrometheusRecorder);

impl Registry {
    fn new() -> Self {
        let seconds =
            [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];
        let counts = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];
        let events = Matcher::Full("quipu_batch_events".into());
        let recorder = PrometheusBuilder::new()
            .set_buckets(&seconds)
            .and_then(|builder| builder.set_buckets_for_metric(events, &counts))
            .expect("the lists of buckets are not empty")
            .build_recorder();
        for (name, text) in [
            ("quipu_refused_total", "Transactions refused, by code."),
            ("quipu_garbage_connections_total", "Connections closed for bytes of no protocol."),
            ("quipu_http_requests_total", "HTTP requests, by status."),
            ("quipu_accel_calls_total", "Batches given to wide kernels, by operation."),
            ("quipu_accel_items_total", "Items of those batches, by operation."),
            ("quipu_cache_hits_total", "What a cache was asked for and had, by cache."),
            ("quipu_cache_misses_total", "What a cache was asked for and had not, by cache."),
        ] {
            recorder.describe_counter(KeyName::from_const_str(name), None, text_of(text));
        }
        recorder.describe_gauge(
            KeyName::from_const_str("quipu_lane_lag_transactions"),
            None,
            text_of("Transactions of a lane that are held here and that no committed cut covers."),
        );
        recorder.describe_gauge(
            KeyName::from_const_str("quipu_clock_rate_hertz"),
            None,
            text_of(
                "Ticks a second of a lane's clock over the last heights, by the time of headers.",
            ),
        );
        recorder.describe_gauge(
            KeyName::from_const_str("quipu_state_vote_p99_seconds"),
            Some(Unit::Seconds),
            text_of("Time after a commit within which 99 of 100 of a validator's last state votes came."),
        );
        Self(recorder)
    }

    fn gauge(&self, name: &'static str, unit: Option<Unit>, text: &'static str) -> Gauge {
        self.0.describe_gauge(KeyName::from_const_str(name), unit, text_of(text));
        self.0.register_gauge(&Key::from_static_name(name), &METADATA)
    }

    /// A gauge without a unit.
    fn number(&self, name: &'static str, text: &'static str) -> Gauge {
        self.gauge(name, None, text)
    }

    fn counter(&self, name: &'static str, text: &'static str) -> Counter {
        self.0.describe_counter(KeyName::from_const_str(name), None, text_of(text));
        self.0.register_counter(&Key::from_static_name(name), &METADATA)
    }

    fn histogram(&self, name: &'static str, unit: Option<Unit>, text: &'static str) -> Histogram {
        self.0.describe_histogram(KeyName::from_const_str(name), unit, text_of(text));
        self.0.register_histogram(&Key::from_static_name(name), &METADATA)
    }
}

impl Metrics {
    /// Fresh measurements, all zero.
    pub(crate) fn new() -> Arc<Self> {
        let registry = Registry::new();
        let (bytes, seconds) = (Some(Unit::Bytes), Some(Unit::Seconds));
        let metrics = Self {
            handle: registry.0.handle(),
            group_lags: Mutex::default(),
            height_committed: registry.number("quipu_height_committed", "Newest committed height."),
            height_executed: registry.number("quipu_height_executed", "Newest executed height."),
            height_certified: registry.number("quipu_height_certified", "Newest height whose state certificate is stored."),
            clock_capacity: registry.number("quipu_clock_capacity_hertz", "Ticks a second that the core of the clocks' thread made at the start; 0 without one."),
            transactions: registry.counter("quipu_transactions_total", "Executed transactions."),
            events: registry.counter("quipu_events_total", "Applied events."),
            batch_events: registry.histogram("quipu_batch_events", None, "Events of a height."),
            log_bytes: registry.counter("quipu_log_bytes_total", "Bytes appended to the log."),
            sync_seconds: registry.histogram(
                "quipu_log_sync_seconds",
                seconds,
                "Time of one group sync of the log.",
            ),
            execute_seconds: registry.histogram(
                "quipu_execute_seconds",
                seconds,
                "Time of executing one height.",
            ),
            submit_seconds: registry.histogram(
                "quipu_submit_seconds",
                seconds,
                "Time from admission to the answer.",
            ),
            peer_refused: registry.counter(
                "quipu_peer_messages_refused_total",
                "Messages of other validators that were refused.",
            ),
            stripes: StripeMetrics::new(&registry),
            pending_bytes: registry.gauge(
                "quipu_pending_bytes",
                bytes,
                "Transactions that wait to be ordered and executed.",
            ),
            http_connections: registry.number("quipu_http_connections", "Open HTTP connections."),
            pg_connections: registry.number("quipu_pg_connections", "Open PostgreSQL connections."),
            followers: registry.number("quipu_followers", "Streams that are being read."),
            disk_free_bytes: registry.gauge(
                "quipu_disk_free_bytes",
                bytes,
                "Free bytes of the directory's disk.",
            ),
            uptime_seconds: registry.gauge("quipu_uptime_seconds", seconds, "Time running."),
            registry,
        };
        metrics.show_zeros();
        Arc::new(metrics)
    }

    /// What counts with labels is shown before it first counts.
    fn show_zeros(&self) {
        for listener in ["http", "pg", "admin"] {
            self.garbage(listener).increment(0);
        }
        drop(self.links());
    }

    /// What links with other validators count; the same counters each time.
    pub(crate) fn links(&self) -> LinkMetrics {
        LinkMetrics::new(|name, text, label| {
            let recorder = &self.registry.0;
            recorder.describe_counter(KeyName::from_const_str(name), None, text_of(text));
            let label = label.map(|(key, value)| metrics::Label::from_static_parts(key, value));
            let key = Key::from_parts(name, label.into_iter().collect::<Vec<_>>());
            recorder.register_counter(&key, &METADATA)
        })
    }

    /// What the process asked of wide kernels since its start: items by calls is the mean batch.
    pub(crate) fn accel(&self, counts: &[OperationCount]) {
        for count in counts {
            let label = metrics::Label::from_static_parts("operation", count.operation);
            let of = |name| {
                let key = Key::from_parts(name, vec![label.clone()]);
                self.registry.0.register_counter(&key, &METADATA)
            };
            of("quipu_accel_calls_total").absolute(count.calls);
            of("quipu_accel_items_total").absolute(count.items);
        }
    }

    /// How often a cache was asked since the start, and knew.
    pub(crate) fn cache(&self, cache: &'static str, counts: CacheCounts) {
        let labels = || vec![metrics::Label::from_static_parts("cache", cache)];
        let of =
            |name| self.registry.0.register_counter(&Key::from_parts(name, labels()), &METADATA);
        of("quipu_cache_hits_total").absolute(counts.hits);
        of("quipu_cache_misses_total").absolute(counts.misses);
    }

    /// Connections that a listener closed because their bytes are of no protocol.
    pub(crate) fn garbage(&self, listener: &'static str) -> Counter {
        let key = Key::from_parts(
            "quipu_garbage_connections_total",
            vec![metrics::Label::from_static_parts("listener", listener)],
        );
        self.registry.0.register_counter(&key, &METADATA)
    }

    /// Transactions refused at admission, or when executed, with this code.
    pub(crate) fn refused(&self, code: Code) -> Counter {
        let label = metrics::Label::new("code", code.to_string());
        let key = Key::from_parts("quipu_refused_total", vec![label]);
        self.registry.0.register_counter(&key, &METADATA)
    }

    /// Transactions of a lane that are held here, and that no committed cut covers.
    pub(crate) fn lane_lag(&self, lane: u16) -> Gauge {
        let label = metrics::Label::new("lane", lane.to_string());
        let key = Key::from_parts("quipu_lane_lag_transactions", vec![label]);
        self.registry.0.register_gauge(&key, &METADATA)
    }

    /// Ticks a second of a lane's clock.
    pub(crate) fn lane_clock(&self, lane: u16) -> Gauge {
        let label = metrics::Label::new("lane", lane.to_string());
        let key = Key::from_parts("quipu_clock_rate_hertz", vec![label]);
        self.registry.0.register_gauge(&key, &METADATA)
    }

    /// Seconds within which 99 of 100 of a validator's last state votes came.
    pub(crate) fn state_vote_p99(&self, validator: ValidatorIndex) -> Gauge {
        let label = metrics::Label::new("validator", validator.to_string());
        let key = Key::from_parts("quipu_state_vote_p99_seconds", vec![label]);
        self.registry.0.register_gauge(&key, &METADATA)
    }

    /// HTTP requests answered with this status.
    pub(crate) fn http_requests(&self, status: u16) -> Counter {
        let label = metrics::Label::new("status", status.to_string());
        let key = Key::from_parts("quipu_http_requests_total", vec![label]);
        self.registry.0.register_counter(&key, &METADATA)
    }

    /// How many transactions each lane is beyond each group's cursor, in place of what was said before. Names need no
    /// escapes.
    pub(crate) fn set_group_lags(&self, lags: &[(String, u16, u64)]) {
        let mut text = String::new();
        if !lags.is_empty() {
            text.push_str("# HELP quipu_group_lag_transactions Committed transactions behind a consumer group's cursor.\n");
            text.push_str("# TYPE quipu_group_lag_transactions gauge\n");
        }
        for (group, lane, lag) in lags {
            // Text takes everything.
            let _ = writeln!(
                text,
                "quipu_group_lag_transactions{{group=\"{group}\",lane=\"{lane}\"}} {lag}"
            );
        }
        *self.group_lags.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// The text that Prometheus reads.
    pub(crate) fn render(&self) -> String {
        self.handle.run_upkeep();
        let mut text = self.handle.render();
        text.push_str(&self.group_lags.lock().unwrap_or_else(PoisonError::into_inner));
        text
    }

    /// Every sample as (name with labels, value): what the table `quipu.metrics` shows.
    pub(crate) fn samples(&self) -> Vec<(String, f64)> {
        let text = self.render();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            })
            .collect()
    }
}

fn text_of(text: &'static str) -> metrics::SharedString {
    metrics::SharedString::const_str(text)
}

/// A number as a gauge shows it; exact below 2^53.
#[must_use]
pub(crate) fn gauge_value(number: u64) -> f64 {
    let high = u32::try_from(number >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(number & 0xffff_ffff).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_carry_names_labels_and_values_and_nodes_do_not_mix() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.events.increment(3);
        one.refused(quipu_types::code::BAD_SIGNATURE).increment(2);
        let samples = one.samples();
        assert!(samples.contains(&("quipu_events_total".into(), 3.0)), "{samples:?}");
        assert!(samples.contains(&("quipu_refused_total{code=\"QP0101\"}".into(), 2.0)));
        assert!(other.samples().contains(&("quipu_events_total".into(), 0.0)));
    }

    #[test]
    fn a_group_that_went_is_not_shown_any_more() {
        let metrics = Metrics::new();
        metrics.set_group_lags(&[("old".into(), 0, 7)]);
        metrics.set_group_lags(&[("new".into(), 3, 5)]);
        let text = metrics.render();
        assert!(
            text.ends_with("gauge\nquipu_group_lag_transactions{group=\"new\",lane=\"3\"} 5\n")
        );
        assert!(!text.contains("\"old\""), "{text}");
        metrics.set_group_lags(&[]);
        assert!(!metrics.render().contains("group_lag"));
    }

    #[test]
    fn gauges_are_exact_for_whole_numbers_below_two_to_the_53() {
        assert!((gauge_value((1 << 53) - 1) - 9_007_199_254_740_991.0).abs() < 0.5);
    }
}

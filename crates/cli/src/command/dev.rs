//! `quipu dev`: one command from nothing to a running ledger with real data in it.
//!
//! ```text
//!  this process ── node0 ── node1 ── node2 ── node3     each with a directory and listeners of its own
//!                   ^ http, and the links between them, on loopback
//!                   └── client: the sample, the live line
//! ```
//! Ports are chosen anew at every start and told to all, so that a port that was taken meanwhile stops nothing.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures::future::select_all;
use quipu_client::Client;
use quipu_node::{Config, Node, NodeError, Running};
use quipu_types::{Genesis, code};
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::tamper;
use crate::args::Dev;
use crate::args::rules::Rules;
use crate::failure::{Failure, Result};
use crate::local::{self, FreePorts, HTTP_PORT, Layout, PG_PORT, Ports};
use crate::sample::{self, Plan};
use crate::validator::{asked_to_stop, log_to};
use crate::{screen, tools};

/// How often the live line is drawn.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);
/// Validators of a new ledger: the fewest of which one may fail.
const DEV_VALIDATOR_COUNT: usize = 4;
/// Most validators of a new ledger: two of seven may fail.
const DEV_VALIDATOR_COUNT_MAX: usize = 7;

/// What `--url-file` holds: the first validator's addresses, and everyone's.
#[derive(Debug, Serialize)]
struct Urls {
    #[serde(flatten)]
    first: NodeUrls,
    /// The genesis file.
    genesis: PathBuf,
    /// The ledger's directory.
    dir: PathBuf,
    /// All validators, in the order of the genesis.
    nodes: Vec<NodeUrls>,
}

/// Addresses of one validator.
#[derive(Clone, Debug, Serialize)]
struct NodeUrls {
    name: String,
    /// Connection URL of the PostgreSQL wire.
    pg: String,
    /// The HTTP interface.
    http: String,
    /// Health and metrics.
    admin: String,
}

impl Urls {
    fn new(nodes: Vec<NodeUrls>, layout: &Layout) -> Result<Self> {
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let none = || Failure::new(code::GENESIS, "the genesis names no validators");
        Ok(Self {
            first: nodes.first().cloned().ok_or_else(none)?,
            genesis: whole(&layout.genesis()),
            dir: whole(layout.dir()),
            nodes,
        })
    }
}

impl NodeUrls {
    fn new(name: String, listen: &Running) -> Self {
        Self {
            name,
            pg: format!("postgresql://dev@{}/quipu", listen.pg),
            http: format!("http://{}", listen.http),
            admin: format!("http://{}", listen.admin),
        }
    }
}

/// Runs a ledger until it is asked to stop.
pub(crate) fn run(args: Dev) -> Result<()> {
    if args.tamper && args.no_sample {
        return Err(Failure::usage("--tamper needs the sample, --no-sample leaves it out"));
    }
    let layout = Layout::new(&args.dir);
    let fresh = !layout.genesis().exists();
    let count = validator_count(&args, &layout)?;
    let ports = choose_ports(&args, count)?;
    if fresh {
        local::create(
            &layout,
            &vec![1; count],
            &ports,
            (local::CLOCK_RATE_HZ, Rules::default().stake()),
        )?;
    }
    let genesis = tools::genesis(&layout.genesis())?;
    let mut nodes = Vec::new();
    for (index, (validator, own)) in genesis.validators.iter().zip(&ports).enumerate() {
        let mut config = Config::read(&layout.node(index))?;
        local::listen(&mut config, *own);
        config.peers = local::peers(index, &ports);
        // Nobody has a password yet, so only a ledger for development lets whoever connects write.
        config.roles.entry("dev".into()).or_insert_with(|| layout.dev_key());
        if args.tamper {
            // A chunk in memory is still right: ask for what the disk holds.
            config.limits.chunk_cache_size = 0;
        }
        if index == 0 {
            log_to(Some(&layout.log()), &config)?;
        }
        nodes.push((validator.name.clone(), Node::open(config)?));
    }
    tools::runtime()?.block_on(serve(args, layout, genesis, nodes, fresh))
}

/// As many as the directory has; in a new one, as many as are asked for.
fn validator_count(args: &Dev, layout: &Layout) -> Result<usize> {
    if layout.genesis().exists() {
        let found = tools::genesis(&layout.genesis())?.validators.len();
        return match args.validators {
            Some(wanted) if wanted != found => Err(Failure::usage(format!(
                "--validators {wanted}: {} holds a ledger of {found}",
                layout.dir().display()
            ))
            .with_help("Leave --validators out to continue it, or choose another --dir.")),
            _ => Ok(found),
        };
    }
    let count = args.validators.unwrap_or(DEV_VALIDATOR_COUNT);
    if count == 0 || count > DEV_VALIDATOR_COUNT_MAX {
        return Err(Failure::usage(format!(
            "--validators {count}: one process runs 1 to {DEV_VALIDATOR_COUNT_MAX}"
        )));
    }
    Ok(count)
}

/// Ports for each validator: those asked for, or the well known ones and the next free ones.
fn choose_ports(args: &Dev, count: usize) -> Result<Vec<Ports>> {
    let mut free = FreePorts::new();
    for port in [args.http, args.pg].into_iter().flatten().filter(|port| *port != 0) {
        // When it is taken, whoever listens there is named when the validator starts.
        let _ = free.hold(port);
    }
    let mut ports = Vec::new();
    for index in 0..count {
        let http = pick(&mut free, index, args.http, HTTP_PORT)?;
        let pg = pick(&mut free, index, args.pg, PG_PORT)?;
        // Nobody has to find the only one.
        let peer = if count == 1 { 0 } else { free.any()? };
        ports.push(Ports { http, pg, admin: 0, peer });
    }
    Ok(ports)
}

/// The port given, for the first validator; else the next free one from there, or from the well known one.
fn pick(free: &mut FreePorts, index: usize, given: Option<u16>, known: u16) -> Result<u16> {
    match (index, given) {
        (0, Some(port)) => Ok(port),
        (_, Some(0)) => free.any(),
        (_, given) => match free.first_from(given.unwrap_or(known)) {
            Some(port) => Ok(port),
            None => free.any(),
        },
    }
}

/// The validators, running in this process.
pub(crate) struct Validators(Vec<Validator>);

struct Validator {
    name: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), NodeError>>,
}

impl Validators {
    fn start(nodes: Vec<(String, Node)>) -> Self {
        let start = |(name, node): (String, Node)| {
            let (stop, asked) = oneshot::channel();
            let running = tokio::spawn(node.run(async move { drop(asked.await) }));
            Validator { name, stop, running }
        };
        Self(nodes.into_iter().map(start).collect())
    }

    /// Ends when a validator can not go on; says which.
    async fn failed(&mut self) -> Failure {
        let running = self.0.iter_mut().map(|validator| &mut validator.running);
        let (ended, index, _) = select_all(running).await;
        // It has given its result, and has none for `stop`.
        let name = self.0.remove(index).name;
        let failure = match outcome(ended) {
            Ok(()) => Failure::new(code::STOPPING, "the validator stopped"),
            Err(failure) => failure,
        };
        failure.of(&name)
    }

    /// Takes nothing new, finishes what was taken, closes everything.
    pub(crate) async fn stop(self) -> Result<()> {
        let mut left = Vec::new();
        for Validator { name, stop, running } in self.0 {
            // A validator that has ended already does not listen.
            let _ = stop.send(());
            left.push((name, running));
        }
        let mut result = Ok(());
        for (name, running) in left {
            let ended = outcome(running.await).map_err(|failure| failure.of(&name));
            result = result.and(ended);
        }
        result
    }
}

fn outcome(ended: Result<Result<(), NodeError>, JoinError>) -> Result<()> {
    match ended {
        Ok(result) => Ok(result?),
        Err(error) => Err(Failure::new(code::CONFIG, error)),
    }
}

async fn serve(
    args: Dev,
    layout: Layout,
    genesis: Genesis,
    nodes: Vec<(String, Node)>,
    fresh: bool,
) -> Result<()> {
    let urls = nodes.iter().map(|(name, node)| NodeUrls::new(name.clone(), &node.running()));
    let urls = Urls::new(urls.collect(), &layout)?;
    let client = Client::new(&urls.first.http)?.with_genesis(&genesis);
    let mut validators = Validators::start(nodes);
    let shown = Shown { args: &args, layout: &layout, genesis: &genesis, urls: &urls, fresh };
    let ended = tokio::select! {
        failure = validators.failed() => Err(failure),
        asked = asked_to_stop() => asked.map(|()| false),
        shown = shown.run(&client) => shown.map(|()| true),
    };
    let ended = match ended {
        Ok(true) if args.tamper => return tamper::run(&layout, &client, validators).await,
        Ok(true) => tokio::select! {
            failure = validators.failed() => Err(failure),
            asked = asked_to_stop() => asked,
            () = live_line(&client) => Ok(()),
        },
        Ok(false) => Ok(()),
        Err(failure) => Err(failure),
    };
    // What was taken is finished; when there is a failure, that is the reason to end.
    ended.and(validators.stop().await)
}

/// What is printed when everything runs.
struct Shown<'a> {
    args: &'a Dev,
    layout: &'a Layout,
    genesis: &'a Genesis,
    urls: &'a Urls,
    fresh: bool,
}

impl Shown<'_> {
    /// Loads the sample and prints what to copy.
    async fn run(&self, client: &Client) -> Result<()> {
        let chain = client.chain().await?;
        let state = if self.fresh { "new" } else { "continued" };
        let what = match self.urls.nodes.len() {
            1 => "one validator".to_owned(),
            count => format!("{count} validators"),
        };
        tools::print(&screen::bold(&format!("Quipu: a ledger of {what}, on this machine.")))?;
        tools::print(&format!("  chain      {chain} ({state})"))?;
        self.validators()?;
        if self.args.no_sample {
            tools::print("  sample     not loaded (--no-sample)")?;
        } else {
            tools::print(&format!("  sample     {}", load(self.layout, client).await?))?;
        }
        tools::print("")?;
        for (name, value) in self.lines() {
            tools::print(&format!("  {name:<10} {value}"))?;
        }
        tools::print("")?;
        tools::print(&screen::dim(
            "Try: select carrier, count(*) from flights group by 1 order by 2 desc",
        ))?;
        if let Some(path) = &self.args.url_file {
            let text = serde_json::json!(self.urls).to_string();
            local::write_atomically(path, format!("{text}\n"))?;
        }
        tools::print(if self.args.tamper { "ready" } else { "ready; Ctrl-C stops" })
    }

    /// One line each: who, with which power, where.
    fn validators(&self) -> Result<()> {
        let total = self.genesis.validator_set().power_total();
        for (index, (validator, urls)) in
            self.genesis.validators.iter().zip(&self.urls.nodes).enumerate()
        {
            let title = if index == 0 { "validators" } else { "" };
            let at = if self.urls.nodes.len() == 1 {
                String::new()
            } else {
                format!("  {}  psql \"{}\"", urls.http, urls.pg)
            };
            tools::print(&format!(
                "  {title:<10} {}, power {} of {total}{at}",
                validator.name, validator.power
            ))?;
        }
        Ok(())
    }

    fn lines(&self) -> [(&'static str, String); 8] {
        let urls = &self.urls.first;
        let jdbc = urls.pg.replace("postgresql://dev@", "jdbc:postgresql://") + "?user=dev";
        let http = &urls.http;
        [
            ("psql", format!("psql \"{}\"", urls.pg)),
            ("JDBC", jdbc),
            ("HTTP", format!("{http}/v1/status   described by {http}/v1/openapi.json")),
            ("gRPC", format!("grpcurl -plaintext {} list", http.replace("http://", ""))),
            ("metrics", format!("{}/metrics", urls.admin)),
            ("keys", format!("{}   unsafe, for development", self.layout.dev_key().display())),
            ("genesis", self.layout.genesis().display().to_string()),
            ("log", self.layout.log().display().to_string()),
        ]
    }
}

/// Loads what is missing of the sample; says what was done.
async fn load(layout: &Layout, client: &Client) -> Result<String> {
    let start = Instant::now();
    let path = layout.sample_key();
    if !path.exists() {
        if sample::has_stream(client, "flights").await? {
            return Ok("another key's; left as it is".into());
        }
        quipu_crypto::keyfile::save(&path, &quipu_crypto::SecretKey::generate(), None)?;
    }
    let key = quipu_crypto::keyfile::load(&path, None)?;
    let genesis: Genesis = client.get("/v1/genesis").await?;
    let plan = Plan::new(&key, genesis.lane_count)?;
    let row_count = plan.row_count();
    let bar = screen::bar("loading the sample", row_count);
    let appended = plan.load(client, &key, &bar).await?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let rows = screen::grouped(row_count);
    if appended == 0 {
        return Ok(format!("{rows} rows, loaded before"));
    }
    let rate = u64::try_from(
        (u128::from(appended) * 1_000).checked_div(start.elapsed().as_millis()).unwrap_or(0),
    )
    .unwrap_or(u64::MAX);
    Ok(format!(
        "{rows} rows in 4 streams, {} of them loaded in {seconds:.1} s ({} rows/s)",
        screen::grouped(appended),
        screen::grouped(rate)
    ))
}

/// One line that lives, on a terminal; waits for ever elsewhere.
async fn live_line(client: &Client) {
    let line = screen::spinner("");
    let mut ticks = tokio::time::interval(STATUS_INTERVAL);
    loop {
        ticks.tick().await;
        if line.is_hidden() {
            return std::future::pending().await;
        }
        let Ok(status) = client.get::<serde_json::Value>("/v1/status").await else { continue };
        let number =
            |path: &str| status.pointer(path).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        let waiting = status.get("waiting").and_then(serde_json::Value::as_str);
        let waiting = waiting.map(|what| format!("  waiting: {what}")).unwrap_or_default();
        line.set_message(format!(
            "height {:.0}  executed {:.0}  {:.0} events/s{waiting}",
            number("/height"),
            number("/executed_height"),
            number("/rates/events_per_second")
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::local::node_name;

    fn args(validators: Option<usize>, http: Option<u16>, pg: Option<u16>) -> Dev {
        Dev {
            dir: "quipu-dev".into(),
            validators,
            no_sample: true,
            url_file: None,
            pg,
            http,
            tamper: false,
        }
    }

    #[test]
    fn an_existing_directory_keeps_its_validators() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let count = |wanted| validator_count(&args(wanted, None, None), &layout);
        assert_eq!(count(None).unwrap(), DEV_VALIDATOR_COUNT);
        assert_eq!(count(Some(7)).unwrap(), 7);
        assert_eq!(
            (count(Some(0)).unwrap_err().exit(), count(Some(8)).unwrap_err().exit()),
            (2, 2)
        );
        local::create(&layout, &[1], &[Ports::ANY], (local::CLOCK_RATE_HZ, None)).unwrap();
        assert_eq!((count(None).unwrap(), count(Some(1)).unwrap()), (1, 1));
        let refused = count(Some(4)).unwrap_err();
        assert!(refused.message().contains("holds a ledger of 1"), "{refused}");
    }

    #[test]
    fn ports_of_all_validators_differ_and_the_first_has_those_asked_for() {
        let wanted = FreePorts::new().any().unwrap();
        for (http, pg) in [(None, None), (Some(0), Some(0)), (Some(wanted), Some(0))] {
            let ports = choose_ports(&args(Some(4), http, pg), 4).unwrap();
            assert_eq!(ports[0].http, http.unwrap_or(ports[0].http));
            let all = ports.iter().flat_map(|ports| [ports.http, ports.pg, ports.peer]);
            let all: Vec<u16> = all.filter(|port| *port != 0).collect();
            let different: BTreeSet<u16> = all.iter().copied().collect();
            assert_eq!(different.len(), all.len(), "{ports:?}");
            assert!(ports.iter().all(|ports| ports.peer != 0), "{ports:?}");
        }
        let ports = choose_ports(&args(Some(1), Some(0), Some(0)), 1).unwrap();
        assert_eq!(ports, [Ports::ANY]);
    }

    fn validator(name: &str, ends: Option<NodeError>, stopped: &Arc<AtomicUsize>) -> Validator {
        let (stop, asked) = oneshot::channel();
        let stopped = Arc::clone(stopped);
        let running = tokio::spawn(async move {
            match ends {
                Some(error) => Err(error),
                None => {
                    drop(asked.await);
                    stopped.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                }
            }
        });
        Validator { name: name.into(), stop, running }
    }

    #[tokio::test]
    async fn a_validator_that_fails_is_named_and_the_others_are_stopped() {
        let stopped = Arc::new(AtomicUsize::new(0));
        let full = NodeError::Full { what: "the log", reason: "no space".into() };
        let mut validators = Validators(vec![
            validator("node0", None, &stopped),
            validator("node1", Some(full), &stopped),
            validator("node2", None, &stopped),
        ]);
        let failure = validators.failed().await;
        assert_eq!(failure.code(), "QP0302");
        assert!(failure.message().starts_with("node1: no room left"), "{failure}");
        validators.stop().await.unwrap();
        assert_eq!(stopped.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn several_validators_run_and_stop_in_one_process() {
        let dir = tempfile::tempdir().unwrap();
        let open = |index: usize| {
            let layout = Layout::new(&dir.path().join(index.to_string()));
            local::create(&layout, &[1], &[Ports::ANY], (local::CLOCK_RATE_HZ, None)).unwrap();
            Node::open(Config::read(&layout.node(0)).unwrap()).unwrap()
        };
        let nodes: Vec<(String, Node)> =
            (0..2).map(|index| (node_name(index), open(index))).collect();
        let urls: Vec<NodeUrls> =
            nodes.iter().map(|(name, node)| NodeUrls::new(name.clone(), &node.running())).collect();
        let validators = Validators::start(nodes);
        for urls in &urls {
            let chain = Client::new(&urls.http).unwrap().chain().await;
            assert!(chain.is_ok(), "{}: {chain:?}", urls.name);
        }
        validators.stop().await.unwrap();
        for urls in &urls {
            assert!(Client::new(&urls.http).unwrap().chain().await.is_err(), "{}", urls.name);
        }
        let text = serde_json::json!(Urls::new(urls, &Layout::new(dir.path())).unwrap());
        assert_eq!(text["http"], text["nodes"][0]["http"]);
        assert_eq!(text["nodes"][1]["name"], "node1");
    }
}

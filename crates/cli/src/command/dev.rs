//! `quipu dev`: one command from nothing to a running ledger with real data in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use quipu_client::Client;
use quipu_node::{Config, Node, NodeError, Running};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::tamper;
use crate::args::Dev;
use crate::failure::{Failure, Result};
use crate::local::{self, HTTP_PORT, Layout, PG_PORT, Ports};
use crate::sample::{self, Plan};
use crate::validator::{asked_to_stop, log_to};
use crate::{screen, tools};

/// How often the live line is drawn.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// What `--url-file` holds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Urls {
    /// Connection URL of the PostgreSQL wire.
    pub(crate) pg: String,
    /// The HTTP interface.
    pub(crate) http: String,
    /// Health and metrics.
    pub(crate) admin: String,
    /// The genesis file.
    pub(crate) genesis: PathBuf,
    /// The ledger's directory.
    pub(crate) dir: PathBuf,
}

impl Urls {
    fn new(listen: &Running, layout: &Layout) -> Self {
        let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self {
            pg: format!("postgresql://dev@{}/quipu", listen.pg),
            http: format!("http://{}", listen.http),
            admin: format!("http://{}", listen.admin),
            genesis: whole(&layout.genesis()),
            dir: whole(layout.dir()),
        }
    }
}

/// Runs a ledger until it is asked to stop.
pub(crate) fn run(args: Dev) -> Result<()> {
    local::check_validators(args.validators)?;
    if args.tamper && args.no_sample {
        return Err(Failure::usage("--tamper needs the sample, --no-sample leaves it out"));
    }
    let layout = Layout::new(&args.dir);
    let fresh = !layout.genesis().exists();
    if fresh {
        local::create(&layout, 1, Ports { http: 0, pg: 0, admin: 0 })?;
    }
    let mut config = Config::read(&layout.node())?;
    config.listen.http = address(args.http, HTTP_PORT)?;
    config.listen.pg = address(args.pg, PG_PORT)?;
    config.listen.admin.set_port(0);
    log_to(Some(&layout.log()), &config)?;
    let node = Node::open(config)?;
    tools::runtime()?.block_on(serve(args, layout, node, fresh))
}

/// The address of a listener: the port asked for, or the first free one from `first` on.
fn address(port: Option<u16>, first: u16) -> Result<SocketAddr> {
    let port = match port {
        Some(port) => port,
        None => local::free_port(first).unwrap_or(0),
    };
    Ok(SocketAddr::from(([127, 0, 0, 1], port)))
}

/// The validator, running in this process.
pub(crate) struct Validator {
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), NodeError>>,
}

impl Validator {
    fn start(node: Node) -> Self {
        let (stop, asked) = oneshot::channel();
        let running = tokio::spawn(node.run(async move { drop(asked.await) }));
        Self { stop, running }
    }

    /// Ends when the validator can not go on.
    async fn failed(&mut self) -> Failure {
        match (&mut self.running).await {
            Ok(Ok(())) => Failure::new(quipu_types::code::STOPPING, "the validator stopped"),
            Ok(Err(error)) => error.into(),
            Err(error) => Failure::new(quipu_types::code::CONFIG, error),
        }
    }

    /// Takes nothing new, finishes what was taken, closes everything.
    pub(crate) async fn stop(self) -> Result<()> {
        // A validator that has ended already does not listen.
        let _ = self.stop.send(());
        match self.running.await {
            Ok(result) => Ok(result?),
            Err(error) => Err(Failure::new(quipu_types::code::CONFIG, error)),
        }
    }
}

async fn serve(args: Dev, layout: Layout, node: Node, fresh: bool) -> Result<()> {
    let urls = Urls::new(&node.running(), &layout);
    let client = Client::new(&urls.http)?.with_genesis(&tools::genesis(&layout.genesis())?);
    let mut validator = Validator::start(node);
    let ended = tokio::select! {
        failure = validator.failed() => return Err(failure),
        asked = asked_to_stop() => asked.map(|()| false),
        shown = show(&args, &layout, &client, &urls, fresh) => shown.map(|()| true),
    };
    match ended {
        Ok(true) if args.tamper => return tamper::run(&layout, &client, validator).await,
        Ok(true) => tokio::select! {
            failure = validator.failed() => return Err(failure),
            asked = asked_to_stop() => asked?,
            () = live_line(&client) => {}
        },
        Ok(false) => {}
        Err(failure) => {
            // What was taken is finished; the reason to end is the failure.
            drop(validator.stop().await);
            return Err(failure);
        }
    }
    validator.stop().await
}

/// Loads the sample and prints what to copy.
async fn show(
    args: &Dev,
    layout: &Layout,
    client: &Client,
    urls: &Urls,
    fresh: bool,
) -> Result<()> {
    let chain = client.chain().await?;
    let state = if fresh { "new" } else { "continued" };
    tools::print(&screen::bold("Quipu: a ledger of one validator, on this machine."))?;
    tools::print(&format!("  chain      {chain} ({state})"))?;
    tools::print("  validators node0, power 1 of 1")?;
    if args.no_sample {
        tools::print("  sample     not loaded (--no-sample)")?;
    } else {
        tools::print(&format!("  sample     {}", load(layout, client).await?))?;
    }
    let lines = [
        ("psql", format!("psql \"{}\"", urls.pg)),
        ("JDBC", urls.pg.replace("postgresql://dev@", "jdbc:postgresql://") + "?user=dev"),
        ("HTTP", format!("{}/v1/status   described by {}/v1/openapi.json", urls.http, urls.http)),
        ("metrics", format!("{}/metrics", urls.admin)),
        ("keys", format!("{}   unsafe, for development", layout.dev_key().display())),
        ("genesis", layout.genesis().display().to_string()),
        ("log", layout.log().display().to_string()),
    ];
    tools::print("")?;
    for (name, value) in lines {
        tools::print(&format!("  {name:<10} {value}"))?;
    }
    tools::print("")?;
    tools::print(&screen::dim(
        "Try: select carrier, count(*) from flights group by 1 order by 2 desc",
    ))?;
    if let Some(path) = &args.url_file {
        let text = serde_json::json!(urls).to_string();
        local::write_atomically(path, &format!("{text}\n"))?;
    }
    tools::print(if args.tamper { "ready" } else { "ready; Ctrl-C stops" })
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
    let genesis: quipu_types::Genesis = client.get("/v1/genesis").await?;
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
        line.set_message(format!(
            "height {:.0}  executed {:.0}  {:.0} events/s",
            number("/height"),
            number("/executed_height"),
            number("/rates/events_per_second")
        ));
    }
}

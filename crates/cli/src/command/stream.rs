//! `quipu stream create`.

use quipu_client::Producer;
use quipu_types::{Action, RouteRule, Schema, StreamSpec, Writers};

use crate::args::Stream;
use crate::failure::{Failure, Result};
use crate::tools;

/// Creates a stream.
pub(crate) async fn run(args: Stream) -> Result<()> {
    let Stream::Create { server, signer, name, schema, route_by, compacted, json } = args;
    let schema = Schema::parse(&schema).map_err(Failure::usage)?;
    quipu_types::row::check_name(&name).map_err(Failure::usage)?;
    let route = match route_by {
        None => RouteRule::Signer,
        Some(column) if schema.index_of(&column).is_some() => RouteRule::Column(column),
        Some(column) => {
            return Err(Failure::usage(format!("--route-by: the schema has no column {column:?}")));
        }
    };
    let client = tools::client(&server)?;
    let key = tools::signer(&signer.signer)?;
    let writers = Writers::Anyone;
    let spec = StreamSpec { name: name.clone(), schema, route, writers, compacted };
    let mut producer = Producer::new(&client, &key).await?;
    let answer = producer.submit(None, vec![Action::CreateStream(spec)]).await?;
    if let Some(failure) = tools::refusal(&answer) {
        return Err(failure);
    }
    if json {
        return tools::print(&serde_json::json!(answer).to_string());
    }
    tools::print(&format!(
        "stream {name} created: {}  height {}  tx {}",
        answer.position.unwrap_or_default(),
        answer.height.unwrap_or_default(),
        answer.tx
    ))
}

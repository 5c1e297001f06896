//! `quipu prove`: fetches a proof bundle; waits a moment for a transaction that is only just final.

use std::time::Duration;

use quipu_client::ClientError;
use quipu_types::{Hash, code};

use crate::args::Prove;
use crate::failure::{Failure, Result};
use crate::tools;

/// Pause before asking again.
const PAUSE: Duration = Duration::from_millis(50);
/// How often to ask for a proof that can not be made yet.
const TRY_COUNT_MAX: u32 = 200;

/// Prints the bundle on standard output.
pub(crate) async fn run(args: Prove) -> Result<()> {
    let (tx, action) = parse(&args.tx)?;
    let client = tools::client(&args.server)?;
    let mut tries = 0_u32;
    let bundle = loop {
        let proof = match args.time {
            true => client.prove_time(&tx, action).await,
            false => client.prove(&tx, action).await,
        };
        match proof {
            Err(ClientError::Refused { code, .. })
                if code == code::PROOF_UNAVAILABLE.to_string() && tries < TRY_COUNT_MAX =>
            {
                tries = tries.saturating_add(1);
                tokio::time::sleep(PAUSE).await;
            }
            other => break other?,
        }
    };
    tools::print(bundle.trim_end())
}

/// `TX`, or `TX:ACTION`.
pub(super) fn parse(text: &str) -> Result<(Hash, Option<u32>)> {
    let wrong = || {
        Failure::usage(format!("{text:?} is not TX or TX:ACTION"))
            .with_help("TX has 64 hexadecimal digits; append prints it, and SQL shows it in _tx.")
    };
    let (tx, action) = match text.split_once(':') {
        None => (text, None),
        Some((tx, action)) => (tx, Some(action.parse().map_err(|_| wrong())?)),
    };
    Ok((tx.parse().map_err(|_| wrong())?, action))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_named_with_or_without_an_action() {
        let tx = "ab".repeat(32);
        assert_eq!(parse(&tx).expect("a name").1, None);
        assert_eq!(parse(&format!("{tx}:7")).expect("a name").1, Some(7));
        for wrong in ["", "ab", ":1", &format!("{tx}:"), &format!("{tx}:-1"), &tx.to_uppercase()] {
            assert_eq!(parse(wrong).expect_err("no name").exit(), 2, "{wrong}");
        }
    }
}

//! `quipu keys`: files that hold one key, readable by their owner only; verifiers of passwords.

use quipu_crypto::{SecretKey, account, keyfile};
use quipu_node::pg::Verifier;
use quipu_types::{Suite, code};

use crate::args::Keys;
use crate::failure::{Failure, Result};
use crate::tools;

/// Makes or shows a key.
pub(crate) fn run(args: Keys) -> Result<()> {
    match args {
        Keys::New { out, suite, passphrase } => {
            let passphrase =
                if passphrase { Some(new_secret("passphrase", "nothing was made")?) } else { None };
            let key = SecretKey::generate_for(Suite::from(suite));
            keyfile::save(&out, &key, passphrase.as_deref())?;
            tools::print(&format!("key file  {} (mode 0600)", out.display()))?;
            tools::print(&format!("public    {}", key.public()))?;
            tools::print(&format!("account   {}", key.account()))
        }
        Keys::Verifier => {
            let password = new_secret("password", "nothing is printed")?;
            if password.is_empty() {
                return Err(Failure::new(code::KEY_FILE, "the password is empty"));
            }
            let verifier = Verifier::of_password(&password)
                .map_err(|error| Failure::new(code::KEY_FILE, format!("no salt: {error}")))?;
            tools::print(&verifier.to_string())
        }
        Keys::Show { file, json } => {
            let info = keyfile::peek(&file)?;
            let account = account(&info.public);
            if json {
                let object = serde_json::json!({
                    "public": info.public, "account": account,
                    "suite": info.public.suite(), "sealed": info.sealed
                });
                return tools::print(&object.to_string());
            }
            let sealed = if info.sealed { "under a passphrase" } else { "no passphrase" };
            tools::print(&format!("public    {}", info.public))?;
            tools::print(&format!("account   {account}"))?;
            tools::print(&format!("sealed    {sealed}"))
        }
    }
}

/// Asks twice on a terminal.
fn new_secret(what: &str, otherwise: &str) -> Result<String> {
    use std::io::IsTerminal as _;
    let first = tools::ask_passphrase(&format!("New {what}: "))?;
    if std::io::stdin().is_terminal() && tools::ask_passphrase("Again: ")? != first {
        let message = format!("the two {what}s differ; {otherwise}");
        return Err(Failure::new(code::KEY_FILE, message));
    }
    Ok(first)
}

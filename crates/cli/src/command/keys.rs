//! `quipu keys`: files that hold one key, readable by their owner only.

use quipu_crypto::{SecretKey, account, keyfile};
use quipu_types::{Suite, code};

use crate::args::Keys;
use crate::failure::{Failure, Result};
use crate::tools;

/// Makes or shows a key.
pub(crate) fn run(args: Keys) -> Result<()> {
    match args {
        Keys::New { out, suite, passphrase } => {
            let passphrase = if passphrase { Some(new_passphrase()?) } else { None };
            let key = SecretKey::generate_for(Suite::from(suite));
            keyfile::save(&out, &key, passphrase.as_deref())?;
            tools::print(&format!("key file  {} (mode 0600)", out.display()))?;
            tools::print(&format!("public    {}", key.public()))?;
            tools::print(&format!("account   {}", key.account()))
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

fn new_passphrase() -> Result<String> {
    use std::io::IsTerminal as _;
    let first = tools::ask_passphrase("New passphrase: ")?;
    if std::io::stdin().is_terminal() && tools::ask_passphrase("Again: ")? != first {
        return Err(Failure::new(code::KEY_FILE, "the two passphrases differ; nothing was made"));
    }
    Ok(first)
}

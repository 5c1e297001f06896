//! `quipu verify`: is this proof true? Offline: the bundle and the genesis are all it reads.

use std::fmt::Write as _;
use std::path::Path;

use quipu_client::Evidence;
use quipu_client::evidence::EVIDENCE_SIZE_MAX;
use quipu_node::evidence::Misdeed;
use quipu_proof::{BeforeProof, Bound, Bundle, Committed, Handovers, Pinned, Verified};
use quipu_types::{
    Action, Call, Decode, Define, Encode, Genesis, GroupAction, GroupOp, Outcome, StakeAction, code,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value as Json, json};

use super::{clock, validators};
use crate::args::Verify;
use crate::failure::{Failure, Result};
use crate::local::write_atomically;
use crate::{screen, tools};

/// Longest payload that is printed.
const SHOWN_SIZE_MAX: usize = 256;
/// Most bytes of a file of hand-overs.
const EPOCHS_SIZE_MAX: usize = 1 << 30;

/// Verifies a bundle; says what it proves.
pub(crate) fn run(args: &Verify) -> Result<()> {
    let genesis = tools::genesis(&args.genesis)?;
    if let Some(path) = &args.evidence {
        return evidence(path, args, &genesis);
    }
    let bundle = args.bundle.as_deref().ok_or_else(|| Failure::usage("which bundle?"))?;
    let text = tools::read_text(bundle, "bundle")?;
    let mut pinned = followed(args, &genesis)?;
    let known = pinned.epoch();
    let shown = match is_order(&text) {
        true => order(&text, &mut pinned, args),
        false => single(&text, &mut pinned, args),
    };
    if let (Ok(_), Some(path)) = (&shown, &args.epochs)
        && (pinned.epoch() > known || !path.exists())
    {
        let handovers = pinned.handovers(0).map(|one| Committed::clone(one)).collect();
        write_atomically(path, Handovers(handovers).to_bytes())?;
    }
    match shown {
        Err(failure) if args.json => {
            let object =
                json!({ "valid": false, "code": failure.code(), "reason": failure.message() });
            tools::print(&object.to_string())?;
            Err(failure)
        }
        shown => tools::print(shown?.trim_end()),
    }
}

/// The validators by the genesis, and by what was followed before. The file is trusted for which branch was followed alone: what is
/// in it is verified again.
fn followed(args: &Verify, genesis: &Genesis) -> Result<Pinned> {
    let mut pinned = Pinned::of_checked(genesis);
    let Some(path) = args.epochs.as_deref().filter(|path| path.exists()) else {
        return Ok(pinned);
    };
    let bytes = tools::read_bytes(path, "the epochs", EPOCHS_SIZE_MAX)?;
    let kept = Handovers::from_bytes(&bytes)
        .map_err(|error| Failure::file("epochs", path, format!("it does not decode: {error}")))?;
    pinned.follow(&kept.0).map_err(|error| {
        Failure::is_false(code::PROOF_FALSE, format!("{}: {error}", path.display()))
    })?;
    Ok(pinned)
}

/// Whether the text is meant to be a proof of order.
fn is_order(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Linked {
        link: Option<IgnoredAny>,
    }
    serde_json::from_str::<Linked>(text).is_ok_and(|linked| linked.link.is_some())
}

/// What a bundle proves.
fn single(text: &str, pinned: &mut Pinned, args: &Verify) -> Result<String> {
    let verified = Bundle::from_json(text)
        .and_then(|bundle| bundle.verify_from(pinned))
        .map_err(|error| Failure::is_false(error.code(), &error))?;
    Ok(match (args.json, args.time) {
        (true, _) => as_json(&verified).to_string(),
        (false, true) => bracket(&verified)?,
        (false, false) => as_text(&verified),
    })
}

/// What a proof of order proves.
fn order(text: &str, pinned: &mut Pinned, args: &Verify) -> Result<String> {
    if args.time {
        return Err(Failure::usage("--time is for the bundle of one transaction"));
    }
    let before = BeforeProof::from_json(text)
        .and_then(|proof| proof.verify_from(pinned))
        .map_err(|error| Failure::is_false(error.code(), &error))?;
    Ok(if args.json {
        let (first, second) = (as_json(&before.first), as_json(&before.second));
        let by = before.by.to_string();
        json!({ "valid": true, "first": first, "second": second, "by": by }).to_string()
    } else {
        let head = screen::bold("the first was there before the second was stamped");
        format!("proven   {head}\n{}", clock::as_text(&before))
    })
}

/// Between what times a transaction was signed, stamped and ordered.
fn bracket(verified: &Verified) -> Result<String> {
    let Some(not_after) = &verified.not_after else {
        return Err(Failure::new(
            code::PROOF_UNAVAILABLE,
            "the bracket is open: no later header in the bundle",
        )
        .with_help("Fetch the proof again, when one more height is committed."));
    };
    let stamped = verified.stamped_after.as_ref();
    let stamped =
        stamped.map_or_else(|| "not part of this bundle (quipu prove --time)".into(), bound);
    let width_us = not_after.time.get().saturating_sub(verified.not_before.time.get());
    let mut out = String::new();
    let _ = writeln!(out, "tx            {}", verified.tx);
    let _ = writeln!(out, "signed after  {}", bound(&verified.not_before));
    let _ = writeln!(out, "stamped after {stamped}");
    let _ = writeln!(out, "ordered by    {}", bound(not_after));
    let _ = writeln!(out, "width         {} ms", screen::grouped(width_us.div_ceil(1_000)));
    Ok(out)
}

/// Whether what a server showed is false, and why; or whom a validator's proof names.
fn evidence(path: &Path, args: &Verify, genesis: &Genesis) -> Result<()> {
    let (bytes, json) = (tools::read_bytes(path, "evidence", EVIDENCE_SIZE_MAX)?, args.json);
    if !Evidence::is_evidence(&bytes) {
        let pinned = followed(args, genesis)?;
        let misdeed = validators::named(&bytes, path, genesis, &pinned)?;
        return told(&misdeed, json);
    }
    let evidence =
        Evidence::from_file(&bytes).map_err(|error| validators::malformed(path, &error))?;
    let (server, found) = (evidence.server(), evidence.check(genesis));
    if json {
        let reason = found.as_ref().map(ToString::to_string);
        let object = json!({ "false": found.is_some(), "server": server, "reason": reason });
        tools::print(&object.to_string())?;
    }
    match found {
        Some(error) => {
            Err(Failure::is_false(error.code(), format!("what {server} showed is false: {error}")))
        }
        None if json => Ok(()),
        None => tools::print(&format!("nothing in what {server} showed is false")),
    }
}

/// Whom a proof that a validator kept names.
fn told(misdeed: &Misdeed, json: bool) -> Result<()> {
    let Misdeed { name, key, epoch, kind, place, .. } = misdeed;
    tools::print(&if json {
        let key = key.to_string();
        json!({ "valid": true, "validator": name, "key": key, "epoch": epoch, "kind": kind, "place": place })
            .to_string()
    } else {
        format!(
            "proven   {}\nkind     {kind}\nwhere    {place}\nepoch    {epoch}\nkey      {key}",
            screen::bold(&format!("{name} broke a rule that no honest validator breaks"))
        )
    })
}

fn as_text(verified: &Verified) -> String {
    let mut out = String::new();
    let Verified { tx, position, height, header_time, signer, action_count, support, .. } =
        verified;
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<11} {value}");
    };
    line("proven", screen::bold("this transaction is final on the ledger of the genesis given"));
    line("chain", verified.chain.to_string());
    line("tx", tx.to_string());
    line("position", format!("{position} (lane:seqno)"));
    line("height", format!("{height}, header {}", verified.header));
    line("header time", tools::time_text(header_time.get()));
    line("not before", bound(&verified.not_before));
    if let Some(stamped) = &verified.stamped_after {
        line("stamped", format!("after {}", bound(stamped)));
    }
    let not_after = verified.not_after.as_ref();
    line(
        "not after",
        not_after.map_or_else(|| "open: no later header in the bundle".into(), bound),
    );
    line("signed by", format!("{signer}, account {}", verified.account));
    line(
        "committed",
        format!(
            "{} validators with {} of {} power",
            support.signers.len(),
            support.power,
            support.power_total
        ),
    );
    match &verified.receipt {
        None => line("outcome", "not part of this bundle".into()),
        Some(receipt) => line(
            "outcome",
            match receipt.outcome {
                Outcome::Applied => "applied".into(),
                Outcome::Refused { code, .. } => {
                    format!("refused: {code}, {}", code.explanation().title)
                }
            },
        ),
    }
    match &verified.action {
        None => line("actions", format!("{action_count}, proven by their root")),
        Some((index, action)) => {
            line("action", format!("{index} of {action_count}"));
            for (name, value) in action_lines(action) {
                line(name, value);
            }
        }
    }
    out
}

fn bound(bound: &Bound) -> String {
    format!("{} (by {})", tools::time_text(bound.time.get()), bound.basis)
}

fn action_lines(action: &Action) -> Vec<(&'static str, String)> {
    match action {
        Action::Append { stream, key, payload } => vec![
            ("stream", stream.clone()),
            ("key", readable(key)),
            ("row bytes", shown(&hex::encode(payload))),
            ("row text", shown(&readable(payload))),
        ],
        Action::Transfer { to, amount } => {
            vec![("transfer", format!("{amount} to {to}"))]
        }
        Action::CreateStream(spec) => {
            vec![("creates", spec.name.clone()), ("schema", spec.schema.to_string())]
        }
        Action::Run(program) => {
            vec![("statement", shown(&program.text)), ("table", program.table.id.to_string())]
        }
        Action::Define(define) => vec![("defines", defined(define))],
        Action::Call(call) => vec![("calls number", called(call))],
        Action::Reads(reads) => vec![("had read at height", reads.height.to_string())],
        Action::Group(action) => vec![("group", grouped(action))],
        Action::Stake(action) => vec![("stake", staked(action))],
    }
}

fn defined(define: &Define) -> String {
    match define {
        Define::CreateTable(spec) => format!("table {} ({})", spec.name, spec.schema),
        Define::CreateView { name, text, .. } => format!("view {name}: {}", shown(text)),
        Define::Drop(table) => format!("drops number {}", table.id),
        Define::Alter(table, _) => format!("alters table number {}", table.id),
        Define::CreateProcedure { spec, .. } => {
            format!("procedure {}: {}", spec.name, shown(&spec.text))
        }
        Define::DropProcedure(procedure) => format!("drops procedure number {}", procedure.id),
        Define::SetCallers(procedure, _) => {
            format!("who may call procedure number {}", procedure.id)
        }
    }
}

/// A procedure's number and what it is called with.
fn called(call: &Call) -> String {
    let arguments = call.arguments.iter().map(|argument| match argument {
        None => "default".to_owned(),
        Some((_, value)) => format!("{value:?}"),
    });
    let arguments = arguments.collect::<Vec<_>>().join(", ");
    format!("{} ({})", call.procedure.id, shown(&arguments))
}

/// What is done to which consumer group.
fn grouped(action: &GroupAction) -> String {
    let GroupAction { group, op } = action;
    match op {
        GroupOp::Create { .. } => format!("creates {group}"),
        GroupOp::Delete => format!("deletes {group}"),
        GroupOp::Join { member, .. } => format!("{member:?} joins {group}"),
        GroupOp::Leave { member, .. } => format!("{member:?} leaves {group}"),
        GroupOp::Beat { member, .. } => format!("{member:?} stays in {group}"),
        GroupOp::Commit { member, lane, from, to, .. } => {
            format!("{member:?} moves {group} in lane {lane} from {from} to {}", to.seqno)
        }
        GroupOp::Seek { lane, to } => format!("sets {group} in lane {lane} to {}", to.seqno),
    }
}

/// What is done to which validator.
fn staked(action: &StakeAction) -> String {
    match action {
        StakeAction::Register { key, name, address, .. } => {
            format!("registers {key} as {name:?} at {address}")
        }
        StakeAction::Bond { key, amount } => format!("bonds {amount} to {key}"),
        StakeAction::Unbond { key, amount } => format!("unbonds {amount} of {key}"),
        StakeAction::Withdraw { key } => format!("withdraws what is due of {key}"),
        StakeAction::Move { key, address } => format!("moves {key} to {address}"),
        StakeAction::Evidence { epoch, bytes } => {
            format!("{} bytes of evidence of epoch {epoch}", bytes.len())
        }
        StakeAction::DealingKey { key, dealing, .. } => {
            format!("gives {key} the key for shares {dealing}")
        }
        StakeAction::Deal { dealing, .. } => {
            format!("validator {} deals the coin of epoch {}", dealing.dealer, dealing.epoch)
        }
        StakeAction::Grieve(grievance) => format!(
            "validator {} shows that the dealing of {} for epoch {} is wrong",
            grievance.receiver, grievance.dealer, grievance.epoch
        ),
    }
}

/// Printable ASCII as it is, every other byte as a dot.
fn readable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' })
        .collect()
}

fn shown(text: &str) -> String {
    match text.get(..SHOWN_SIZE_MAX) {
        Some(start) if text.len() > SHOWN_SIZE_MAX => format!("{start}… ({} in all)", text.len()),
        _ => text.to_owned(),
    }
}

fn as_json(verified: &Verified) -> Json {
    let bound = |bound: &Bound| json!({ "time_us": bound.time, "basis": bound.basis.to_string() });
    let action = verified.action.as_ref().map(|(index, action)| match action {
        Action::Append { stream, key, payload } => json!({
            "index": index, "append": stream,
            "key": hex::encode(key), "payload": hex::encode(payload)
        }),
        Action::Transfer { to, amount } => json!({ "index": index, "transfer": amount, "to": to }),
        Action::CreateStream(spec) => {
            json!({ "index": index, "create": spec.name, "schema": spec.schema.to_string() })
        }
        Action::Run(program) => {
            json!({ "index": index, "statement": program.text, "table": program.table.id })
        }
        Action::Define(define) => json!({ "index": index, "define": defined(define) }),
        Action::Call(call) => {
            json!({ "index": index, "procedure": call.procedure.id, "call": called(call) })
        }
        Action::Reads(reads) => json!({ "index": index, "read_at": reads.height }),
        Action::Group(action) => {
            json!({ "index": index, "group": action.group, "done": grouped(action) })
        }
        Action::Stake(action) => json!({ "index": index, "stake": staked(action) }),
    });
    let outcome = verified.receipt.map(|receipt| match receipt.outcome {
        Outcome::Applied => json!("applied"),
        Outcome::Refused { code, .. } => json!(code.to_string()),
    });
    json!({
        "valid": true,
        "chain": verified.chain,
        "tx": verified.tx,
        "position": verified.position.to_string(),
        "height": verified.height,
        "header": verified.header,
        "header_time_us": verified.header_time,
        "not_before": bound(&verified.not_before),
        "stamped_after": verified.stamped_after.as_ref().map(bound),
        "not_after": verified.not_after.as_ref().map(bound),
        "signer": verified.signer,
        "account": verified.account,
        "action_count": verified.action_count,
        "action": action,
        "outcome": outcome,
        "validators": verified.support.signers,
        "power": verified.support.power.to_string(),
        "power_total": verified.support.power_total.to_string(),
    })
}

//! Every false proof is refused with exit code 3 and a reason, whatever part of it is false.

use serde_json::{Value as Json, json};

use crate::harness::{Ledger, ok, quipu};

/// A ledger with one batch; gives the bundle of one of its actions.
fn bundle(ledger: &Ledger) -> Json {
    let server = ledger.start();
    ledger.create_stream(&server, "notes", "n int4", &[]);
    let rows: String = (0..5).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    let (file, signer) = (ledger.write("rows.jsonl", &rows), ledger.signer());
    let printed = ok(&[
        "append",
        "--url",
        &server.http,
        "--signer",
        &signer,
        "--stream",
        "notes",
        "--file",
        &file,
        "--json",
    ]);
    let appended: Json = serde_json::from_str(&printed).unwrap();
    // A later header bounds the time from above.
    ledger.append(&server, "notes", &json!({"n": 9}));
    let tx = format!("{}:3", appended["tx"].as_str().unwrap());
    let text = ok(&["prove", "--url", &server.http, &tx]);
    server.stop();
    serde_json::from_str(&text).unwrap()
}

fn verdict(ledger: &Ledger, text: &str) -> (Option<i32>, String) {
    let file = ledger.write("bundle.json", text);
    let ran = quipu(&["verify", "--genesis", &ledger.genesis(), &file]);
    (ran.code, ran.stderr)
}

/// Every way to change one leaf, member or item of `value`, by its path.
pub(crate) fn changes(
    value: &Json,
    path: &str,
    out: &mut Vec<(String, Json)>,
    rebuild: &dyn Fn(Json) -> Json,
) {
    let mut push =
        |what: &str, changed: Json| out.push((format!("{path}: {what}"), rebuild(changed)));
    match value {
        Json::Null => push("null filled in", json!(0)),
        Json::Bool(flag) => push("flipped", json!(!flag)),
        Json::Number(number) => {
            push("one more", json!(number.as_u64().unwrap().wrapping_add(1)));
            push("as text", json!(number.to_string()));
        }
        Json::String(text) => {
            for place in [0, text.len() / 2, text.len() - 1] {
                let mut bytes = text.clone().into_bytes();
                bytes[place] = if bytes[place] == b'0' { b'1' } else { b'0' };
                push("one digit", json!(String::from_utf8(bytes).unwrap()));
            }
            push("upper case", json!(text.to_uppercase()));
            push("cut", json!(&text[..text.len() - 2]));
            push("longer", json!(format!("{text}00")));
            push("nulled", Json::Null);
        }
        Json::Array(items) => {
            for index in 0..items.len() {
                let mut fewer = items.clone();
                fewer.remove(index);
                push("one item less", json!(fewer));
            }
            let mut more = items.clone();
            more.push(items.last().cloned().unwrap_or_else(|| json!("00".repeat(32))));
            push("one item more", json!(more));
            for (index, item) in items.iter().enumerate() {
                let rebuild = |changed: Json| {
                    let mut items = items.clone();
                    items[index] = changed;
                    rebuild(json!(items))
                };
                changes(item, &format!("{path}[{index}]"), out, &rebuild);
            }
        }
        Json::Object(members) => {
            let mut more = members.clone();
            more.insert("extra".into(), json!(1));
            push("a member more", json!(more));
            for (name, member) in members {
                let mut fewer = members.clone();
                fewer.remove(name);
                out.push((format!("{path}.{name}: left out"), rebuild(json!(fewer))));
                let rebuild = |changed: Json| {
                    let mut members = members.clone();
                    members.insert(name.clone(), changed);
                    rebuild(json!(members))
                };
                changes(member, &format!("{path}.{name}"), out, &rebuild);
            }
        }
    }
}

/// Upper case changes nothing in a text of digits alone.
fn is_same(original: &Json, changed: &Json) -> bool {
    original == changed
}

#[test]
fn a_true_proof_holds_and_every_changed_field_makes_it_false() {
    let ledger = Ledger::new();
    let bundle = bundle(&ledger);
    let (code, said) = verdict(&ledger, &bundle.to_string());
    assert_eq!(code, Some(0), "{said}");
    let mut changed = Vec::new();
    changes(&bundle, "", &mut changed, &|changed| changed);
    changed.retain(|(_, changed)| !is_same(&bundle, changed));
    assert!(changed.len() > 100, "{} changes", changed.len());
    for (what, changed) in changed {
        let (code, said) = verdict(&ledger, &changed.to_string());
        assert_eq!(code, Some(3), "{what}: {said}");
        assert!(said.contains("QP0401") || said.contains("QP0402"), "{what}: {said}");
    }
}

#[test]
fn a_proof_of_another_ledger_and_texts_that_are_none_are_false() {
    let (ledger, other) = (Ledger::new(), Ledger::new());
    let bundle = bundle(&other).to_string();
    let (code, said) = verdict(&ledger, &bundle);
    assert!(code == Some(3) && said.contains("QP0402"), "{code:?} {said}");
    let twice = bundle.replacen("{\"", "{\"version\":1,\"", 1);
    for text in [
        "",
        "null",
        "[]",
        "{}",
        "\u{0}",
        &bundle[..bundle.len() - 1],
        &format!("{bundle}{bundle}"),
        &twice,
    ] {
        let (code, said) = verdict(&other, text);
        assert!(code == Some(3) && said.contains("QP0401"), "{code:?} {said}");
    }
    assert_eq!(verdict(&other, &bundle).0, Some(0));
}

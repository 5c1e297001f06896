//! Every change of a true bundle is refused (P1, P2), and no text makes a verifier panic (P3).

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use proptest::prelude::*;
use quipu_proof::verify;
use quipu_types::Genesis;
use serde_json::{Value, json};

use crate::reason;
use crate::world::World;

/// Members that may be null: then the bundle proves less, and says so.
const OPTIONAL: [&str; 4] = ["/action", "/receipt", "/time/anchor", "/time/next"];

/// Reasons by member, array indices left out.
type Reasons = BTreeMap<String, BTreeSet<String>>;

struct Walk<'a> {
    genesis: &'a Genesis,
    whole: Value,
    reasons: Reasons,
    count: usize,
}

impl Walk<'_> {
    /// Puts `value` where `pointer` is; the bundle must be refused.
    fn refuse(&mut self, pointer: &str, value: Value) {
        let place = self.whole.pointer_mut(pointer).expect("the walk names what is there");
        let old = std::mem::replace(place, value);
        let text = self.whole.to_string();
        let error = match verify(&text, self.genesis) {
            Ok(found) => panic!("{pointer} changed from {old} is taken: {found:?}"),
            Err(error) => error,
        };
        *self.whole.pointer_mut(pointer).expect("it is still there") = old;
        let member: Vec<_> =
            pointer.split('/').filter(|word| word.parse::<usize>().is_err()).collect();
        self.reasons.entry(member.join("/")).or_default().insert(reason(&error));
        self.count += 1;
    }

    fn walk(&mut self, pointer: &str) {
        let value = self.whole.pointer(pointer).expect("the walk names what is there").clone();
        if !OPTIONAL.contains(&pointer) && !value.is_null() {
            self.refuse(pointer, Value::Null);
        }
        match value {
            Value::String(text) => self.walk_text(pointer, &text),
            Value::Number(number) => {
                let number = number.as_u64().expect("numbers of bundles are u64");
                for other in [number.wrapping_sub(1), number + 1, number + 256, u64::MAX] {
                    self.refuse(pointer, json!(other));
                }
                self.refuse(pointer, json!(-1));
                self.refuse(pointer, json!(1.5));
                self.refuse(pointer, json!(number.to_string()));
            }
            Value::Array(items) => self.walk_array(pointer, &items),
            Value::Object(members) => {
                let mut more = members.clone();
                more.insert("more".into(), json!(0));
                self.refuse(pointer, Value::Object(more));
                for name in members.keys() {
                    let mut less = members.clone();
                    less.remove(name);
                    self.refuse(pointer, Value::Object(less));
                    self.walk(&format!("{pointer}/{name}"));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn walk_text(&mut self, pointer: &str, text: &str) {
        for place in 0..text.len() {
            let mut digits = text.as_bytes().to_vec();
            let old = digits[place];
            digits[place] = match old {
                b'f' => b'0',
                b'9' => b'a',
                _ => old + 1,
            };
            self.refuse(pointer, json!(String::from_utf8(digits.clone()).unwrap()));
            if old.is_ascii_lowercase() && place < 64 {
                digits[place] = old.to_ascii_uppercase();
                self.refuse(pointer, json!(String::from_utf8(digits).unwrap()));
            }
        }
        for other in ["", "00", "zz", "0"] {
            self.refuse(pointer, json!(other));
            self.refuse(
                pointer,
                json!(format!("{text}{}", if other.is_empty() { "ff" } else { other })),
            );
        }
        self.refuse(pointer, json!(text[1..]));
        self.refuse(pointer, json!(text[2..]));
        self.refuse(pointer, json!(text[..text.len() - 1]));
        self.refuse(pointer, json!(text[..text.len() - 2]));
        self.refuse(pointer, json!(format!("0x{text}")));
        self.refuse(pointer, json!(format!(" {text}")));
        self.refuse(pointer, json!([text]));
        self.refuse(pointer, json!(0));
    }

    fn walk_array(&mut self, pointer: &str, items: &[Value]) {
        assert!(!items.is_empty(), "{pointer} is chosen long enough to change");
        for place in 0..items.len() {
            let mut less = items.to_vec();
            less.remove(place);
            self.refuse(pointer, json!(less));
            let mut more = items.to_vec();
            more.insert(place, items[place].clone());
            self.refuse(pointer, json!(more));
            if place > 0 {
                let mut swapped = items.to_vec();
                swapped.swap(place - 1, place);
                self.refuse(pointer, json!(swapped));
            }
            self.walk(&format!("{pointer}/{place}"));
        }
        self.refuse(pointer, json!({}));
        let endless = vec![items[0].clone(); 10_000];
        self.refuse(pointer, json!(endless));
    }
}

#[test]
fn whatever_is_changed_in_a_bundle_it_is_refused_by_name() {
    let world = World::new("w", &[5, 4, 3]).grown();
    let bundle = world.bundle(1, world.place_of_many(), Some(3));
    let whole: Value = serde_json::from_str(&bundle.to_json()).unwrap();
    verify(&whole.to_string(), &world.genesis).expect("it is true unchanged");
    let mut walk = Walk { genesis: &world.genesis, whole, reasons: Reasons::new(), count: 0 };
    walk.walk("");
    let mut lines: Vec<_> = walk
        .reasons
        .iter()
        .map(|(member, reasons)| {
            let reasons: Vec<_> = reasons.iter().map(String::as_str).collect();
            format!("{member:<24} {}\n", reasons.join(" · "))
        })
        .collect();
    lines.push(format!("{} changes\n", walk.count));
    expect![[r#"
                                 Json · NotCanonical
        /action                  Json
        /action/bytes            Json · action: RootMismatch
        /action/index            Json · action: IndexBeyondSize · action: PathTooLong · action: RootMismatch
        /action/path             Json · PathTooLong · action: PathTooLong · action: PathTooShort · action: RootMismatch
        /certificate             Json · header: BadSignature · header: MixedRounds · header: OtherHeader · header: OtherHeight · header: UnknownValidator
        /chain                   Json · OtherChain
        /envelope                ClientSignature · Json · OtherTransaction
        /header                  Json · header: HandOver · header: OtherHeader · header: OtherHeight
        /lane_path               Json
        /lane_path/index         Json · OtherLeaf
        /lane_path/path          Json · PathTooLong · lane: PathTooLong · lane: PathTooShort · lane: RootMismatch
        /lane_path/size          Json · OtherLeaf
        /position                Json
        /position/lane           Json · OtherLane
        /position/seqno          Json · NotCovered · OtherLeaf
        /previous                Json · previous header: NotLinked
        /receipt                 Json
        /receipt/bytes           Json · OtherReceipt · receipt: RootMismatch
        /receipt/certificate     Json · receipt: BadSignature · receipt: OtherState · receipt: UnknownValidator
        /receipt/count           Json · ReceiptCount
        /receipt/index           Json · receipt: IndexBeyondSize · receipt: RootMismatch
        /receipt/path            Json · PathTooLong · receipt: PathTooLong · receipt: PathTooShort · receipt: RootMismatch
        /time                    Json · NotCanonical
        /time/anchor             Json
        /time/anchor/certificate Json · anchor: BadSignature · anchor: MixedRounds · anchor: OtherHeader · anchor: OtherHeight · anchor: UnknownValidator
        /time/anchor/header      Json · anchor: HandOver · anchor: OtherHeader · anchor: OtherHeight
        /time/next               Json
        /time/next/certificate   Json · next header: BadSignature · next header: MixedRounds · next header: OtherHeader · next header: OtherHeight · next header: UnknownValidator
        /time/next/header        Json · next header: HandOver · next header: OtherHeader · next header: OtherHeight
        /tx                      Json · OtherTransaction
        /version                 Json · Version
        11620 changes
    "#]].assert_eq(&lines.concat());
}

#[test]
fn a_member_that_stands_twice_is_refused() {
    let world = World::new("w", &[1]).grown();
    let text = world.bundle(2, 0, Some(0)).to_json();
    verify(&text, &world.genesis).expect("it is true unchanged");
    for member in ["\"version\":1", "\"index\":0", "\"next\":null"] {
        let twice = text.replacen(member, &format!("{member},{member}"), 1);
        assert_ne!(twice, text, "{member} is there");
        assert_eq!(reason(&verify(&twice, &world.genesis).unwrap_err()), "Json", "{member}");
    }
    let twice = text.replacen('{', "{\"version\":1,", 1);
    assert_eq!(reason(&verify(&twice, &world.genesis).unwrap_err()), "Json");
}

#[test]
fn a_text_beyond_all_bundles_is_not_even_parsed() {
    let world = World::new("w", &[1]);
    let text = " ".repeat(quipu_proof::BUNDLE_SIZE_MAX + 1);
    assert_eq!(reason(&verify(&text, &world.genesis).unwrap_err()), "TooLong");
    let deep = "[".repeat(1_000_000);
    assert_eq!(reason(&verify(&deep, &world.genesis).unwrap_err()), "Json");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        prop_assert!(verify(&text, &World::new("w", &[1]).genesis).is_err());
    }

    #[test]
    fn no_damage_to_a_text_makes_it_panic_or_say_something_else(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..4),
    ) {
        thread_local! {
            static WORLD: (World, String) = {
                let world = World::new("w", &[2, 1]).grown();
                let text = world.bundle(1, world.place_of_many(), Some(3)).to_json();
                (world, text)
            };
        }
        WORLD.with(|(world, text)| {
            let mut bytes = text.clone().into_bytes();
            for (place, byte, kind) in edits {
                let place = place.index(bytes.len());
                match kind {
                    0 => bytes[place] = byte,
                    1 => bytes.insert(place, byte),
                    _ => {
                        bytes.remove(place);
                    }
                }
            }
            let damaged = String::from_utf8_lossy(&bytes);
            if let Ok(found) = verify(&damaged, &world.genesis) {
                assert_eq!(found, verify(text, &world.genesis).unwrap());
            }
        });
    }
}

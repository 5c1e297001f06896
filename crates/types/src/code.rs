//! Stable error codes: what happened, why, what to do next. `quipu explain QP0123` prints an entry.
//!
//! A number is never used for another meaning, and never removed. Receipts carry the number.
//! 00xx decoding · 01xx admission · 02xx execution · 03xx storage · 04xx proofs · 05xx queries ·
//! 06xx configuration and start · 07xx clients and network.

use std::fmt;

/// A stable error code, written `QP0123`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(u16);

/// What a code means.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// The code.
    pub code: Code,
    /// What happened, in a few words.
    pub title: &'static str,
    /// Why it happens and what to do next.
    pub text: &'static str,
}

impl Code {
    /// The number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The code of a number that has an entry.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        CODES.iter().map(|entry| entry.code).find(|code| code.0 == number)
    }

    /// What it means.
    ///
    /// # Panics
    /// Never: a `Code` is made from an entry of [`CODES`] only.
    #[must_use]
    pub fn explanation(self) -> &'static Explanation {
        CODES.iter().find(|entry| entry.code == self).expect("codes are made by the table alone")
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QP{:04}", self.0)
    }
}

impl std::str::FromStr for Code {
    type Err = crate::DecodeError;

    fn from_str(text: &str) -> Result<Self, crate::DecodeError> {
        let wrong = crate::DecodeError::NotCanonical { what: "code, QPnnnn" };
        let digits =
            text.strip_prefix("QP").filter(|digits| digits.len() == 4).ok_or(wrong.clone())?;
        digits.parse().ok().and_then(Self::from_number).ok_or(wrong)
    }
}

macro_rules! codes {
    ($($number:literal $name:ident $title:literal $text:literal)*) => {
        $(#[doc = $title] pub const $name: Code = Code($number);)*
        /// Every code, ascending.
        pub const CODES: &[Explanation] = &[$(Explanation { code: $name, title: $title, text: $text }),*];
    };
}

codes! {
    1 MALFORMED "bytes are not a transaction"
      "The bytes sent do not decode, or are not in canonical form. Use the client library, or compare with docs/formats.md. Nothing was ordered."
    2 TOO_LARGE "transaction is too large"
      "A transaction has at most 1,000,000 bytes and 16,384 actions. Send several smaller ones."
    101 BAD_SIGNATURE "signature does not verify"
      "The signature is not by the named key over this ledger's chain id and these actions. A transaction signed for another ledger fails here too: check the genesis you signed for."
    102 SEQUENCE_USED "sequence was used before"
      "Another transaction of this signer already stands in the lane under this sequence. Ask for the producer's next sequence and sign again."
    103 SEQUENCE_GAP "sequence leaves a gap"
      "Sequences of a signer in a lane are dense, from 1. Send the missing ones first, or ask for the producer's next sequence."
    104 FENCED "a newer incarnation of this producer is active"
      "A producer with the same key and a higher incarnation has appended since. Only one instance may run; stop this one or raise its incarnation."
    105 OVERLOADED "the validator's queue is full"
      "The transaction was not taken. Send it again after a pause, byte for byte: a repeat is never applied twice."
    106 STOPPING "the validator is stopping"
      "The transaction was not taken. Send it to another validator, or again after the restart."
    107 ANCHOR_UNKNOWN "anchor is not in this history"
      "The anchor names no header of this ledger, or one that is too old. Fetch the newest header and sign again. If you did see that header, this history was forked: keep the evidence."
    108 COMPLAINT_TERM "accused term is not the lane's"
      "A complaint names a term of a lane, and counts in that one only. The lane's term ended, or this validator has not seen it begin: read the lane's term and, if the transaction is still not ordered, complain of that one."
    109 COMPLAINT_ANCHOR "anchor of the complaint is not a recent header"
      "A complaint names one of the newest 4,096 headers (20 s at 5 ms a height, 68 minutes at 1 s), as this validator knows them. Fetch the newest header and complain again."
    110 COMPLAINT_FALSE "complaint is false"
      "The transaction stood in the lane already at the header that the complaint names, or its signature is wrong. Its signer's complaints are not heard for some heights now, twice as long each time."
    111 COMPLAINT_UNHEARD "complaints of this signer are not heard"
      "The signer complained falsely before. The message says up to which height its complaints are not heard; its transactions are taken as ever."
    112 COMPLAINTS_FULL "too many complaints wait"
      "One complaint of a signer in a lane is heard at a time, and a validator takes 16 from clients. Complain again after a pause, or to another validator."
    113 COMPLAINT_NOT_NEXT "transaction is not its producer's next"
      "No sequencer may order it before what stands before it. Complain of the first transaction that is not ordered."
    201 EXPIRED "anchor is too old"
      "The transaction was ordered more than the genesis' anchor window after the header it names. It changed nothing but its sequence; sign again with a newer anchor."
    202 NO_FUNDS "account has too few units"
      "The signer's balance is below the amount. Nothing was moved."
    203 NO_STREAM "no such stream"
      "The transaction appends to a stream that does not exist at its place in the order. Create it first: quipu stream create."
    204 STREAM_EXISTS "stream exists already"
      "Another transaction created a stream of this name first."
    205 NOT_A_WRITER "signer may not append to this stream"
      "The stream's creator decides who may append. Ask the creator, or append to a stream of your own."
    206 WRONG_ROUTE "transaction has another route than its stream"
      "A stream routed by a column takes transactions whose route is that column's value; one routed by signer takes transactions without a route."
    207 BAD_ROW "payload is no row of the stream"
      "The payload is not the canonical encoding of a row of the stream's schema. Use the client library."
    208 NAME_RESERVED "name is reserved"
      "Names of streams and groups beginning with pg_ or quipu_ are reserved."
    209 BALANCE_OVERFLOW "balance would overflow"
      "The receiving account would hold more than 2^64 - 1 units."
    210 NO_TABLE "no such table"
      "The statement changes a table or a view that is not there at its place in the order. Create it first, or look whether somebody dropped it."
    211 TABLE_EXISTS "name is taken"
      "A table, a view or a stream of this name is there already."
    212 TABLE_CHANGED "table was changed meanwhile"
      "The statement was compiled for columns that the table has no more. Run it again."
    213 UNIQUE "duplicate key value"
      "A row with the same values is there already. Change the values, or say ON CONFLICT what shall be done."
    214 NOT_NULL "null value in a column that refuses it"
      "The column has no default, or the statement sets it to null."
    215 CHECK "row violates a check constraint"
      "The constraint's expression is false for the new row."
    216 FOREIGN_KEY "referenced row is missing"
      "A foreign key names a row of another table that is not there. Insert that one first."
    217 ROW_COUNT "another number of rows would have changed"
      "Between the statement and its COMMIT others changed rows that it selects. Nothing was changed; run the transaction again."
    218 READ_CHANGED "what the transaction had read was changed"
      "Another transaction came first and wrote what this one had read. Nothing was changed; run it again."
    219 OUT_OF_RANGE "value out of range"
      "A result does not fit its type."
    220 DIVISION_BY_ZERO "division by zero"
      "An expression divides by zero."
    221 BAD_TEXT "text is no value of the type"
      "A text can not be read as the type it is needed for."
    222 TYPE_MISMATCH "types do not fit"
      "An expression has operands, or a column gets a value, of a type that does not fit. Use a cast."
    223 METER "statement does too much"
      "One transaction may visit about two million rows, fewer where they are long or expressions are large, and give back 16 MiB of them; the transactions of a height may do four times that. Do it in parts, or again."
    224 KEY_TOO_LONG "key is too long"
      "The values of a primary key or an index have at most 220 bytes together."
    225 NOT_OWNER "role may not change this"
      "Only who created a table changes its definition, and only its writers its rows. Ask its owner to GRANT it."
    226 DEPENDENT "others depend on it"
      "A foreign key of another table needs it. Drop that first."
    227 TEXT_TOO_LONG "value too long for its column"
      "A text has more characters than its column allows."
    228 GENERATED "column is numbered by the ledger"
      "A column GENERATED ALWAYS AS IDENTITY takes no value from a statement."
    229 BAD_DEFINITION "definition is wrong"
      "A constraint or a column of the definition names what is not there or breaks a rule."
    230 REFERENCED "row is still referenced"
      "A row of another table refers to the one that would be removed or renamed. Remove that one first."
    231 ROW_TWICE "row would be changed twice"
      "An INSERT with ON CONFLICT DO UPDATE proposes two rows of the same key. Insert each key once."
    232 NO_PROCEDURE "no such procedure"
      "The call names a procedure that is not there at its place in the order. Create it first, or look whether somebody dropped it."
    233 PROCEDURE_EXISTS "procedure exists already"
      "A procedure of this name is there already; each name has one, whatever its parameters. Say CREATE OR REPLACE PROCEDURE, or choose another name."
    234 PROCEDURE_STALE "procedure is out of date"
      "A table that the procedure changes has lost an index or got another primary key since the procedure was created. Create it again: CREATE OR REPLACE PROCEDURE."
    235 NOT_A_CALLER "role may not call this"
      "Everyone may call a procedure, unless its owner has revoked that. Ask its owner to GRANT EXECUTE ON PROCEDURE."
    236 NO_GROUP "no such group"
      "There is no consumer group of this name at the action's place in the order. Create it first, or look whether its creator deleted it."
    237 GROUP_EXISTS "group exists already"
      "Another transaction created a consumer group of this name first. Join it, or choose another name."
    238 NOT_A_MEMBER "not a member of the group"
      "The member never joined, its lease ended, or a later process joined under its name. Nothing of the transaction was done. Join again, read which lanes you hold and go on from their committed cursors."
    239 LANE_FENCED "lane was given to another"
      "The member does not hold the lane in the generation that it names: the lane moved when the group's members changed. Nothing of the transaction was done. Drop what you have of the lane, and read which lanes you hold."
    240 CURSOR_MOVED "cursor stands elsewhere"
      "The commit does not go on from where the lane's cursor stands, or would take it back. Nothing of the transaction was done. Read the committed cursor and go on from there."
    241 GROUP_BUSY "group has members"
      "Cursors are set and groups deleted while nobody is in them. Let the members leave, or their leases end."
    242 GROUP_FULL "group has too many members"
      "A consumer group has at most 256 members. More than there are lanes hold none."
    243 NOT_A_CONSUMER "signer may not do this to the group"
      "The group's creator decides who may join, and alone sets its cursors and deletes it. Ask the creator, or create a group of your own."
    244 MEMBER_TAKEN "member's name is taken"
      "Another account is in the group under this name. Choose another name, or wait until its lease ends."
    245 NO_KEY "event has no key"
      "Every event of a compacted stream has a key, under which the state keeps the newest one. Give it: quipu append --event-key, or the key of the append."
    246 STAKE_FIXED "validators are fixed"
      "The genesis of this ledger has no rules of stake: its validators are those of the genesis, always, and nothing can be bonded."
    247 VALIDATOR_EXISTS "voting key is registered already"
      "A validator with this voting key is there. Its owner bonds to it; another validator needs a key of its own."
    248 BAD_POSSESSION "voting key did not sign for this owner"
      "The possession is not the voting key's signature for this ledger and this owner, or the key is one for which anyone can sign. Make it again with the validator's key file: quipu stake register."
    249 TWO_ROLES "voting key has another role"
      "The voting key has signed a transaction, its account holds units, or it owns a validator. A voting key only votes: make a new one."
    250 VOTING_KEY "signer is a validator's voting key"
      "A registered voting key signs no transactions, so that no machine that validates holds a key to units. Sign with the owner's key."
    251 NO_SLOT "all validators' slots are taken"
      "A ledger has at most 128 validators, and each of them has a bond, units that are locked, or power. Wait until one has withdrawn all."
    252 NO_VALIDATOR "no such validator"
      "No validator with this voting key is registered at the action's place in the order. SELECT * FROM quipu.validators lists them."
    253 NOT_THE_OWNER "signer does not own the validator"
      "Only who registered a voting key, or whom the genesis names as its owner, bonds to it, unbonds, withdraws or moves it."
    254 BOND_SMALL "bond has too few units"
      "More was to be unbonded than is bonded. Nothing was unbonded."
    255 LAST_POWER "nobody would be left with power"
      "Without these units no validator would have power in the next set, and the ledger would stand still. Let another one bond first."
    256 NOTHING_DUE "nothing can be withdrawn yet"
      "What was unbonded stays locked for the time that the genesis says, and for as long as its validator answers for power that it had in an epoch. The receipt's detail says in how many minutes the first of it is due; 0 where nothing is locked, or what is due still answers for power."
    257 EVIDENCE_FALSE "bytes are no evidence"
      "They do not decode as evidence. Take the file as the validator kept it: quipu validators evidence."
    258 EVIDENCE_OLD "evidence is too old"
      "The epoch that it names ended longer ago than units stay locked, so nobody answers for it any more."
    259 EVIDENCE_KNOWN "evidence is known already"
      "The same validator's misdeed of this kind and place was shown before, and was slashed then. SELECT * FROM quipu.evidence lists them."
    260 EVIDENCE_NOBODY "evidence names nobody"
      "Its parts agree, are of different places, or are not signed by a validator of the epoch that is named. Check the epoch: signatures cover it."
    261 DEPOSED "validator is deposed"
      "Evidence was shown against this voting key: it has no power any more, whatever is bonded. Its owner may unbond and withdraw what is left, and register another key."
    262 DEALING_KEY_FALSE "key for shares is not the validator's"
      "Its proof does not show that its secret is held for this voting key, or the voting key did not sign it in the current epoch. Sign it again in the epoch that is current."
    263 DEALING_KEY_KNOWN "key for shares stands already"
      "The validator has this key, or got another one in this epoch. It can be replaced once an epoch."
    264 NO_DEALING "no such dealing"
      "No coin of that epoch is being dealt at the action's place in the order: its set is not proposed, or its coin is made already; or nothing was dealt that the grievance is about."
    265 DEALING_LATE "dealings are closed"
      "All have dealt, or the genesis' time for dealings is over. The coin is made of what came before."
    266 DEALT_ALREADY "validator has dealt already"
      "The first dealing of each validator counts, in the ledger's order."
    267 DEALING_FORGED "dealing is not its dealer's"
      "The dealer has no power in the proposed set, or its voting key did not sign the dealing."
    268 DEALING_WRONG "dealing does not verify"
      "It has too few commitments or shares, one that is no point, or its proof does not hold. The dealer may deal again."
    269 GRIEVANCE_FALSE "grievance is false"
      "It does not open the receiver's shares, or they fit the dealing. The dealer stays in."
    301 STORE_DAMAGED "stored bytes are damaged"
      "A stored record fails its checksum or its hash. Run quipu check to see which; restore that validator from the others, or from a backup."
    302 STORE_FULL "no room on the disk"
      "Nothing that was acknowledged is lost. Make room and start the validator again."
    303 STORE_LOCKED "another process has this directory open"
      "One process a validator directory. Stop the other one first."
    304 STORE_FOREIGN "the directory belongs to another ledger"
      "The stored chain id is not the genesis file's. Start with the genesis file that the directory was made with."
    401 PROOF_MALFORMED "bundle is not in its only form"
      "A proof bundle has one encoding: known fields, lower-case hexadecimal, canonical values. This one differs, so nothing is read from it."
    402 PROOF_FALSE "proof is false"
      "The bundle's parts do not agree with each other or with the pinned validator set. Do not trust what it says; keep it as evidence."
    403 PROOF_UNAVAILABLE "proof can not be made yet"
      "The transaction is known but not yet final and executed, or its state certificate is not there. Ask again in a moment."
    404 TX_UNKNOWN "no such transaction"
      "This validator has not executed a transaction of that name. Check the name, or ask a validator that is caught up."
    501 SQL_SYNTAX "SQL is wrong"
      "The statement does not parse, or names what does not exist. The message says where."
    502 SQL_UNSUPPORTED "SQL feature is not supported"
      "The statement is valid in PostgreSQL but not offered here. It is refused, never ignored."
    503 SQL_READ_ONLY "this write through SQL is not offered"
      "Streams only grow: INSERT INTO one through the PostgreSQL port, or use quipu append, or the HTTP interface."
    504 SQL_LIMIT "query went over a limit"
      "The query used more memory or time than allowed. Narrow it, or raise the limit in the configuration."
    601 CONFIG "configuration is wrong"
      "The configuration file has an unknown key or a value out of range; the message names it and the nearest known key."
    602 GENESIS "genesis file is damaged or wrong"
      "The file does not parse or breaks a rule. Take it again from whoever operates the ledger, and compare its hash."
    603 PORT "address is in use"
      "Another process listens there. Choose another port, or 0 for any free one."
    604 KEY_FILE "key file can not be used"
      "The file is missing, readable by others, damaged, or under another passphrase; the message says which."
    605 NOT_BUILT "this part is not built yet"
      "The command names a feature that this version does not have. It refuses rather than pretend."
    701 UNREACHABLE "no validator answers"
      "None of the addresses given answers. Check them, and that the ledger runs: quipu status."
    702 BAD_REQUEST "request is wrong"
      "A parameter is missing or malformed; the message names it."
    703 POSITION "no such position"
      "The position asked for lies beyond what is committed, or names a lane that does not exist."
    704 BAD_INPUT "input file is wrong"
      "A line of the file is no row of the stream; the message names the line. Nothing of that batch was appended."
    705 PARTIAL "some transactions were refused"
      "Each refused transaction is named with its own code; the others are final."
    706 LINK_CHAIN "another validator is of another ledger"
      "The two validators were started with different genesis files. Compare the chain ids that quipu status prints, and start both with the same file."
    707 LINK_VERSION "another validator speaks another protocol"
      "The two validators run versions that do not talk to each other, or the address belongs to another service. Upgrade the older one; compare the peer's address with what that validator listens on."
    708 LINK_KEY "another validator is not who it should be"
      "What answers at the address did not prove the voting key that the genesis has for that validator. Compare the addresses of the peers, the key file and the genesis; if all are right, somebody stands between the two."
    709 LINK_BANNED "another validator has shut this one out"
      "It received frames of this validator that are too long, malformed or wrongly signed, and takes none for a while. Compare the versions; the other's log says what it saw."
    710 NOT_ADMITTED "the connection is not admitted"
      "The password is wrong, or there is no such user, or the connection is not encrypted. Users and their verifiers are in [passwords] of config.toml (quipu keys verifier makes one); from another machine connect with sslmode=require."
    711 FOLLOWED_FALSE "a validator showed what does not verify"
      "A certificate, signature, link or root in what it sent is false against the genesis. Nothing of it was used; it is not asked again before the gateway is restarted. Tell its operator, and keep the log as evidence."
    712 FOLLOWED_BEHIND "a validator stands still while others go on"
      "It gave no new height for a while, and another one had more: it withholds them, is cut off, or is catching up. It is asked again later."
    713 NOBODY_LEFT "no validator is left to follow"
      "Each of the validators given showed what does not verify, so none is asked any more. What was verified before is still served for reading. Give other validators, or compare the genesis file."
    714 DIVERGED "this execution gives another state than a quorum signed"
      "What was computed here for a height is not what two thirds of the stake signed, so nothing more is shown. Compare the versions; if they are the same, remove the state and columns directories and start again, and report it."
    720 CURSOR "cursor is wrong"
      "The text is no cursor, was changed by hand, or has numbers that no consumer has. Use the last one that the client gave, or begin again from a height."
    721 CURSOR_CONFLICT "cursor and ledger disagree about what is certified"
      "The cursor holds a certified root that this ledger does not have. Either the cursor was forged, or one of two servers has shown a false history: keep both answers, and compare with other validators."
    722 BEHIND "this validator is behind the cursor"
      "The cursor is of a height that this validator has not reached. Nothing is lost: ask another validator, or this one later."
    723 PRUNED "what follows the cursor was pruned"
      "This validator keeps the lane only from the horizon on. Ask one that keeps more, import the checkpoint and resume there, or begin at the horizon."
    724 FEED_FALSE "a server showed events that do not verify"
      "What was streamed does not agree with the certificates, roots or signatures of the ledger: events were omitted, swapped, repeated or invented on the way. Nothing of it was given on; the evidence is kept, and quipu verify --evidence checks it offline."
    725 RECOVER "the ledger can not be recovered so"
      "The message says what is missing: an empty directory, more addresses, or agreement among validators. Nothing that was there was changed."
    726 EXPORT "heights can not be exported so"
      "The message says which heights are there, or what is in the way. Nothing was changed."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_ascend_and_read_back_from_their_text() {
        assert!(CODES.is_sorted_by_key(|entry| entry.code));
        for entry in CODES {
            assert_eq!(entry.code.to_string().parse(), Ok(entry.code));
            assert!(!entry.text.is_empty() && entry.text.ends_with('.'), "{}", entry.code);
        }
        assert!("QP9999".parse::<Code>().is_err());
    }
}

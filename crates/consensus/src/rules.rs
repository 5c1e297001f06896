//! The rules that can be switched off, so that a test shows that each is needed. Outside tests all hold.

/// Which rules hold. Each names what goes wrong without it; a scenario of the simulator of the same name shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one rule, on or off")]
pub struct Rules {
    /// Who enters a round above 0 first logs and says its own round change, and votes no more below (rule (a)).
    pub change_before_vote: bool,
    /// A proposal of a round above 0 has the value of its certificate (rule (b)).
    pub value_of_certificate: bool,
    /// No prevote without the chunk headers that link the last cut to the new one.
    pub hold_headers: bool,
    /// No precommit without the bodies, checked and durable.
    pub hold_bodies: bool,
    /// A cut reaches what a third reported.
    pub inclusion: bool,
    /// A precommit reports tips that extend the cut it is for.
    pub tips_extend: bool,
    /// A precommit reports tips that a third acknowledged.
    pub tips_acked: bool,
    /// The acks behind the reported tips are logged with the precommit.
    pub tips_logged: bool,
    /// Nothing is reported of a lane whose term the header ends.
    pub tips_of_live_terms: bool,
    /// A term ends in the header that follows suspicions of a third, whoever leads.
    pub terms_end: bool,
    /// A term ends only then.
    pub terms_justified: bool,
    /// A chunk belongs to the branch of its term.
    pub branch: bool,
    /// One chunk is acknowledged for each lane, term and index.
    pub one_ack: bool,
    /// An ack counts for the chunks before the one that it names, and whoever lacks that one asks for it.
    pub acks_beyond: bool,
    /// What is said again is said in the same bytes.
    pub same_bytes: bool,
    /// Every signature of a stored certificate is verified, not only those of the first quorum.
    pub all_signatures: bool,
    /// Precommits of an open round commit only with the coin that elects their instance.
    pub coin_commits: bool,
    /// Nobody leaves for a round without the coins of every open round below it (rule (c)).
    pub change_with_coins: bool,
    /// A coin is thrown when instances whose owners are a quorum have their precommits.
    pub owners_done: bool,
    /// In an open round a validator votes once for each instance, and votes for several are no crime.
    pub instance_votes: bool,
    /// What is known of the highest polka outlives a restart: it is logged with the precommit.
    pub polka_logged: bool,
    /// Of which kind a height's rounds are follows from committed headers, never from the certificate that a
    /// validator holds.
    pub kinds_by_headers: bool,
    /// Who follows a proposal into a later round says its own round change too.
    pub change_on_entry: bool,
    /// The owner of an instance is who proposed it, not whom its header names.
    pub owners_propose: bool,
    /// A round change forgets a precommit of an open round only if the coin elects its instance.
    pub amnesia_elected: bool,
    /// A suspicion counts for the term that it names, and is said while that one lasts.
    pub suspicions_of_terms: bool,
    /// A third that reported is a third of all stake, not of those who signed.
    pub thirds_of_all: bool,
    /// While the certified state is too far behind for lanes to move, nothing is left out.
    pub lag_frees_cuts: bool,
    /// Who knows a state certificate that lets lanes move prevotes no new header that moves none for want of one.
    pub lag_excused: bool,
    /// A validator with a new disk signs nothing before its threshold.
    pub observer_waits: bool,
    /// The threshold is the height after the highest that others vote in, not that one.
    pub observer_waits_on: bool,
    /// A validator with a new disk neither makes nor acknowledges chunks of a term that began before its threshold.
    pub observer_lanes: bool,
    /// A round change of a finished height is answered with the headers committed from there on, and so is who asks for
    /// them: either alone would do.
    pub answers: bool,
    /// What an answer to who has started proves of its own height is committed by it.
    pub answers_decide: bool,
    /// A stripe of a chunk's body proves itself against the chunk's header before it is kept or passed on.
    pub stripes_proven: bool,
    /// Who lacks the certificate of a state that it executed asks others for it.
    pub states_asked: bool,
    /// A sequencer that keeps out what a client complains of is suspected.
    pub complaints: bool,
    /// Only a transaction counts that the sequencer could order: its producer's next.
    pub complaints_of_next: bool,
    /// While a lane moves through chunks that were there before the complaint, nothing counts.
    pub complaints_excuse: bool,
    /// A state is signed when it was executed, and not because another claims it.
    pub claims_ignored: bool,
    /// A state against the certificate of its height is evidence.
    pub false_states: bool,
    /// Proposers carry late votes of who is in no certificate.
    pub late_votes: bool,
    /// The first round of a height is left at once when its leader has said that it stops.
    pub leaving_left: bool,
}

impl Rules {
    /// All of them.
    pub const ALL: Self = Self {
        change_before_vote: true,
        value_of_certificate: true,
        hold_headers: true,
        hold_bodies: true,
        inclusion: true,
        tips_extend: true,
        tips_acked: true,
        tips_logged: true,
        tips_of_live_terms: true,
        terms_end: true,
        terms_justified: true,
        branch: true,
        one_ack: true,
        acks_beyond: true,
        same_bytes: true,
        all_signatures: true,
        coin_commits: true,
        change_with_coins: true,
        owners_done: true,
        instance_votes: true,
        polka_logged: true,
        kinds_by_headers: true,
        change_on_entry: true,
        owners_propose: true,
        amnesia_elected: true,
        suspicions_of_terms: true,
        thirds_of_all: true,
        lag_frees_cuts: true,
        lag_excused: true,
        observer_waits: true,
        observer_waits_on: true,
        observer_lanes: true,
        answers: true,
        answers_decide: true,
        stripes_proven: true,
        states_asked: true,
        complaints: true,
        complaints_of_next: true,
        complaints_excuse: true,
        claims_ignored: true,
        false_states: true,
        late_votes: true,
        leaving_left: true,
    };
}

impl Default for Rules {
    fn default() -> Self {
        Self::ALL
    }
}

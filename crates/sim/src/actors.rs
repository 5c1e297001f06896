//! Validators that break rules, a file for each crime. A criminal is an honest replica with the criminal's key whose
//! messages are changed, kept back or multiplied on their way out: it knows all that a validator knows.
//!
//! | file | crime | evidence |
//! |---|---|---|
//! | equivocator | as a leader two headers and votes for both; as a sequencer two chunks of one place | yes |
//! | withholder | chunks and votes for a quorum less one, nothing served | none |
//! | replayer | old bytes of every kind, its own and others', again and again | none |
//! | silent | says nothing more after a while | none |
//! | sprayer | round changes to huge rounds, of random polkas, two of a round | yes |

/// A crime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crime {
    /// Says two things of one place.
    Equivocate,
}

impl Crime {
    /// Every crime.
    pub const ALL: [Self; 1] = [Self::Equivocate];

    pub(crate) fn any(random: &mut fastrand::Rng) -> Self {
        random.choice(Self::ALL).unwrap_or(Self::Equivocate)
    }
}

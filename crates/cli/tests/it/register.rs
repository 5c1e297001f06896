//! A register that many clients change by compare-and-set, and whether what they were told can be: a history checker.
//!
//! ```text
//!  operation   old → new     began ≤ answered      true: it was old, and is new; false: it was not old; unknown: nobody answered
//!  chain       first → v1 → v2 → …               new values are all different, so there is one chain, if any
//! ```
//! What is checked is linearizability (Herlihy and Wing, 1990): each operation takes effect at one moment between its begin and its
//! answer, and what is told follows from the moments' order. With values that are written once this needs no search.

use std::collections::BTreeMap;

/// What a client did and was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) old: i64,
    pub(crate) new: i64,
    /// None: it was never told.
    pub(crate) done: Option<bool>,
    /// Nanoseconds of one clock. What was never answered may take effect any time later.
    pub(crate) began: u64,
    pub(crate) answered: u64,
}

/// Whether the history can be of one register that began at `first` and ends at `last`; what can not be, else.
pub(crate) fn check(first: i64, last: i64, operations: &[Operation]) -> Result<usize, String> {
    let mut by_new: BTreeMap<i64, &Operation> = BTreeMap::new();
    for operation in operations {
        if by_new.insert(operation.new, operation).is_some() {
            return Err(format!("value {} is written twice by the clients", operation.new));
        }
    }
    // From the last value back to the first: the only chain that there can be.
    let mut chain = Vec::new();
    let mut value = last;
    while value != first {
        let Some(writer) = by_new.get(&value).filter(|_| chain.len() <= operations.len()) else {
            return Err(format!("value {value} was written by nobody"));
        };
        if writer.done == Some(false) {
            return Err(format!("value {value} stands, and its writer was told that it does not"));
        }
        chain.push(*writer);
        value = writer.old;
    }
    chain.reverse();
    let taken: Vec<i64> = chain.iter().map(|operation| operation.new).collect();
    let lost = operations.iter().find(|one| one.done == Some(true) && !taken.contains(&one.new));
    if let Some(lost) = lost {
        return Err(format!("{} → {} was acknowledged and is lost", lost.old, lost.new));
    }
    // Each at the earliest moment that the ones before allow.
    let mut moment = 0;
    for operation in &chain {
        moment = moment.max(operation.began);
        if operation.done == Some(true) && moment > operation.answered {
            return Err(format!(
                "{} → {} was answered before it could be",
                operation.old, operation.new
            ));
        }
    }
    refusals(first, &chain, operations)?;
    Ok(chain.len())
}

/// Nobody was told that a value does not stand which stood all the time that he waited.
fn refusals(first: i64, chain: &[&Operation], operations: &[Operation]) -> Result<(), String> {
    for refused in operations.iter().filter(|operation| operation.done == Some(false)) {
        let set = match chain.iter().find(|operation| operation.new == refused.old) {
            Some(writer) if writer.done == Some(true) => writer.answered,
            None if refused.old == first => 0,
            // Not written, or nobody knows when.
            _ => continue,
        };
        let next = chain.iter().find(|operation| operation.old == refused.old);
        let gone = next.map_or(u64::MAX, |operation| operation.began);
        if set < refused.began && refused.answered < gone {
            return Err(format!("{} stood while a client was told that it did not", refused.old));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(old: i64, new: i64, done: Option<bool>, began: u64, answered: u64) -> Operation {
        Operation { old, new, done, began, answered }
    }

    #[test]
    fn what_one_register_can_tell_passes_and_anything_else_is_named() {
        let yes = Some(true);
        let right = [
            operation(0, 1, yes, 1, 5),
            operation(0, 9, Some(false), 2, 6),
            operation(1, 2, None, 3, u64::MAX),
            operation(2, 3, yes, 8, 9),
        ];
        assert_eq!(check(0, 3, &right), Ok(3));
        let wrong = |change: &dyn Fn(&mut Vec<Operation>), last: i64| {
            let mut operations = right.to_vec();
            change(&mut operations);
            check(0, last, &operations).unwrap_err()
        };
        let lost = wrong(&|all| all[3].old = 1, 2);
        assert!(lost.contains("is lost"), "{lost}");
        let early = wrong(&|all| all[2] = operation(1, 2, yes, 10, 12), 3);
        assert!(early.contains("before it could be"), "{early}");
        let nobody = wrong(&|_| {}, 7);
        assert!(nobody.contains("by nobody"), "{nobody}");
        let refused = wrong(&|all| all[0].done = Some(false), 3);
        assert!(refused.contains("told that it does not"), "{refused}");
        let stood = wrong(&|all| all.push(operation(3, 8, Some(false), 20, 21)), 3);
        assert!(stood.contains("stood while"), "{stood}");
        let twice = wrong(&|all| all[1].new = 1, 3);
        assert!(twice.contains("written twice"), "{twice}");
        let circle = wrong(&|all| all[0].old = 3, 3);
        assert!(circle.contains("by nobody"), "{circle}");
    }
}

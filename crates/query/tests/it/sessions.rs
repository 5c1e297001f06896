//! What a session is told: parameters, transactions, refusals.

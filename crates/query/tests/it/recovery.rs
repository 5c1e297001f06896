//! What a store holds after a restart, a crash, and a flipped bit.

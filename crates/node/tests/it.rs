//! One validator as its users see it: over sockets, across restarts, with bad neighbours and bad disks.

#[path = "it/check.rs"]
mod check;
#[path = "it/follow.rs"]
mod follow;
#[path = "it/garbage.rs"]
mod garbage;
#[path = "it/ledger.rs"]
mod ledger;
#[path = "it/start.rs"]
mod start;
#[path = "it/world.rs"]
mod world;

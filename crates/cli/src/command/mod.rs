//! One file a command. Each ends with a [`Failure`](crate::failure::Failure) or the process' exit code 0.

pub(crate) mod append;
pub(crate) mod bench;
pub(crate) mod bench_accel;
pub(crate) mod bench_consume;
pub(crate) mod bench_produce;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod consumers;
pub(crate) mod dev;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod gateway;
pub(crate) mod genesis;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod prove;
pub(crate) mod recover;
pub(crate) mod sim;
pub(crate) mod sql;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stream;
pub(crate) mod tail;
pub(crate) mod tamper;
pub(crate) mod verify;

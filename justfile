# The menu. Everything here is a short name for a command that works without `just`.

# List the menu.
default:
    @just --list

# Format, lint, test: what a change must pass.
check: fmt clippy test

# Every lint of the workspace's table, as an error.
clippy:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# All tests (installs what they need first).
test *words:
    scripts/test {{words}}

# The simulator's worlds of the test command alone.
sim *words:
    cargo test -p quipu-sim --locked {{words}}

# A hundred thousand worlds, on every core; a failure prints the seed that replays it.
sim-long seeds="100000" first="0":
    cargo run --locked -- sim --seeds {{seeds}} --seed {{first}}

# What is decided before, in and after a storm in which no led round can be.
sim-storm *words:
    cargo run --locked -- sim --profile storm {{words}}

# Events a second into one validator, durable, over sockets; see docs/measurements.md.
bench *words:
    cargo run --release --locked -- bench produce {{words}}

# Events a second beside Redis Streams, NATS JetStream and PostgreSQL; benches/events/run.py says what it needs.
bench-peers *words:
    cargo build --release --locked
    benches/events/run.py --quipu "${CARGO_TARGET_DIR:-target}/release/quipu" {{words}}

# Events a second over 1 to 8 lanes, and what followers of a quiet stream cost.
bench-lanes *words:
    cargo build --release --locked
    benches/events/lanes.py --quipu "${CARGO_TARGET_DIR:-target}/release/quipu" {{words}}

# Hashes and signature checks a second, beside other packages; see benches/peers/README.md.
bench-hashes *words:
    cargo run --release --locked --manifest-path benches/peers/Cargo.toml -- {{words}}

# What order alone costs, beside other packages; see benches/order/README.md.
bench-order *words:
    cargo run --release --locked --manifest-path benches/order/Cargo.toml -- {{words}}

# Write the sources as rustfmt would.
fmt:
    cargo fmt --all

# What is untidy, with a fix for each.
tidy:
    cargo run -q -p xtask --locked -- tidy

# Install what the build and the tests need beside Rust (Debian, Ubuntu).
setup:
    scripts/setup

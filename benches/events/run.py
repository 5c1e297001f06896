#!/usr/bin/env python3
"""Measure Quipu's event streams beside other logs, in one run on one machine, with the same events.

    benches/events/run.py [--quipu PATH] [--runs N] [--seconds S] [--validators N] [PART]...

Every server is started here, on ports and in folders of its own, and only while it is measured. The peers come from the
system's packages (Debian: redis-server, nats-server, postgresql); one that is missing is named and left out. Their clients are
benches/events (built here by cargo), which speak the protocols by hand. Figures are medians of N runs, the sides in
turn; a run's server begins empty. The tables go into docs/measurements.md.

Parts (all without one):
    alone    each producer waits for a batch's answer before it sends the next
    many     as many batches in flight as quipu bench produce has: 256, 32, 8 at batches of 1, 100, 1,000
    consume  one reader from the beginning; Quipu's checks every byte against the genesis
"""

import argparse
import glob
import json
import os
import pathlib
import pwd
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

SHAPES = ((1, 1), (1, 100), (1, 1000), (4, 1000))
IN_FLIGHT = {1: 256, 100: 32, 1000: 8}
SIZE = 200
CONSUMED_COUNT = 1_000_000
HERE = pathlib.Path(__file__).resolve().parent


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run(command, **options):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def wait_for(address, process, command):
    host, port = address.split(":")
    for _ in range(300):
        if process.poll() is not None:
            sys.exit(f"{command} ended")
        try:
            return socket.create_connection((host, int(port)), timeout=1).close()
        except OSError:
            time.sleep(0.1)
    sys.exit(f"{command} does not listen")


class Server:
    """A peer: started for a measurement, stopped after it, its files thrown away."""

    package, protocol = None, None

    def __init__(self, client):
        self.client = client

    def program(self):
        return shutil.which(self.package)

    def command(self, folder, port):
        raise NotImplementedError

    def measure(self, words):
        with tempfile.TemporaryDirectory(prefix="quipu-bench-") as folder:
            address = f"127.0.0.1:{free_port()}"
            command = [str(word) for word in self.command(pathlib.Path(folder), address.split(":")[1])]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                wait_for(address, process, command[0])
                return [json.loads(run([self.client, what, self.protocol, address, *more])) for what, *more in words]
            finally:
                process.terminate()
                process.wait()

    def produce(self, producers, batch, in_flight, seconds):
        words = ["--producers", producers, "--batch", batch, "--in-flight", in_flight, "--seconds", seconds]
        return self.measure([["produce", *words, "--size", SIZE]])[0]

    def consume(self, seconds):
        fill = ["produce", "--producers", 4, "--batch", 1000, "--in-flight", 8, "--seconds", seconds, "--size", SIZE]
        _, read = self.measure([fill, ["consume", "--events", CONSUMED_COUNT]])
        return read


class Redis(Server):
    package, protocol = "redis-server", "redis"

    def __init__(self, client, fsync):
        super().__init__(client)
        self.fsync = fsync
        self.name = f"Redis Streams, appendfsync {fsync}"
        self.durability = {
            "always": "fsync of the append-only file before the answer, once for all that arrived together",
            "everysec": "answers from memory; fsync once a second: a crash loses up to that",
        }[fsync]

    def command(self, folder, port):
        settings = ["--appendonly", "yes", "--appendfsync", self.fsync, "--save", ""]
        settings += ["--auto-aof-rewrite-percentage", "0"]
        return [self.program(), "--bind", "127.0.0.1", "--port", port, "--dir", folder, *settings]


class Nats(Server):
    package, protocol = "nats-server", "nats"
    name = "NATS JetStream, file"
    durability = "written to the file, not synced, before the answer; fsync every two minutes: a crash loses up to that"

    def command(self, folder, port):
        return [self.program(), "-a", "127.0.0.1", "-p", port, "-js", "-sd", folder]


class PostgreSQL(Server):
    package, protocol = "postgresql", "postgres"
    name = "PostgreSQL, INSERT of many rows"
    durability = "fdatasync of the write-ahead log before the answer"

    def program(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
        return found[-1] if found else None

    def measure(self, words):
        # The server refuses to run as root.
        self.owner = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        with tempfile.TemporaryDirectory(prefix="quipu-bench-") as folder:
            data = pathlib.Path(folder, "data")
            if self.owner:
                user = pwd.getpwnam("postgres")
                os.chown(folder, user.pw_uid, user.pw_gid)
            initdb = pathlib.Path(self.program()).with_name("initdb")
            run([initdb, "-D", data, "-A", "trust", "-U", "postgres"], **self.owner)
            address = f"127.0.0.1:{free_port()}"
            command = [self.program(), "-D", data, "-p", address.split(":")[1], "-h", "127.0.0.1", "-k", folder]
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([str(word) for word in command], **quiet, **self.owner)
            try:
                for _ in range(300):
                    if subprocess.run([initdb.with_name("pg_isready"), "-h", "127.0.0.1", "-p", address.split(":")[1]], **quiet).returncode == 0:
                        break
                    time.sleep(0.1)
                return [json.loads(run([self.client, what, self.protocol, address, *more])) for what, *more in words]
            finally:
                process.send_signal(2)
                process.wait()


class Quipu:
    """A ledger of its own for each run: every validator is another process."""

    def __init__(self, binary, validators):
        self.binary, self.validators = binary, validators
        self.name = f"Quipu, {validators} validator{'s' if validators > 1 else ''}"
        self.durability = "fdatasync on a quorum's disks before the answer; signed, ordered, agreed, executed, in SQL, provable"

    def program(self):
        return shutil.which(self.binary)

    def bench(self, producers, batch, in_flight, events):
        words = ["--producers", producers, "--batch", batch, "--in-flight", in_flight, "--events", events]
        said = run([self.binary, "bench", "produce", "--json", "--size", SIZE, "--validators", self.validators, *words])
        return json.loads(said)["results"][0]

    def produce(self, producers, batch, in_flight, seconds):
        # A short run says how many events fill the time.
        events = producers * batch * in_flight * 4
        rate = self.bench(producers, batch, in_flight, events)["events_per_second"]
        return self.bench(producers, batch, in_flight, max(events, int(rate * seconds)))

    def consume(self, _):
        words = ["--events", CONSUMED_COUNT, "--batch", 1000, "--size", SIZE, "--validators", self.validators]
        return json.loads(run([self.binary, "bench", "consume", "--json", *words]))["results"][0]


def in_turn(sides, runs, measure):
    """What each side gave, run by run."""
    taken = {side.name: [] for side in sides}
    for _ in range(runs):
        for side in sides:
            taken[side.name].append(measure(side))
    return taken


def cell(taken, ours):
    rates = [one["events_per_second"] for one in taken]
    middle = statistics.median(rates)
    ratio = f"; ours {ours / middle:.3f} of it" if ours else ""
    text = f"{middle:,.0f} ({min(rates):,.0f}, {max(rates):,.0f}){ratio}"
    if "p50_us" in taken[0]:
        times = [statistics.median(one[name] for one in taken) for name in ("p50_us", "p99_us")]
        text += f"; {times[0]:,.0f}/{times[1]:,.0f}"
    return text


def table(title, columns, sides, measured):
    """Rows are sides, columns what was measured: events/s median (low, high); ratio; p50/p99 µs a batch."""
    print(f"\n{title}\n\n| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}", flush=True)
    for side in sides:
        cells = []
        for taken in measured:
            rates = [one["events_per_second"] for one in taken[sides[0].name]]
            cells.append(cell(taken[side.name], None if side is sides[0] else statistics.median(rates)))
        print(f"| {side.name} | {' | '.join(cells)} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quipu", default="quipu", help="the binary (default: quipu on the path)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--validators", type=int, default=1)
    parser.add_argument("parts", nargs="*", metavar="PART", help="alone, many, consume")
    arguments = parser.parse_args()
    parts = arguments.parts or ["alone", "many", "consume"]
    if unknown := set(parts) - {"alone", "many", "consume"}:
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    if not shutil.which(arguments.quipu):
        parser.error(f"{arguments.quipu} is not there: cargo build --release --locked, then --quipu target/release/quipu")
    manifest = HERE / "Cargo.toml"
    build = ["cargo", "build", "--release", "--locked", "--message-format", "json", "--manifest-path", manifest]
    built = [json.loads(line) for line in run(build).splitlines()]
    client = next(one["executable"] for one in built if one.get("executable"))
    sides = [Quipu(arguments.quipu, arguments.validators)]
    for peer in (Redis(client, "always"), Redis(client, "everysec"), Nats(client), PostgreSQL(client)):
        if peer.program():
            sides.append(peer)
        else:
            print(f"{peer.name} is left out: apt-get install {peer.package}", file=sys.stderr)
    print(f"{SIZE}-byte events, one machine, loopback; medians of {arguments.runs} runs (low, high), p50/p99 µs a batch.\n")
    for side in sides:
        print(f"* {side.name}: {side.durability}.")
    columns = [f"{producers} × {batch:,}" for producers, batch in SHAPES]
    for part, title in (("alone", "One batch in flight a producer"), ("many", "256, 32, 8 batches in flight a producer")):
        if part not in parts:
            continue
        measured = []
        for producers, batch in SHAPES:
            depth = 1 if part == "alone" else IN_FLIGHT[batch]
            produce = lambda side: side.produce(producers, batch, depth, arguments.seconds)
            measured.append(in_turn(sides, arguments.runs, produce))
        table(f"{title}, events/s", columns, sides, measured)
    if "consume" in parts:
        taken = in_turn(sides, arguments.runs, lambda side: side.consume(arguments.seconds))
        table("One reader from the beginning, events/s", ["1 reader"], sides, [taken])


if __name__ == "__main__":
    main()

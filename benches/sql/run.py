#!/usr/bin/env python3
"""Measure Quipu's SQL beside PostgreSQL's, in one run, with the same clients and the same durability.

    benches/sql/run.py [--quipu PATH] [--runs N] [--seconds S] [--scale N] [PART]...

Both are started here on ports of their own: Quipu with four validators in one process, PostgreSQL from the system's
packages (`postgresql`, and `pgbench` from `postgresql-contrib` or `postgresql`) with its own settings, fsync on. The
clients are pgbench and psql, on the same machine. Each figure is the median of N runs, the two sides in turn. The
table that is printed goes into docs/measurements.md.

Parts (all without one):
    insert    one row an INSERT into a plain table, 1, 8 and 64 clients
    audit     one row an INSERT into a log that shows tampering: PostgreSQL with a chain of hashes kept by a trigger,
              Quipu a stream; alone, 100 in a pipeline, and by COPY
    tpcb      pgbench's own script at a scale
    point     one row by its key, 1 and 8 clients
"""

import argparse
import glob
import json
import os
import pathlib
import pwd
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

CLIENTS = {"insert": (1, 8, 64), "audit": (1, 8, 64), "tpcb": (1, 8), "point": (1, 8)}
KEY_COUNT = 10_000
BODY = "x" * 100
COPY_ROW_COUNT = 200_000
PIPELINE_COUNT = 100

# What an audit table looks like by hand: rows in one order, each with the hash of all before it.
CHAIN = """
create table audit (id bigint primary key, hash bytea not null, body text not null);
create sequence audit_id;
create function chain() returns trigger language plpgsql as $$
declare before bytea;
begin
    perform pg_advisory_xact_lock(1);
    select hash into before from audit order by id desc limit 1;
    new.id := nextval('audit_id');
    new.hash := sha256(coalesce(before, ''::bytea) || convert_to(new.body, 'utf8'));
    return new;
end $$;
create trigger chain before insert on audit for each row execute function chain();
"""


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


class Quipu:
    """Four validators, and a gateway in one of them."""

    name = "quipu"

    def __init__(self, folder, binary):
        urls = folder / "quipu.json"
        command = [binary, "dev", "--dir", folder / "quipu", "--no-sample", "--validators", "4"]
        command += ["--pg", "0", "--http", "0", "--url-file", urls]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not (urls.exists() and urls.stat().st_size):
            if self.process.poll() is not None:
                sys.exit(f"{command} ended")
            time.sleep(0.1)
        self.url = json.loads(urls.read_text())["pg"]
        self.audit = "create stream audit (body text not null)"
        self.copy_options = "-c quipu.copy_batch_rows=10000"

    def stop(self):
        self.process.terminate()
        self.process.wait()


class PostgreSQL:
    """A server of the system's packages, as it is set up by default."""

    name = "postgresql"

    def __init__(self, folder):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin")) or [os.path.dirname(shutil.which("initdb") or "")]
        self.programs = pathlib.Path(found[-1])
        if not (self.programs / "initdb").exists():
            sys.exit("PostgreSQL's server is not installed: apt-get install postgresql")
        self.folder = folder / "postgresql"
        self.folder.mkdir()
        self.owner = {}
        if os.geteuid() == 0:
            # The server refuses to run as root.
            user = pwd.getpwnam("postgres")
            folder.chmod(0o755)
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self.owner = {"user": user.pw_uid, "group": user.pw_gid}
        self.data = self.folder / "data"
        run([self.programs / "initdb", "-D", self.data, "-A", "trust", "-U", "postgres"], **self.owner)
        port = 20_000 + os.getpid() % 30_000
        options = f"-p {port} -k {self.folder}"
        log = self.folder / "log"
        start = [self.programs / "pg_ctl", "-D", self.data, "-o", options, "-l", log, "-w", "start"]
        subprocess.run(start, check=True, stdout=subprocess.DEVNULL, **self.owner)
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        self.audit = CHAIN
        self.copy_options = ""

    def stop(self):
        run([self.programs / "pg_ctl", "-D", self.data, "-m", "fast", "stop"], **self.owner)


def sql(side, *statements):
    commands = [word for statement in statements for word in ("-c", statement)]
    return run(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", *commands, side.url])


def pgbench(side, clients, seconds, script=None):
    """Transactions a second and their mean time in milliseconds."""
    command = ["pgbench", "-n", "-M", "prepared", "-c", str(clients), "-j", "2", "-T", str(seconds)]
    said = run([*command, *(["-f", script] if script else []), side.url])
    if failed := re.search(r"number of failed transactions: ([1-9]\d*)", said):
        print(f"  {side.name}: {failed[1]} of {clients} clients' transactions failed (40001)", file=sys.stderr)
    rate = float(re.search(r"tps = ([\d.]+)", said)[1])
    return rate, float(re.search(r"latency average = ([\d.]+)", said)[1])


def copy(side, file):
    """Rows a second."""
    began = time.monotonic()
    environment = {**os.environ, "PGOPTIONS": side.copy_options}
    run(["psql", "-qX", "-v", "ON_ERROR_STOP=1", "-c", f"\\copy audit (body) from '{file}'", side.url], env=environment)
    return COPY_ROW_COUNT / (time.monotonic() - began), 0.0


def initialize(side, scale):
    """pgbench's tables; the keys before the rows, since a key that comes later is one transaction over all rows."""
    environment = {**os.environ, "PGOPTIONS": side.copy_options}
    run(["pgbench", "-q", "-i", "-I", "dtpg", "-s", str(scale), side.url], env=environment)


class Table:
    """Rows of the report."""

    def __init__(self, sides, runs):
        self.sides, self.runs = sides, runs
        print("| what | Quipu /s (low, high) | PostgreSQL /s (low, high) | ratio | ms, Quipu and PostgreSQL |")
        print("|---|---|---|---|---|")

    def row(self, what, measure, factor=1):
        taken = {side.name: [] for side in self.sides}
        for _ in range(self.runs):
            for side in self.sides:
                taken[side.name].append(measure(side))
        rates = {name: [rate * factor for rate, _ in all] for name, all in taken.items()}
        middle = {name: statistics.median(all) for name, all in rates.items()}
        shown = {name: f"{middle[name]:,.0f} ({min(all):,.0f}, {max(all):,.0f})" for name, all in rates.items()}
        times = " and ".join(f"{statistics.median(time for _, time in all):.3f}" for all in taken.values())
        ratio = middle["quipu"] / middle["postgresql"]
        print(f"| {what} | {shown['quipu']} | {shown['postgresql']} | {ratio:.3f} | {times} |", flush=True)


def measure(parts, sides, table, folder, arguments):
    seconds = arguments.seconds

    def script(name, text):
        path = folder / f"{name}.sql"
        path.write_text(text)
        return path

    if "insert" in parts:
        [sql(side, "create table plain (k text not null, n int)") for side in sides]
        insert = script("insert", "insert into plain values ('k', 1)")
        for clients in CLIENTS["insert"]:
            table.row(f"INSERT, {clients} clients", lambda side: pgbench(side, clients, seconds, insert))
    if "audit" in parts:
        [sql(side, side.audit) for side in sides]
        one = f"insert into audit (body) values ('{BODY}');\n"
        single = script("audit", one)
        many = script("pipeline", f"\\startpipeline\n{one * PIPELINE_COUNT}\\endpipeline\n")
        for clients in CLIENTS["audit"]:
            table.row(f"audit INSERT, {clients} clients", lambda side: pgbench(side, clients, seconds, single))
        for clients in (1, 8):
            what = f"audit, {PIPELINE_COUNT} INSERTs a pipeline, {clients} clients"
            table.row(what, lambda side: pgbench(side, clients, seconds, many), PIPELINE_COUNT)
        file = folder / "rows.txt"
        file.write_text(f"{BODY}\n" * COPY_ROW_COUNT)
        file.chmod(0o644)
        table.row(f"audit COPY, {COPY_ROW_COUNT:,} rows", lambda side: copy(side, file))
    if "tpcb" in parts:
        [initialize(side, arguments.scale) for side in sides]
        for clients in CLIENTS["tpcb"]:
            what = f"TPC-B of pgbench, scale {arguments.scale}, {clients} clients"
            table.row(what, lambda side: pgbench(side, clients, seconds))
        balances = "select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers), \
(select sum(bbalance) from pgbench_branches), (select sum(delta) from pgbench_history)"
        for side in sides:
            sums = sql(side, balances).strip().split("|")
            if len(set(sums)) != 1:
                sys.exit(f"{side.name}: the balances of pgbench differ: {sums}")
    if "point" in parts:
        rows = f"insert into point select g, 'v' from generate_series(1, {KEY_COUNT}) as g"
        [sql(side, "create table point (id int primary key, v text)", rows) for side in sides]
        read = script("point", f"\\set id random(1, {KEY_COUNT})\nselect v from point where id = :id\n")
        for clients in CLIENTS["point"]:
            table.row(f"row by key, {clients} clients", lambda side: pgbench(side, clients, seconds, read))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quipu", default="quipu", help="the binary (default: quipu on the path)")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--scale", type=int, default=10)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(CLIENTS)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(CLIENTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    parts = arguments.parts or list(CLIENTS)
    with tempfile.TemporaryDirectory(prefix="quipu-bench-") as folder:
        folder = pathlib.Path(folder)
        sides = []
        try:
            sides.append(Quipu(folder, arguments.quipu))
            sides.append(PostgreSQL(folder))
            measure(parts, sides, Table(sides, arguments.runs), folder, arguments)
        finally:
            [side.stop() for side in sides]


if __name__ == "__main__":
    main()

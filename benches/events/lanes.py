#!/usr/bin/env python3
"""Measure Quipu's events a second over 1, 2, 4 and 8 lanes, and what many idle consumers cost.

    benches/events/lanes.py [--quipu PATH] [--runs N] [--events N] [--validators N] [--idle N] [PART]...

Every ledger is made here with the ceremony's commands, on ports and in folders of its own, and runs only while it is
measured. Figures are medians of N runs, the numbers of lanes in turn. The tables go into docs/measurements.md.

Parts (all without one):
    lanes    batches of 1,000 events of 200 bytes, four producers; processor time is that of the validators' processes
    idle     followers of a stream that nobody appends to, on one validator: memory before and with them
"""

import argparse
import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import time

LANES = (1, 2, 4, 8)
TICKS = os.sysconf("SC_CLK_TCK")


def run(command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Ledger:
    """Validators as processes, each made with the ceremony's commands."""

    def __init__(self, quipu, folder, validators, lanes, change=lambda text: text):
        self.quipu, self.folder = quipu, folder
        names = [f"v{at}" for at in range(validators)]
        ports = free_ports(validators)
        draft = folder / "genesis.draft.json"
        run([quipu, "genesis", "new", "--dir", folder, "--name", "lanes", "--lanes", lanes])
        for name, port in zip(names, ports):
            key = folder / f"{name}.key"
            run([quipu, "keys", "new", "--out", key])
            run([quipu, "genesis", "join", "--genesis", draft, "--name", name, "--key", key, "--power", 1,
                 "--address", f"127.0.0.1:{port}", "--out", folder / f"{name}.join.json"])
        joins = [folder / f"{name}.join.json" for name in names]
        self.genesis = folder / "genesis.json"
        run([quipu, "genesis", "merge", draft, *joins, "--out", self.genesis])
        self.processes, self.urls = [], []
        for name, port in zip(names, ports):
            home = folder / name
            run([quipu, "init", "--dir", home, "--genesis", self.genesis, "--key", folder / f"{name}.key",
                 "--peers", *joins, "--listen", f"127.0.0.1:{port}", "--base-port", 0])
            config = home / "config.toml"
            config.write_text(change(config.read_text()))
            process = subprocess.Popen([quipu, "start", "--dir", home], stdout=subprocess.PIPE,
                                       stderr=open(folder / f"{name}.log", "w"), text=True)
            line = process.stdout.readline()
            self.processes.append(process)
            self.urls.append(re.search(r"ready: http (\S+)", line).group(1))

    def processor_seconds(self):
        def of(pid):
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / TICKS
        return sum(of(process.pid) for process in self.processes)

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def lanes(args):
    figures = {count: [] for count in LANES}
    for _ in range(args.runs):
        for count in LANES:
            with tempfile.TemporaryDirectory() as folder:
                ledger = Ledger(args.quipu, pathlib.Path(folder), args.validators, count)
                before = ledger.processor_seconds()
                said = json.loads(run([args.quipu, "bench", "produce", "--url", ",".join(ledger.urls), "--batch", 1000,
                                       "--producers", 4, "--events", args.events, "--json"]))
                used = ledger.processor_seconds() - before
                ledger.stop()
                said = said["results"][0]
                cost = used * 1e6 / said["events"] / args.validators
                figures[count].append((said["events_per_second"], cost))
    print(f"| lanes | events/s ({args.validators} validators) | processor µs an event and validator |\n|---|---|---|")
    for count, runs in figures.items():
        rates, costs = zip(*runs)
        print(f"| {count} | {spread(rates, ',.0f')} | {spread(costs, '.2f')} |")


def spread(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}}, {max(values):{form}})"


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


def idle(args):
    def change(text):
        text = re.sub(r"follower_count_max = \d+", f"follower_count_max = {args.idle + 16}", text)
        return re.sub(r"http_connection_count_max = \d+", f"http_connection_count_max = {args.idle + 64}", text)

    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ledger = Ledger(args.quipu, folder, 1, 16, change)
        url, pid = ledger.urls[0], ledger.processes[0].pid
        run([args.quipu, "keys", "new", "--out", folder / "client.key"])
        run([args.quipu, "stream", "create", "--url", url, "--signer", folder / "client.key", "quiet",
             "--schema", "what text"])
        host, port = url.removeprefix("http://").split(":")
        before = resident(pid)
        held = []
        request = f"GET /v1/streams/quiet/events?follow=true HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n"
        for _ in range(args.idle):
            one = socket.create_connection((host, int(port)))
            one.sendall(request.encode())
            held.append(one)
        # Each has its answer's head, and then a keep-alive: all of them are served.
        for one in held:
            one.settimeout(60)
            head = one.recv(4096)
            assert head.startswith(b"HTTP/1.1 200"), head
        after = resident(pid)
        seconds = ledger.processor_seconds()
        began = time.monotonic()
        for one in held:
            assert one.recv(4096), "a follower was let go"
        took = time.monotonic() - began
        seconds = ledger.processor_seconds() - seconds
        print(f"{args.idle} idle followers: {before:.0f} MiB before, {after:.0f} MiB with them, "
              f"{(after - before) * 1024 / args.idle:.1f} KiB each; {seconds / max(took, 1e-9) * 100:.1f} % of a processor "
              f"over {took:.0f} s, in which each had a keep-alive")
        ledger.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quipu", default="target/release/quipu")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--validators", type=int, default=4)
    parser.add_argument("--idle", type=int, default=1000)
    parser.add_argument("parts", nargs="*", metavar="PART")
    args = parser.parse_args()
    for part in args.parts or ("lanes", "idle"):
        {"lanes": lanes, "idle": idle}[part](args)


if __name__ == "__main__":
    main()

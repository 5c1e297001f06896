"""Run SQL suites over the PostgreSQL wire and compare the answers.

    run.py [--extended] [--name NAME] --url URL [--url URL]... FILE...
    run.py --complete URL FILE...

The files are in the format of sqllogictest (https://sqlite.org/sqllogictest), a row a line:

    # a comment                     statement ok                  query TI rowsort
    connection b                    INSERT ...                    SELECT ...
    skipif postgresql                                             ----
    statement error 23505           statement count 3             a<tab>1
    INSERT ...                      DELETE ...                    NULL<tab>(empty)

A record ends at an empty line. A case is a record with a statement. Before it may stand `skipif NAME`, `onlyif NAME`
and `connection NAME` (a session of its own, kept for the file). A statement answers `ok`, `count` rows or `error` with
an SQLSTATE. A query's types are I for integers, R for numeric and float8, T for all others; `rowsort` sorts the rows.
`NULL` is null, `(empty)` the empty text; a line break in a value is written `\\n`, a tabulator `\\t`.

`--complete` writes into the files what a server answers: PostgreSQL 15 is the judge, with the time zone UTC and the
collation C. Files run one after another, those of several `--url` in turn: a transaction that creates a table is
refused when another session creates one meanwhile.

A case with `skipif quipu` has PostgreSQL's answer, which is right, and says in a comment what Quipu answers. Any other
name, as `--name mended`, runs these too: what does not fail any more needs no `skipif`.
"""

import argparse
import dataclasses
import pathlib
import sys

from psycopg import pq

INTEGERS = {20, 21, 23, 26}
REALS = {700, 701, 1700}


@dataclasses.dataclass
class Record:
    """Lines of a file; a case if it has a header."""

    line: int = 0
    before: list = dataclasses.field(default_factory=list)  # comments and conditions, as they stand
    header: str = ""
    sql: str = ""
    rows: list = dataclasses.field(default_factory=list)

    def words(self, first):
        lines = (line.split() for line in self.before)
        return [line[1] for line in lines if line and line[0] == first]

    def is_for(self, name):
        only = self.words("onlyif")
        return name not in self.words("skipif") and (not only or name in only)

    def text(self):
        lines = self.before + ([self.header, self.sql] if self.header else [])
        if self.header.startswith("query"):
            lines += ["----", *self.rows]
        return "\n".join(lines)


def parse(path):
    """The records of a file."""
    records, number = [], 1
    for block in path.read_text().rstrip("\n").split("\n\n"):
        lines, record = block.split("\n"), Record()
        for place, line in enumerate(lines):
            if line.startswith(("statement", "query")):
                record.line, record.header = number + place, line
                body = lines[place + 1 :]
                cut = body.index("----") if "----" in body else len(body)
                record.sql, record.rows = "\n".join(body[:cut]), body[cut + 1 :]
                break
            if line and not line.startswith(("#", "skipif ", "onlyif ", "connection ")):
                raise SystemExit(f"{path}:{number + place}: not understood: {line}")
            record.before.append(line)
        records.append(record)
        number += len(lines) + 1
    return records


def shown(value):
    if value is None:
        return "NULL"
    text = value.decode().replace("\\n", "\\\\n").replace("\n", "\\n").replace("\t", "\\t")
    return text or "(empty)"


def kind(oid):
    return "I" if oid in INTEGERS else "R" if oid in REALS else "T"


class Sessions:
    """The connections of one file."""

    def __init__(self, url, is_extended):
        self.url, self.is_extended, self.open = url, is_extended, {}

    def execute(self, name, sql):
        if name not in self.open:
            session = pq.PGconn.connect(self.url.encode())
            if session.status != pq.ConnStatus.OK:
                raise SystemExit(f"{self.url}: {session.error_message.decode()}")
            self.open[name] = session
        session = self.open[name]
        return session.exec_params(sql.encode(), None) if self.is_extended else session.exec_(sql.encode())

    def close(self):
        for session in self.open.values():
            session.finish()


def answer(record, result):
    """The header, and the rows, that an answer makes of a record."""
    status = result.status
    if status == pq.ExecStatus.FATAL_ERROR:
        state = result.error_field(pq.DiagnosticField.SQLSTATE)
        message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
        return f"statement error {(state or b'?').decode()}", [], message.decode()
    if status == pq.ExecStatus.TUPLES_OK:
        types = "".join(kind(result.ftype(column)) for column in range(result.nfields))
        rows = [
            "\t".join(shown(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]
        sort = record.header.split()[2:] if record.header.startswith("query") else []
        if sort == ["rowsort"]:
            rows.sort()
        return " ".join(["query", types, *sort]), rows, ""
    if status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY):
        return f"statement {pq.ExecStatus(status).name}", [], ""
    # CREATE TABLE AS and SELECT INTO count too, under the name SELECT.
    if result.command_status and result.command_status.split()[0] in (b"INSERT", b"UPDATE", b"DELETE"):
        return f"statement count {result.command_tuples}", [], ""
    return "statement ok", [], ""


def is_met(record, header, rows):
    wanted = record.header.split()
    if wanted[0] == "query":
        return (record.header, record.rows) == (header, rows)
    if wanted[1] == "error":
        return header.startswith(record.header)
    return header == record.header or (wanted[1] == "ok" and not header.startswith("statement error"))


def indented(text):
    return "\n".join(f"    {line}" for line in text.split("\n"))


def run(path, url, options):
    """Runs a file; gives the number of cases run and skipped, and what failed."""
    sessions, ran, skipped, failures = Sessions(url, options.extended), 0, 0, []
    records = parse(path)
    for record in records:
        if not record.header:
            continue
        if not record.is_for(options.name):
            skipped += 1
            continue
        ran += 1
        connection = (record.words("connection") or ["main"])[-1]
        header, rows, message = answer(record, sessions.execute(connection, record.sql))
        if options.complete:
            if record.header != "statement ok" or header != "statement ok":
                record.header, record.rows = header, rows
        elif not is_met(record, header, rows):
            wanted = "\n".join([record.header, *record.rows])
            got = "\n".join([f"{header}  {message}".rstrip(), *rows])
            failures.append(
                f"{path}:{record.line}\n{indented(record.sql)}\n  wanted\n{indented(wanted)}\n  got\n{indented(got)}"
            )
    sessions.close()
    if options.complete:
        path.write_text("\n\n".join(record.text() for record in records) + "\n")
    return ran, skipped, failures


def main():
    parser = argparse.ArgumentParser(description="Run SQL suites over the PostgreSQL wire.")
    parser.add_argument("--extended", action="store_true", help="use the extended protocol")
    parser.add_argument("--name", help="who answers: quipu, or with --complete postgresql")
    parser.add_argument("--url", action="append", default=[])
    parser.add_argument("--complete", metavar="URL", help="write the answers of this server into the files")
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    options.name = options.name or ("postgresql" if options.complete else "quipu")
    urls = [options.complete] if options.complete else options.url
    if not urls:
        parser.error("no --url")
    done = [run(path, urls[place % len(urls)], options) for place, path in enumerate(options.files)]
    failures = [failure for _, _, failed in done for failure in failed]
    print("\n".join(failures + [
        f"{sum(ran for ran, _, _ in done)} cases, {len(failures)} failed, "
        f"{sum(skipped for _, skipped, _ in done)} skipped"
    ]))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()

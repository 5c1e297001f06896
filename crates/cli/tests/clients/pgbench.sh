#!/usr/bin/env bash
# pgbench: its tables at scale 1, filled through COPY, then its transactions in each of the three query modes.
# usage: pgbench.sh URL
#
# One COPY of Quipu is one transaction of the ledger, which holds 16,384 rows: `quipu.copy_batch_rows` says that it may
# be several. PostgreSQL takes the parameter too, and does nothing with it.
set -euo pipefail
readonly URL="$1"

count() { psql -X -A -t "$URL" -c "select $1 from $2"; }
die() { echo "$*" >&2; exit 1; }

PGOPTIONS='-c quipu.copy_batch_rows=10000' pgbench -i -s 1 -q "$URL" 2>&1 | grep -q '^done in' || die "pgbench -i failed"
[ "$(count 'count(*)' pgbench_accounts)" = 100000 ] || die "pgbench_accounts has not 100000 rows"
transactions=0
for mode in simple extended prepared; do
  said="$(pgbench -n -M "$mode" -c 2 -j 2 -t 5 --max-tries=100 "$URL" 2>&1)" || die "$mode: $said"
  grep -q 'number of transactions actually processed: 10/10' <<<"$said" || die "$mode: $said"
  transactions=$((transactions + 10))
  said="$(pgbench -n -S -M "$mode" -t 20 "$URL" 2>&1)" || die "$mode: $said"
  grep -q 'number of transactions actually processed: 20/20' <<<"$said" || die "$mode: $said"
done
[ "$(count 'count(*)' pgbench_history)" = "$transactions" ] || die "pgbench_history has not $transactions rows"
total="$(count 'sum(abalance)' pgbench_accounts)"
for table in 'sum(tbalance) pgbench_tellers' 'sum(bbalance) pgbench_branches' 'sum(delta) pgbench_history'; do
  # shellcheck disable=SC2086  # two words, on purpose
  [ "$(count $table)" = "$total" ] || die "$table is not $total"
done
psql -X -q "$URL" -c 'drop table pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers'
pgbench --version

#!/bin/sh
# Is the file whole? `check.sh FILE` wants one line for each day, in order, with numbers in it; it tells what it saw in outputs.json.
set -eu
sleep "${PACE_SECONDS:-0}"
awk -F, '
  function problem(text) { print "line " NR ": " text > "/dev/stderr"; bad = 1; exit 1 }
  NR == 1 { if ($0 != "date,precipitation,temp_max,temp_min,wind,weather") problem("not the columns that are expected"); next }
  NF != 6 { problem(NF " columns instead of 6") }
  $1 <= last { problem($1 " does not come after " last) }
  $2 !~ /^[0-9.]+$/ || $3 !~ /^-?[0-9.]+$/ || $4 !~ /^-?[0-9.]+$/ { problem("not a number") }
  $4 + 0 > $3 + 0 { problem("the minimum is above the maximum") }
  { if (first == "") first = $1; last = $1; days++ }
  END {
    if (bad) exit 1
    gsub("/", "-", first); gsub("/", "-", last)
    printf "{\"days\": %d, \"first\": \"%s\", \"last\": \"%s\"}\n", days, first, last
  }' "$1" > "$RUNFOLD_OUTPUTS"
cat "$RUNFOLD_OUTPUTS"

#!/usr/bin/env bash
# The demo: a real pipeline over four years of weather, run live on this machine, and where to look afterwards.
# `make demo` calls it; it needs `runfold` and `python3` on the PATH. Each call adds a run to the demo's own home, which is
# `.runfold-demo/` beside `examples/` unless RUNFOLD_DEMO_HOME says otherwise; delete that directory to begin anew.
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$examples")
# Never the home that somebody works with.
export RUNFOLD_HOME=${RUNFOLD_DEMO_HOME:-$root/.runfold-demo}

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

# What people can copy: short where they are in the project's directory already.
home=$RUNFOLD_HOME
if [ "$PWD" = "$root" ]; then home=${home#"$root"/}; fi
runfold=runfold
case $(command -v runfold) in "$PWD"/.venv/bin/runfold) runfold=.venv/bin/runfold ;; esac

runfold register "$examples/weather/workflow.yaml"
echo
# Each job is slowed down to half a second, so that there is something to watch.
pace=${DEMO_PACE_SECONDS:-0.5}
runfold run seattle-weather --param "folder=$examples/weather" --param "pace_seconds=$pace" --wait

report=$(runfold results seattle-weather --json |
    python3 -c 'import json, sys; print(next(one["address"] for one in json.load(sys.stdin) if one["path"] == "report.html"))')

cat <<END

${bold}The report that this run made:${plain}
  $RUNFOLD_HOME/$report

${bold}Look around:${plain}
  export RUNFOLD_HOME=$home
  $runfold show seattle-weather                 every job and attempt; fetch needed two
  $runfold why seattle-weather all-quiet        why this job did not run
  $runfold logs seattle-weather fetch           what it wrote
  $runfold events seattle-weather               everything that happened, in order
  $runfold results seattle-weather              the files that it saved
  $runfold show seattle-weather --as-of 3       the run as it was after its third commit
  $runfold verify                               is the history whole?
END

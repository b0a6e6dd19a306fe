#!/bin/sh
# Waits for a container, as the work of one attempt:  sh container.sh GUARD NAME ENGINE run ... IMAGE ...
#
# The program `ENGINE run` only stands for the container. What it promises:
# * When that program is killed, the container goes on, and its exit code is the result all the same.
# * When the engine could not make a container at all (no image, no daemon), GUARD/problem.json says that it is not the job's fault.
#   GUARD/container, which the engine writes when there is a container, tells the two apart.
# * GUARD/answered is there when the exit code is the container's own; without it nobody knows whether the container lives.
# Names begin with rf_ because the environment is the job's.
rf_guard=$1 rf_name=$2 rf_engine=$3
shift 2

trap : TERM HUP INT QUIT

"$@"
rf_code=$?
if [ "$rf_code" -gt 128 ] && "$rf_engine" container inspect "$rf_name" >/dev/null 2>&1; then
    rf_answer=$("$rf_engine" wait "$rf_name" 2>/dev/null)
    case $rf_answer in '' | *[!0-9]*) exit "$rf_code" ;; *) rf_code=$rf_answer ;; esac
elif [ "$rf_code" = 125 ] && [ ! -s "$rf_guard/container" ]; then
    echo '{"failure": "infrastructure", "reason": "the container engine could not start the image; err says why"}' >"$rf_guard/problem.json"
fi
: >"$rf_guard/answered"
exit "$rf_code"

#!/usr/bin/env bash
# Makes the virtual environment named by $1 with a Python that is new enough and can make one. Keeps one that works.
set -euo pipefail

venv=$1
is_new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

if "$venv/bin/python" -c "$is_new_enough" 2>/dev/null && "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    exit 0
fi

# The machine's own python3 first: it is the one its owner keeps up to date.
found=
for python in python3 python3.13 python3.12 python3.11; do
    "$python" -c "$is_new_enough" 2>/dev/null || continue
    found=$python
    rm -rf "$venv"
    # Debian's python3 has venv but not always the ensurepip that fills it.
    if "$python" -c 'import ensurepip' 2>/dev/null && "$python" -m venv "$venv"; then
        exit 0
    fi
    rm -rf "$venv"
done

if [ -z "$found" ]; then
    echo "Runfold needs Python 3.11 or newer, and found none: install python3.11 (or newer) and run this again." >&2
else
    version=$("$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    echo "$found cannot make a virtual environment, because its ensurepip is missing." >&2
    echo "On Debian and Ubuntu: apt-get install python$version-venv     Then run this again." >&2
fi
exit 1

#!/bin/sh
# Runs one attempt's work at most once on this host, and leaves its exit code where anybody can find it later.
#
#   sh wrapper.sh -g GUARD [-d DIRECTORY] [-o OUT] [-e ERR] [-u USER] [-l PREFIX] [-w] -- PROGRAM [ARGUMENT...]
#   sh wrapper.sh -g GUARD ... -s STEPS -- HEADER ACTION COUNT PROGRAM [ARGUMENT...] HEADER ACTION COUNT ...
#
#   -g  directory named after the attempt's token, absolute; made when it is not there
#   -d  where the work starts; the guard when absent
#   -o  -e  files to which stdout and stderr are added; GUARD/out and GUARD/err when absent
#   -u  user to become (as root: runuser or su; otherwise sudo that asks no password and keeps the environment)
#   -l  copy the output to PREFIX.out and PREFIX.err when the work has ended
#   -w  when the work was delivered before and still runs: wait for its end
#   -s  so many steps, of COUNT words each: HEADER (when not empty) is written to OUT; ACTION `CONTINUE` goes on after a
#       failure, `prepare` never changes the user, anything else stops; the first failure is the result
#
# What it promises:
# * Work begins only after GUARD/pid was created by this process, exclusively. A second delivery runs nothing: it prints
#   `runfold: exit CODE` and exits with it, or prints `runfold: running` (status 75) or `runfold: unknown` (status 70).
# * GUARD/exit holds "CODE [why]" and is complete if and only if it ends with a newline.
# * GUARD/job exists before the work's program does: "K/STEPS PID", the step, of how many, and the process it will be
#   (1/0 without -s).
# * GUARD/stop, made by whoever wants an end before sending signals, keeps work that has not begun from beginning.
# * TERM, HUP, INT and QUIT reach the work through its process group and never end the wrapper.
# * Values are never pasted into shell text, and no pipe leads to whoever started this.
#
# Every line counts: this runs once for each job. Only builtins between start and the work: making the guard with mkdir,
# instead of creating a file exclusively inside it, would cost another millisecond. Names begin with rf_ because a variable
# that the job's environment also has would be changed for the job.

rf_guard='' rf_directory='' rf_out='' rf_err='' rf_user='' rf_copy='' rf_wait='' rf_steps=0
while [ $# -gt 0 ]; do
    case $1 in
    -g) rf_guard=$2 && shift 2 ;;
    -d) rf_directory=$2 && shift 2 ;;
    -o) rf_out=$2 && shift 2 ;;
    -e) rf_err=$2 && shift 2 ;;
    -u) rf_user=$2 && shift 2 ;;
    -l) rf_copy=$2 && shift 2 ;;
    -w) rf_wait=yes && shift ;;
    -s) rf_steps=$2 && shift 2 ;;
    --) shift && break ;;
    *) echo "runfold: the wrapper does not know the option $1" >&2 && exit 64 ;;
    esac
done
[ -n "$rf_guard" ] && [ $# -gt 0 ] || exit 64

# A trap with a command, unlike an ignored signal, is back to its default in the programs that are started.
trap : TERM HUP INT QUIT

rf_answer() {
    echo "runfold: exit $1"
    # SSM's agent takes 194 as a wish to reboot the host and run everything again.
    [ "$1" = 194 ] && exit 1
    exit "$1"
}

rf_end() { # CODE [WHY]
    [ -z "$rf_copy" ] || { cp -p "$rf_out" "$rf_copy.out" && cp -p "$rf_err" "$rf_copy.err"; }
    rf_tries=0
    # A full disk is often freed within minutes, and without this line nobody ever learns the code.
    until echo "$*" 2>/dev/null >"$rf_guard/exit" || [ "$rf_tries" -ge 300 ]; do
        rf_tries=$((rf_tries + 1))
        sleep 1
    done
    rf_answer "$1"
}

rf_launch() { # the words of this step, and of those after it; rf_count says how many are this step's
    (
        # Of $$ and /proc only the latter knows the number of a subshell; reading a file would go byte by byte.
        for rf_task in /proc/self/task/*; do :; done
        echo "$rf_step/$rf_steps ${rf_task##*/}" >"$rf_guard/job" || exit 73
        if [ "$rf_count" -lt $# ]; then
            rf_words='' rf_word=1
            while [ "$rf_word" -le "$rf_count" ]; do
                rf_words="$rf_words \"\${$rf_word}\"" rf_word=$((rf_word + 1))
            done
            # Only positions are evaluated, never a value.
            eval "set -- $rf_words"
        fi
        unset OLDPWD
        if [ -z "$rf_user" ] || [ "$rf_action" = prepare ]; then
            exec "$@"
        elif [ -w / ] && command -v runuser >/dev/null; then
            exec runuser -u "$rf_user" -- "$@"
        elif [ -w / ]; then
            exec su -s /bin/sh -c 'exec "$@"' -- "$rf_user" sh "$@"
        else
            exec sudo -n -E -u "$rf_user" -- "$@"
        fi
    ) </dev/null >>"$rf_out" 2>>"$rf_err"
}

[ -d "$rf_guard" ] || mkdir -p "$rf_guard" || exit 73
: "${rf_directory:=$rf_guard}" "${rf_out:=$rf_guard/out}" "${rf_err:=$rf_guard/err}"

set -C
if ! { echo "$$" >"$rf_guard/pid"; } 2>/dev/null; then
    [ -e "$rf_guard/pid" ] || exit 73
    rf_looks=0
    while :; do
        rf_code=''
        # The first may end between two looks; only a look at the code after one at the process is conclusive.
        rf_pid='' && read -r rf_pid <"$rf_guard/pid"
        rf_alive='' && [ -n "$rf_pid" ] && kill -0 "$rf_pid" 2>/dev/null && rf_alive=yes
        # shellcheck disable=SC2034  # the rest of the line must not end up in the code
        { read -r rf_code rf_why <"$rf_guard/exit"; } 2>/dev/null && rf_answer "$rf_code"
        # The first has made the file and is about to write its number.
        [ -n "$rf_pid" ] || [ "$rf_looks" -ge 5 ] || { rf_looks=$((rf_looks + 1)) && sleep 1 && continue; }
        [ -n "$rf_alive" ] || { echo "runfold: unknown" && exit 70; }
        [ -n "$rf_wait" ] || { echo "runfold: running" && exit 75; }
        sleep 1
    done
fi
set +C

cd "$rf_directory" 2>/dev/null || rf_end 126 "the working directory $rf_directory cannot be entered"

rf_step=0 rf_first=0
while [ $# -gt 0 ]; do
    [ -e "$rf_guard/stop" ] && rf_end 143 "stopped before it began"
    rf_step=$((rf_step + 1)) rf_action='' rf_count=$#
    if [ "$rf_steps" != 0 ]; then
        [ -z "$1" ] || printf '%s\n' "$1" >>"$rf_out"
        rf_action=$2 rf_count=$3
        shift 3
    fi
    rf_launch "$@"
    rf_code=$?
    if [ "$rf_code" -ne 0 ]; then
        # On a full disk the file is made, and stays empty.
        [ -s "$rf_guard/job" ] || rf_end 73 "no file can be written in $rf_guard"
        [ "$rf_first" -ne 0 ] || rf_first=$rf_code
        [ "$rf_action" = CONTINUE ] || break
    fi
    shift "$rf_count"
done
rf_end "$rf_first"

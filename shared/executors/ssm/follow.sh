# Appended to what is delivered: brings the files, starts the work apart from the agent, passes its output on and ends as it ended.
# Before it stand, quoted: rf_token, rf_g (the guard), rf_directory, rf_user, rf_copy, rf_inputs, rf_keep, rf_place, rf_several,
# the words in "$@", and the functions rf_write, rf_secrets and rf_exports.
rf_tell() { printf 'runfold %s %s\n' "$rf_token" "$1"; }
rf_problem() { # CLASS WORDS
    rf_tell "problem $1 $2"
    exit 69
}
mkdir -p "$rf_g/work" 2>/dev/null || rf_problem infrastructure "the guard directory $rf_g cannot be made"
: "${rf_directory:=$rf_g/work}"

rf_bring() {
    while IFS= read -r rf_kind && IFS= read -r rf_source && IFS= read -r rf_path && IFS= read -r rf_sum; do
        rf_file=$rf_directory/$rf_path
        mkdir -p "${rf_file%/*}" || rf_problem infrastructure "no directory can be made for the input $rf_path"
        case $rf_kind in
        content) printf %s "$rf_source" | base64 -d >"$rf_file.partial" || rf_problem infrastructure "the input $rf_path cannot be written" ;;
        s3)
            command -v aws >/dev/null || rf_problem infrastructure "the host has no \`aws\` command to bring the input $rf_path"
            if ! rf_why=$(aws s3 cp --only-show-errors "$rf_source" "$rf_file.partial" 2>&1); then
                rf_why=$(printf %s "$rf_why" | tr '\n' ' ')
                case $rf_why in
                *"(404)"* | *"(403)"* | *NoSuch* | *AccessDenied*) rf_problem user "input $rf_path: $rf_source: $rf_why" ;;
                *) rf_problem infrastructure "input $rf_path: $rf_source: $rf_why" ;;
                esac
            fi
            ;;
        *)
            command -v curl >/dev/null || rf_problem infrastructure "the host has no \`curl\` command to bring the input $rf_path"
            rf_code=$(curl -sSL --globoff --proto =http,https --connect-timeout 30 --max-time 900 -o "$rf_file.partial" -w '%{http_code}' -- "$rf_source") || rf_problem infrastructure "input $rf_path: the server cannot be reached"
            case $rf_code in
            2*) ;;
            408 | 425 | 429 | 5*) rf_problem infrastructure "input $rf_path: the server answered $rf_code" ;;
            *) rf_problem user "input $rf_path: the server answered $rf_code" ;;
            esac
            ;;
        esac
        if [ -n "$rf_sum" ]; then
            rf_is=$(sha256sum <"$rf_file.partial") && rf_is=${rf_is%% *}
            [ "$rf_is" = "$rf_sum" ] || rf_problem user "input $rf_path: its SHA-256 is $rf_is, not $rf_sum"
        fi
        [ "$(head -c 2 "$rf_file.partial")" = '#!' ] && chmod 755 "$rf_file.partial"
        mv "$rf_file.partial" "$rf_file"
    done
}

if [ ! -e "$rf_g/pid" ] && [ ! -e "$rf_g/stop" ]; then
    [ -z "$rf_inputs" ] || printf %s "$rf_inputs" | rf_bring || exit 69
    rf_write
    # Values of secrets are fetched here, so that Systems Manager's history never holds them.
    rf_secrets
    [ -z "$rf_user" ] || chown -R "$rf_user" "$rf_g/work" || rf_problem infrastructure "the host has no user $rf_user"
    # A session of its own: an agent that restarts, or is told to cancel, ends this script and not the work.
    rf_s=$(command -v setsid)
    rf_sh=$(command -v sh)
    # The job's variables are set in here alone: one of them may be PATH.
    (
        rf_exports
        export RUNFOLD_OUTPUTS="$rf_g/work/outputs.json"
        exec $rf_s "$rf_sh" "$rf_g/wrapper.sh" -g "$rf_g" -d "$rf_directory" -o "$rf_g/out" -e "$rf_g/err" \
            ${rf_user:+-u "$rf_user"} ${rf_copy:+-l "$rf_copy/$rf_token"} -- "$@"
    ) </dev/null >/dev/null 2>&1 &
    rf_i=0
    until [ -e "$rf_g/pid" ] || [ "$rf_i" -ge 100 ]; do sleep 0.1 2>/dev/null || sleep 1; rf_i=$((rf_i + 1)); done
    # The heartbeat, in a session of its own as well: after a reboot another process may have the number.
    # shellcheck disable=SC2016  # the other shell expands it
    [ ! -e "$rf_g/pid" ] || $rf_s "$rf_sh" -c 'read -r rf_p <"$0/pid" || { sleep 1 && read -r rf_p <"$0/pid"; }
    while [ ! -s "$0/exit" ] && kill -0 "$rf_p"; do
        date +%s >"$0/beat"
        sleep 5
    done' "$rf_g" </dev/null >/dev/null 2>&1 &
fi

# The output so far and then what is new, also for a second delivery; the look at the code comes before the last look at the output.
rf_o=0 rf_e=0 rf_i=0
while :; do
    rf_end='' rf_code='' rf_why='' rf_pid=''
    { read -r rf_pid <"$rf_g/pid"; } 2>/dev/null
    rf_alive='' && [ -n "$rf_pid" ] && kill -0 "$rf_pid" 2>/dev/null && { [ "$rf_i" -lt 20 ] || rf_beats; } && rf_alive=yes
    { read -r rf_code rf_why <"$rf_g/exit"; } 2>/dev/null && rf_end=yes
    rf_n=$(wc -c <"$rf_g/out" 2>/dev/null || echo 0)
    [ "$rf_n" -le "$rf_o" ] || { tail -c +$((rf_o + 1)) "$rf_g/out" | head -c $((rf_n - rf_o)) && rf_o=$rf_n; }
    rf_n=$(wc -c <"$rf_g/err" 2>/dev/null || echo 0)
    [ "$rf_n" -le "$rf_e" ] || { tail -c +$((rf_e + 1)) "$rf_g/err" | head -c $((rf_n - rf_e)) >&2 && rf_e=$rf_n; }
    [ -z "$rf_end" ] || break
    if [ -z "$rf_alive" ]; then
        [ -n "$rf_pid" ] && rf_tell unknown && exit 70
        [ -e "$rf_g/stop" ] && rf_tell "exit 143 stopped before it began" && exit 143
        rf_problem infrastructure "the work did not begin on the host"
    fi
    rf_i=$((rf_i + 1))
    { [ "$rf_i" -lt 20 ] && sleep 0.05 2>/dev/null; } || sleep 1
done

# Job output need not end with a line break.
echo
if [ "$rf_code" = 0 ] && [ -n "$rf_keep" ]; then
    while IFS= read -r rf_path; do
        rf_path=${rf_path#[?!]}
        rf_real=$(realpath -- "$rf_directory/$rf_path" 2>/dev/null) || continue
        # A link may lead anywhere.
        case $rf_real in "$(realpath -- "$rf_directory")"/*) ;; *) continue ;; esac
        [ -f "$rf_real" ] || continue
        command -v aws >/dev/null || rf_problem infrastructure "the host has no \`aws\` command to keep the output $rf_path"
        rf_to=$rf_place/${AWS_SSM_INSTANCE_ID:-host}/$rf_path
        [ -n "$rf_several" ] || rf_to=$rf_place/$rf_path
        aws s3 cp --only-show-errors "$rf_real" "$rf_to" || rf_problem infrastructure "the output $rf_path cannot be kept"
        rf_tell "found $rf_path"
    done <<RF_END
$rf_keep
RF_END
fi
if [ -f "$rf_g/work/outputs.json" ] && [ ! -L "$rf_g/work/outputs.json" ]; then
    rf_tell "outputs $(head -c 65537 "$rf_g/work/outputs.json" | base64 | tr -d '\n')"
fi
rf_tell "exit $rf_code $rf_why"
# The agent takes 194 as a wish to reboot the host and run everything again.
[ "$rf_code" = 194 ] && exit 1
exit "$rf_code"

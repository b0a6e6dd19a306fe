# Asks an attempt on this host to end, and ends it after rf_grace seconds. What was not delivered yet will never begin.
rf_pid=''
mkdir -p "$rf_g" && : >"$rf_g/stop" || exit 1
{ read -r rf_pid <"$rf_g/pid"; } 2>/dev/null || exit 0
[ -s "$rf_g/exit" ] && exit 0
rf_pids() { # the wrapper's session, wherever its processes have gone to
    ps -e -o pid= -o sess= 2>/dev/null | while read -r rf_p rf_s; do [ "$rf_s" != "$rf_pid" ] || echo "$rf_p"; done
}
# shellcheck disable=SC2046  # a list
kill -TERM "-$rf_pid" $(rf_pids) 2>/dev/null
(
    rf_i=0
    while [ "$rf_i" -lt "$rf_grace" ] && [ ! -s "$rf_g/exit" ]; do sleep 1 && rf_i=$((rf_i + 1)); done
    rf_left=$(rf_pids)
    # shellcheck disable=SC2086  # a list
    kill -KILL "-$rf_pid" $rf_left 2>/dev/null
    [ -s "$rf_g/exit" ] || echo "137 killed after the grace" >"$rf_g/exit"
) </dev/null >/dev/null 2>&1 &
exit 0

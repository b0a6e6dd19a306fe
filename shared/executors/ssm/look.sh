# What became of an attempt on this host, for whoever does not know whether it was delivered. What has not begun never will: only
# then does finding nothing prove anything.
rf_pid='' rf_code=''
mkdir -p "$rf_g" && { [ -e "$rf_g/pid" ] || : >"$rf_g/stop"; } || exit 1
{ read -r rf_pid <"$rf_g/pid"; } 2>/dev/null
rf_state=nothing
[ -z "$rf_pid" ] || { rf_state=unknown && kill -0 "$rf_pid" 2>/dev/null && rf_beats && rf_state=running; }
{ read -r rf_code rf_why <"$rf_g/exit"; } 2>/dev/null && rf_state="exit $rf_code $rf_why"
if [ -n "$rf_code" ] && [ -f "$rf_g/work/outputs.json" ] && [ ! -L "$rf_g/work/outputs.json" ]; then
    printf 'runfold %s outputs %s\n' "$rf_token" "$(head -c 65537 "$rf_g/work/outputs.json" | base64 | tr -d '\n')"
fi
printf 'runfold %s %s\n' "$rf_token" "$rf_state"

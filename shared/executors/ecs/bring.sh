# Runs before the job's own container, in an image with the AWS command: brings the inputs into the shared directory $1.
# Four lines for each input: kind, source, path, SHA-256. Ends with 66 for what will be wrong again, 69 for what may pass.
work=$1
mkdir -p "$work" && chmod 0777 "$work" || exit 69
if [ -n "${RUNFOLD_INPUTS_AT:-}" ]; then
    aws s3 cp --only-show-errors "$RUNFOLD_INPUTS_AT" "$work/.inputs" || exit 69
else
    printf %s "${RUNFOLD_INPUTS:-}" >"$work/.inputs" || exit 69
fi
while IFS= read -r kind && IFS= read -r source && IFS= read -r path && IFS= read -r sum; do
    file=$work/$path
    # The job may run as anybody, and may want to write beside its inputs.
    (umask 0 && mkdir -p "${file%/*}") || exit 69
    case $kind in
    content) printf %s "$source" | base64 -d >"$file.partial" || exit 69 ;;
    s3)
        if ! why=$(aws s3 cp --only-show-errors "$source" "$file.partial" 2>&1); then
            echo "runfold: input $path: $source: $why" >&2
            case $why in *"(404)"* | *"(403)"* | *NoSuch* | *AccessDenied*) exit 66 ;; *) exit 69 ;; esac
        fi
        ;;
    url)
        code=$(curl -sSL --globoff --proto =http,https --connect-timeout 30 --max-time 900 -o "$file.partial" -w '%{http_code}' -- "$source") || exit 69
        case $code in
        2*) ;;
        408 | 425 | 429 | 5*) echo "runfold: input $path: the server answered $code" >&2 && exit 69 ;;
        *) echo "runfold: input $path: the server answered $code" >&2 && exit 66 ;;
        esac
        ;;
    *) exit 66 ;;
    esac
    if [ -n "$sum" ]; then
        is=$(sha256sum <"$file.partial") && is=${is%% *}
        [ "$is" = "$sum" ] || { echo "runfold: input $path: its SHA-256 is $is, not $sum" >&2 && exit 66; }
    fi
    mode=0666
    [ "$(head -c 2 "$file.partial")" = '#!' ] && mode=0777
    chmod "$mode" "$file.partial" && mv "$file.partial" "$file" || exit 69
done <"$work/.inputs"
rm -f "$work/.inputs"

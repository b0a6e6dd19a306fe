# Runs after the job's own container has ended, in an image with the AWS command: keeps outputs.json and the declared outputs of
# the shared directory $1. One path to a line in RUNFOLD_KEEP, behind `?` when it may be missing and `!` when not. Ends with 0
# when there is nothing to tell, 64 when `result` was written, 69 when that was not possible. What is missing is simply not named in the result.
work=$1
result=
while IFS= read -r path; do
    [ -n "$path" ] || continue
    path=${path#[?!]}
    real=$(realpath -- "$work/$path" 2>/dev/null) || continue
    # A link may lead anywhere.
    case $real in "$(realpath -- "$work")"/*) ;; *) continue ;; esac
    [ -f "$real" ] || continue
    aws s3 cp --only-show-errors "$real" "$RUNFOLD_WORKSPACE/files/$path" || exit 69
    result="${result}found $path
"
done <<END
${RUNFOLD_KEEP:-}
END
outputs=
[ -f "$work/outputs.json" ] && [ ! -L "$work/outputs.json" ] && outputs=yes
[ -n "$outputs" ] || [ -n "${RUNFOLD_KEEP:-}" ] || exit 0
{
    printf 'kept\n%s\n' "$result"
    # One byte more than is allowed shows that there was more.
    [ -z "$outputs" ] || head -c 65537 "$work/outputs.json"
} >"$work/.result" || exit 69
aws s3 cp --only-show-errors "$work/.result" "$RUNFOLD_WORKSPACE/result" || exit 69
exit 64

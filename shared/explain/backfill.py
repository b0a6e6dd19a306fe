"""What a backfill is waiting for, and what a run says of the backfill that it is a part of."""

from shared.explain.conditions import Condition, by_whom, count_of, time_of
from shared.state.backfill import BackfillState
from shared.state.run import Run


def waits_for(state: BackfillState) -> str:
    """Why it begins no run right now; empty when it is about to, or has finished."""
    active = count_of(len(state.active), "run")
    if state.outcome is not None:
        return ""
    if state.cancel is not None:
        return f"It was cancelled{by_whom(state.cancel.by)} and waits for the end of {active}."
    if state.pause is not None:
        return f"It was paused{by_whom(state.pause.by)} at {time_of(state.pause.at)}: `runfold backfill {state.backfill} --resume`."
    if len(state.active) >= state.request.max_active:
        return f"{active} of it {'is' if len(state.active) == 1 else 'are'} active, and no more may be at once."
    return ""


def part_of_backfill(run: Run) -> list[Condition]:
    """Which backfill asked for the run, and where its others are; nothing for a run of no backfill."""
    backfill = run.request.backfill
    if backfill is None:
        return []
    text = (
        f"It is a part of the backfill {backfill}, which counts its active runs by itself: "
        "limits of the workflow on active runs do not hold it up."
    )
    return [Condition("part_of_backfill", run.run, text, run.requested_at, clears=f"runfold backfill {backfill}")]

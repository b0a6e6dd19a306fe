"""Why is this not running? Every unmet condition of a job or a run, since when it is unmet, and what will clear it.

Explains from states alone, so the same question can be asked of any past instant: fold the streams up to then and pass that
instant as `now`. Pure, and linear in the size of the run; what is listed is bounded.
"""

from shared.explain.children import with_children
from shared.explain.conditions import Code, Condition
from shared.explain.job import why_job
from shared.explain.pool import pools_of
from shared.explain.run import why_run

__all__ = ["Code", "Condition", "pools_of", "why_job", "why_run", "with_children"]

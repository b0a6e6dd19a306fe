"""Bugs in what waits for others: runs that are jobs of other runs, and decisions of people."""

from tests.mutants.mutant import Mutant

_CHILDREN = ("tests/rules/test_children.py",)
_APPROVALS = ("tests/rules/test_approvals.py",)
_EFFECTS = "shared/effects.py"
_CHILD_RUNS = "shared/usecases/children.py"

WAITING = (
    Mutant(
        "end-of-a-child-not-told",
        _EFFECTS,
        """    effects.extend(_told_to_parent(run.run, run.request.parent))
    return effects
""",
        """    return effects
""",
        _CHILDREN,
    ),
    Mutant(
        "child-never-says-that-it-is-there",
        _EFFECTS,
        "    if run.round == 1:\n",
        "    if run.round == 1 and run.finished:\n",
        _CHILDREN,
    ),
    Mutant(
        "dropped-child-not-told",
        _EFFECTS,
        "                effects.extend(_told_to_parent(event.run, event.parent))\n            case _:\n                pass\n    return effects\n",
        "                pass\n            case _:\n                pass\n    return effects\n",
        _CHILDREN,
    ),
    Mutant(
        "child-done-again-is-cancelled",
        _CHILD_RUNS,
        "if found.outcome is None and (found.round == 1 or self._is_open(reference)):",
        "if found.outcome is None:",
        _CHILDREN,
    ),
    Mutant(
        "held-child-taken-for-dropped",
        _CHILD_RUNS,
        "if isinstance(workflow, WorkflowState) and workflow.knows(child):",
        "if isinstance(workflow, WorkflowState) and child in workflow.holders:",
        _CHILDREN,
    ),
    Mutant(
        "one-child-too-deep",
        _CHILD_RUNS,
        "if above >= DEPTH_MAX:",
        "if above > DEPTH_MAX:",
        _CHILDREN,
    ),
    Mutant(
        "anybody-approves",
        "shared/decide/approvals.py",
        "elif name and name == approver:",
        "elif name:",
        _APPROVALS,
    ),
    Mutant(
        "marked-instead-of-approved",
        "shared/decide/run.py",
        'if isinstance(document_job, ApprovalJob) and command.outcome == "succeeded":',
        'if isinstance(document_job, ApprovalJob) and command.outcome == "succeeded" and isinstance(phase, Done):',
        _APPROVALS,
    ),
    Mutant(
        "approved-after-its-time",
        "shared/decide/run.py",
        "case Asking(expires_at=until) if until is not None and until <= draft.now:",
        "case Asking(expires_at=until) if until is not None and until < draft.now:",
        _APPROVALS,
    ),
)

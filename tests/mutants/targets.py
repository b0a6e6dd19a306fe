"""Bugs in the executors, and in what they bring to hosts."""

from tests.mutants.mutant import Mutant

_ECS = "shared/executors/ecs/executor.py"
_EMR = "shared/executors/emr.py"
_SSM = "shared/executors/ssm/executor.py"
_SEARCH = "shared/executors/search.py"
_PROCESS = "shared/executors/process/executor.py"

_ECS_TESTS = ("tests/contract/test_executor_aws_ecs.py",)
_ECS_EVENTS = ("tests/contract/test_executor_aws_ecs_events.py",)
_EMR_TESTS = ("tests/contract/test_executor_aws_emr.py",)
_EMR_STEPS = ("tests/contract/test_executor_aws_emr_steps.py",)
_ERRORS = ("tests/contract/test_executor_aws_errors.py",)
_SSM_TESTS = ("tests/contract/test_executor_aws_ssm.py",)
_SSM_TEXTS = ("tests/contract/test_executor_aws_ssm_texts.py",)
_SSM_TOLD = ("tests/contract/test_executor_aws_ssm_told.py",)
_EVIDENCE = ("tests/contract/test_process_evidence.py",)
_PROCESS_TESTS = ("tests/contract/test_executor_process.py",)

TARGETS = (
    Mutant(
        "ecs-sidecars-exit-code",
        _ECS,
        """        code = main.get("exitCode") if main is not None else None
        kept =""",
        """        code = max((one.get("exitCode") or 0 for one in task.get("containers") or ()), default=None)
        kept =""",
        _ECS_TESTS,
    ),
    Mutant(
        "ecs-token-not-sent",
        _ECS,
        "                clientToken=request.token,\n",
        "",
        _ECS_TESTS,
    ),
    Mutant(
        "ecs-no-room-is-refused",
        _ECS,
        """_NO_ROOM = ("RESOURCE:", "AGENT",""",
        """_NO_ROOM = ("AGENT",""",
        _ECS_TESTS,
    ),
    Mutant(
        "ecs-missing-is-lost",
        _ECS,
        """yield _report(reference, "missing", handle=reference.handle)""",
        """yield _report(reference, "unknown", handle=reference.handle)""",
        _ECS_TESTS,
    ),
    Mutant(
        "ecs-no-exit-code-is-success",
        _ECS,
        "if code == 0 and kept in (0, _RESULT_WRITTEN):",
        "if not code and kept in (0, _RESULT_WRITTEN):",
        _ECS_TESTS,
    ),
    Mutant(
        "ecs-event-is-the-truth",
        _ECS,
        """if _ended(task) and (main is None or main.get("exitCode") is None):""",
        """if _ended(task) and main is None:""",
        _ECS_EVENTS,
    ),
    Mutant(
        "ecs-spot-burns-attempts",
        _ECS,
        """return "failed", "infrastructure", f"spot capacity was taken back: {words}\"""",
        """return "failed", "user", f"spot capacity was taken back: {words}\"""",
        _ECS_TESTS,
    ),
    Mutant(
        "ecs-ended-not-found",
        _ECS,
        "arn = found[0] if found else self._ended_of(reference, cluster, search)",
        "arn = found[0] if found else None",
        _ECS_TESTS,
    ),
    Mutant(
        "ecs-foreign-task-believed",
        _ECS,
        """    if token != task.get("startedBy"):
        return None
""",
        "",
        _ECS_EVENTS,
    ),
    Mutant(
        "emr-cancel-believed",
        _EMR,
        """_ENDED_STEPS = ("COMPLETED", "CANCELLED",""",
        """_ENDED_STEPS = ("COMPLETED", "CANCEL_PENDING", "CANCELLED",""",
        _EMR_STEPS,
    ),
    Mutant(
        "emr-cluster-gone-unseen",
        _EMR,
        """gone = cluster_status.get("State") in _ENDED_CLUSTERS
""",
        """gone = cluster_status.get("State") in _ENDED_CLUSTERS and not ids
""",
        _EMR_STEPS,
    ),
    Mutant(
        "emr-end-raced",
        _EMR,
        """                # The steps may have ended after they were listed, and the cluster with them.
                steps = self._steps_of(cluster, ids)
""",
        """                pass
""",
        _EMR_STEPS,
    ),
    Mutant(
        "emr-sends-after-its-time",
        _EMR,
        "if request.send_before is not None and self._now() > request.send_before - timedelta(seconds=ANSWER_SECONDS):",
        "if request.send_before is not None and self._now() > request.send_before + timedelta(seconds=ANSWER_SECONDS):",
        _EMR_STEPS,
    ),
    Mutant(
        "server-error-is-refusal",
        "shared/executors/aws.py",
        """if code in _SERVER or int(facts.get("HTTPStatusCode", 500)) >= 500:""",
        """if code in _SERVER:""",
        _ERRORS,
    ),
    Mutant(
        "search-without-skew",
        _SEARCH,
        "after = reference.asked_from - SKEW if reference.asked_from is not None",
        "after = reference.asked_from if reference.asked_from is not None",
        _ERRORS,
    ),
    Mutant(
        "bounded-search-found-nothing",
        _SEARCH,
        """raise CutShort(f"more than {PAGES_MAX} pages of {key} would have to be looked through")""",
        """return""",
        (*_EMR_TESTS, *_SSM_TESTS),
    ),
    Mutant(
        "ssm-194-reboots",
        "shared/executors/ssm/follow.sh",
        """[ "$rf_code" = 194 ] && exit 1
""",
        "",
        _SSM_TEXTS,
    ),
    Mutant(
        "guard-not-exclusive",
        "shared/executors/wrapper.sh",
        "set -C\nif ! {",
        "if ! {",
        ("tests/engine/test_wrapper.py", *_SSM_TESTS),
    ),
    Mutant(
        "ssm-undelivered-is-failed",
        _SSM,
        """if details == "Undeliverable" or details == "Terminated":""",
        """if details in ("Undeliverable", "Terminated", "DeliveryTimedOut"):""",
        _SSM_TESTS,
    ),
    Mutant(
        "ssm-stop-leaves-no-mark",
        "shared/executors/ssm/stop.sh",
        """mkdir -p "$rf_g" && : >"$rf_g/stop" || exit 1""",
        """mkdir -p "$rf_g" || exit 1""",
        _SSM_TEXTS,
    ),
    Mutant(
        "ssm-look-forbids-nothing",
        "shared/executors/ssm/look.sh",
        """mkdir -p "$rf_g" && { [ -e "$rf_g/pid" ] || : >"$rf_g/stop"; } || exit 1""",
        """mkdir -p "$rf_g" || exit 1""",
        _SSM_TEXTS,
    ),
    Mutant(
        "ssm-first-host-decides",
        _SSM,
        "if len(each) < count or not each:",
        "if not each:",
        _SSM_TOLD,
    ),
    Mutant(
        "ssm-printed-success-believed",
        _SSM,
        """        if told.code == 0 and status == "Failed":
            return None
""",
        "",
        _SSM_TOLD,
    ),
    Mutant(
        "ssm-long-output-has-no-end",
        _SSM,
        "if len(output) < OUTPUT_SHOWN:",
        "if len(output) <= OUTPUT_SHOWN + 100:",
        _SSM_TOLD,
    ),
    Mutant(
        "half-an-exit-code",
        "shared/executors/process/evidence.py",
        """if found is None or not found[0].endswith(b"\\n"):
        return None
    code""",
        """if found is None:
        return None
    code""",
        _EVIDENCE,
    ),
    Mutant(
        "process-doubt-is-idle",
        _PROCESS,
        """return _Look("gone") if at < system.booted_at() else _Look("idle", stale=True)""",
        """return _Look("idle", stale=True)""",
        _PROCESS_TESTS,
    ),
    Mutant(
        "process-cancel-after-end",
        _PROCESS,
        "if stop is not None and look.end.at >= stop[0]:",
        "if stop is not None:",
        _EVIDENCE,
    ),
    Mutant(
        "process-number-reused",
        "shared/executors/process/system.py",
        """return b"-g" in words and os.fsencode(guard) in words""",
        """return b"-g" in words""",
        _EVIDENCE,
    ),
)

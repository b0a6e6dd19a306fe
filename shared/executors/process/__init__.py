"""One machine as a target: jobs of all three types as real processes. `executor.py` says how an engine uses it."""

from shared.executors.process.evidence import OUTPUTS_BYTES_MAX
from shared.executors.process.executor import WRAPPER, Attempt, ProcessExecutor, wrapper_argv
from shared.executors.process.logs import LogLine, LogPage
from shared.executors.process.plan import HostSettings, Step
from shared.executors.process.system import become_subreaper

__all__ = [
    "OUTPUTS_BYTES_MAX",
    "WRAPPER",
    "Attempt",
    "HostSettings",
    "LogLine",
    "LogPage",
    "ProcessExecutor",
    "Step",
    "become_subreaper",
    "wrapper_argv",
]

"""Scripts on managed hosts, through Systems Manager's Run Command."""

from shared.executors.ssm.executor import SsmExecutor
from shared.executors.ssm.script import SsmHost, SsmSettings

__all__ = ["SsmExecutor", "SsmHost", "SsmSettings"]

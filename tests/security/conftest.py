"""The deployed engine's parts on moto, the API over a home, and the command, as those folders have them."""

from tests.cli.conftest import runfold
from tests.functions.conftest import deployed

__all__ = ["deployed", "runfold"]

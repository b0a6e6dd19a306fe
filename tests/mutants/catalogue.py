"""All deliberate bugs."""

from tests.mutants.backfills import BACKFILLS
from tests.mutants.fan_out import FAN_OUT
from tests.mutants.mutant import Mutant
from tests.mutants.rules import DECIDE, STATE
from tests.mutants.stores import STORES
from tests.mutants.targets import TARGETS
from tests.mutants.triggers import TRIGGERS
from tests.mutants.usecases import ADMISSION, DISPATCH, DOORWAYS, SWEEP, TRANSACT, VIEWS
from tests.mutants.waiting import WAITING
from tests.mutants.waits import WAITS

MUTANTS: tuple[Mutant, ...] = (
    *DECIDE,
    *STATE,
    *TRANSACT,
    *SWEEP,
    *VIEWS,
    *STORES,
    *DISPATCH,
    *ADMISSION,
    *DOORWAYS,
    *TARGETS,
    *WAITS,
    *FAN_OUT,
    *BACKFILLS,
    *WAITING,
    *TRIGGERS,
)

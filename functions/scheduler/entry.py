"""What Lambda imports: the scheduler's handler on AWS's adapters."""

import os

from functions.scheduler.handler import make_handler
from shared.bootstrap.aws import Aws
from shared.settings import Settings

_aws = Aws(Settings.read(os.environ))
handler = make_handler(_aws.sweep, lambda: len(_aws.sweep.refused), _aws.admission.tick)

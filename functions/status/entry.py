"""What Lambda imports: the status handler on AWS's adapters."""

import os

from functions.status.handler import make_handler
from shared.bootstrap.aws import Aws
from shared.settings import Settings

_aws = Aws(Settings.read(os.environ))
handler = make_handler(_aws.events, _aws.work.record, _aws.effects, side_by_side=_aws.side_by_side)

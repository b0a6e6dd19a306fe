"""What Lambda imports: the dispatch handler on AWS's adapters."""

import os

from functions.dispatch.handler import make_handler
from shared.bootstrap.aws import Aws
from shared.settings import Settings

_aws = Aws(Settings.read(os.environ))
handler = make_handler(_aws.work, _aws.effects)

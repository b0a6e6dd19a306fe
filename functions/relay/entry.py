"""What Lambda imports: the relay on AWS's adapters."""

import os

from functions.relay.handler import make_handler
from shared.bootstrap.aws import Aws
from shared.settings import Settings

_aws = Aws(Settings.read(os.environ))
handler = make_handler(_aws.reader, _aws.settle, _aws.is_awaited)

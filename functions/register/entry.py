"""What Lambda imports: registration on AWS's adapters."""

import os

from functions.register.handler import make_handler
from shared.bootstrap.aws import Aws
from shared.settings import Settings

_aws = Aws(Settings.read(os.environ))
handler = make_handler(_aws.uploads, _aws.control)

"""The doorways on AWS: each handler parses, calls one use case and answers."""

import gc
import os

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Importing makes some hundred thousand objects that live for ever, and looking for garbage among them again and again takes an eighth of
    # a cold start. A handler makes few cycles and its process is short-lived, so it may look more rarely afterwards as well.
    gc.set_threshold(50_000, 20, 50)

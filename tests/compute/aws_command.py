"""The little of the `aws` command that jobs' helpers use: `s3 cp` of one file, and secrets. It imports only what Python brings, so
that a container's start stays quick; requests are signed, because an emulator may check."""

import datetime
import hashlib
import hmac
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit


def signed(method: str, url: str, service: str, body: bytes, headers: Mapping[str, str]) -> urllib.request.Request:
    parts = urlsplit(url)
    now = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    region = os.environ.get("AWS_DEFAULT_REGION", "eu-central-1")
    digest = hashlib.sha256(body).hexdigest()
    headers = {**headers, "host": parts.netloc, "x-amz-date": now, "x-amz-content-sha256": digest}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    canonical = f"{method}\n{parts.path}\n{parts.query}\n{lines}\n{names}\n{digest}"
    scope = f"{now[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = ("AWS4" + os.environ.get("AWS_SECRET_ACCESS_KEY", "testing")).encode()
    for part in (now[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = os.environ.get("AWS_ACCESS_KEY_ID", "testing")
    headers["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credential}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return urllib.request.Request(url, data=body or None, method=method, headers=headers)


def s3(method: str, address: str, body: bytes = b"") -> bytes:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    base = os.environ["AWS_ENDPOINT_URL_S3"].rstrip("/")
    # S3 wants everything but the unreserved characters escaped, in the address and in what is signed.
    url = f"{base}/{bucket}/{quote(key, safe='/-_.~')}"
    headers = {"content-type": "application/octet-stream"} if method == "PUT" else {}
    with urllib.request.urlopen(signed(method, url, "s3", body, headers), timeout=60) as answer:
        data: bytes = answer.read()
    return data


def secret(service: str, target: str, body: dict[str, Any], *keys: str) -> str:
    base = os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ["AWS_ENDPOINT_URL"]
    headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
    request = signed("POST", base.rstrip("/") + "/", service.lower(), json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        value = json.loads(answer.read())
    for key in keys:
        value = value[key]
    return str(value)


def main(words: list[str]) -> int:
    named = {words[i]: words[i + 1] for i in range(len(words) - 1) if words[i].startswith("--")}
    try:
        if words[:2] == ["s3", "cp"]:
            source, target = [word for word in words[2:] if not word.startswith("--")]
            if source.startswith("s3://"):
                Path(target).write_bytes(s3("GET", source))
            else:
                s3("PUT", target, Path(source).read_bytes())
        elif words[:2] == ["secretsmanager", "get-secret-value"]:
            wanted = {"SecretId": named["--secret-id"]}
            print(secret("SECRETS_MANAGER", "secretsmanager.GetSecretValue", wanted, "SecretString"))
        elif words[:2] == ["ssm", "get-parameter"]:
            body: dict[str, Any] = {"Name": named["--name"], "WithDecryption": True}
            print(secret("SSM", "AmazonSSM.GetParameter", body, "Parameter", "Value"))
        else:
            sys.exit(f"the stand-in for aws does not know {words[:2]}")
    except urllib.error.HTTPError as error:
        print(
            f"fatal error: An error occurred ({error.code}) when calling the operation: {error.reason}", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

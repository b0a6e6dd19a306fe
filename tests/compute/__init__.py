"""A stand-in for the compute services of AWS: ECS, EMR and SSM over real HTTP, as boto3 speaks it, running real processes.

`Compute` starts it in this process, `python -m tests.compute --port 4599` as one of its own. Clients reach it through
`AWS_ENDPOINT_URL_ECS`, `_EMR` and `_SSM` (and `_S3`, for tests that have no other). It honours tokens, forgets, is eventually
consistent and fails as the real services do, on demand: see `tests.compute.faults`.
"""

from tests.compute.faults import Faults
from tests.compute.server import Compute

__all__ = ["Compute", "Faults"]

"""AWS's side of the targets, as far as clients of boto3 show it: models in simulated time, with what AWS does not promise."""

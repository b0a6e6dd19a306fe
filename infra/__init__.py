"""The deployment on AWS: one stack, one construct a file. Only this folder knows the CDK, and nothing else imports it."""

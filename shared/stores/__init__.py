"""Where things are kept: one adapter a port and place (memory, one SQLite file, DynamoDB and S3, a directory)."""

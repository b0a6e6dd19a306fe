"""S3 uploads become registered workflows."""

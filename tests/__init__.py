"""What Runfold promises, as sentences that can be run."""

"""What events add up to: pure folds of runs, workflows and uploads."""

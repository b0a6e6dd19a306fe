"""The runfold command: translates words on a terminal into commands and state into something to read."""

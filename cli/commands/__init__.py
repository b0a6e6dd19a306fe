"""The commands, a module for each thing that people do; each is imported when it is called."""

"""The command line: one file for each verb, and one adapter that alone touches Hydra."""

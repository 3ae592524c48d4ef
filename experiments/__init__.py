"""The kinds of experiment: each module is one time loop, read from top to bottom like the methods of a paper."""

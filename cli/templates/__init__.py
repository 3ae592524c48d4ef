"""Templates of `tracetorch new`: each kind of part with its YAML and its test; `own_part` stands for the name."""

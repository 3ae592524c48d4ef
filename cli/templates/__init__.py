"""Files that `tracetorch new` writes: each kind of part with its YAML and its test; `own_part` stands for the name."""

"""`python -m tracetorch`: the command `tracetorch`, started by the interpreter."""

from tracetorch.cli.main import main

if __name__ == "__main__":  # processes of joblib import this file, too
    main()

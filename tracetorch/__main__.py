"""`python -m tracetorch`: the command, where only an interpreter is at hand."""

from tracetorch.cli.main import main

if __name__ == "__main__":  # processes of joblib import this file, too
    main()

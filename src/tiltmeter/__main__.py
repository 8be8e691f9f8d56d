"""`python -m tiltmeter` is the command line."""

from tiltmeter.cli.commands import main

if __name__ == "__main__":
    main()

"""`python -m codechoir`, which launchers of several processes start."""

from codechoir.cli.main import main

if __name__ == "__main__":
    main()

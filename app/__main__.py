"""`python -m app`: operators' commands."""

from app.cli import main

if __name__ == "__main__":
    main()

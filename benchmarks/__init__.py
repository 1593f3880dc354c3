"""What this project claims about itself, measured: each folder is run by one command."""

"""A detection on another computer: what may be asked for, what is sent, and the client. Standard library only."""

"""Tables, figures, claims and one page, from finished rows only."""

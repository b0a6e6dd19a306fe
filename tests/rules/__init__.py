"""The pure rules: what was, what is asked, what follows."""

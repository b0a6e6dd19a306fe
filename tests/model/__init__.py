"""Small models of what goes on between processes, explored exhaustively; `docs/model.md` says what they prove."""
